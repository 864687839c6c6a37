// Curves with axes. Lines are told apart by colour and by dashes; what is under the pointer, or the
// last value, stands in the legend, and all values in a table below.

import { useEffect, useRef, useState } from "preact/hooks";
import uPlot from "uplot";
import { isDark } from "../shell/theme";
import { type Aligned, aligned, type Line } from "./aligning";

interface ChartProps {
  title: string;
  lines: readonly Line[];
  // A value with its unit.
  format: (value: number) => string;
  // What stands below the horizontal axis, and a place on it.
  across: string;
  at: (place: number) => string;
  // Where the axis has its marks; everywhere else is for the chart to choose.
  marks?: readonly number[];
}

const HEIGHT = 220;
const COLOURS = ["--info", "--warn", "--bad", "--good", "--notready", "--tcp"];
const DASHES = [[], [7, 4], [2, 3], [10, 3, 2, 3], [4, 2], [1, 2]];
const MOST_ROWS = 600;
// Marks of seconds stand on whole ones.
const WHOLE = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600, 7200, 18_000];

export function Chart({ title, lines, format, across, at, marks }: ChartProps) {
  const place = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const [pointed, setPointed] = useState<number | null>(null);
  const { places, values } = aligned(lines);
  const data = [places, ...values] as uPlot.AlignedData;
  const names = lines.map(({ name }) => name).join("\n");
  const dark = isDark.value;
  useEffect(() => {
    const host = place.current!;
    const made = new uPlot(options({ host, lines, format, at, marks, point: setPointed }), data, host);
    plot.current = made;
    const watching = new ResizeObserver(() => made.setSize({ width: host.clientWidth, height: HEIGHT }));
    watching.observe(host);
    return () => {
      watching.disconnect();
      plot.current = null;
      made.destroy();
    };
  }, [names, dark, across]);
  const told = JSON.stringify(data);
  useEffect(() => { plot.current?.setData(data); }, [told]);
  const shown = pointed !== null && pointed < places.length ? pointed : places.length - 1;
  return (
    <figure class="chart">
      <figcaption>{title}{pointed !== null && <span class="soft"> {at(places[shown] ?? 0)}</span>}</figcaption>
      <div ref={place} class="plot" role="img" aria-label={`${title}: ${lines.map(({ name }) => name).join(", ")}`} />
      <p class="across soft">{across}</p>
      <ul class="legend">{lines.map(({ name }, index) => (
        <li key={name}><Dash of={index} /> {name} <b class="number">{valued(values[index]?.[shown], format)}</b></li>
      ))}</ul>
      <Values lines={lines} places={places} values={values} format={format} at={at} across={across} title={title} />
    </figure>
  );
}

const valued = (value: number | null | undefined, format: (value: number) => string): string =>
  value === null || value === undefined ? "–" : format(value);

function Dash({ of: index }: { of: number }) {
  return (
    <svg class="dash" viewBox="0 0 28 8" aria-hidden="true" data-colour={index % COLOURS.length}>
      <line x1="0" y1="4" x2="28" y2="4" stroke-dasharray={DASHES[index % DASHES.length]!.join(" ")} />
    </svg>
  );
}

// The same for whoever reads instead of looks; made when it is opened.
function Values({ lines, places, values, format, at, across, title }: Omit<ChartProps, "marks"> & Aligned) {
  const [isOpen, setOpen] = useState(false);
  const step = Math.max(1, Math.ceil(places.length / MOST_ROWS));
  return (
    <details class="values" onToggle={(event) => setOpen(event.currentTarget.open)}>
      <summary>As a table</summary>
      {isOpen && (
        <div class="scroll" tabIndex={0} role="group" aria-label={`${title}, as a table`}>
          <table class="rows">
            <thead><tr><th scope="col" class="number">{across}</th>
              {lines.map(({ name }) => <th key={name} scope="col" class="number">{name}</th>)}</tr></thead>
            <tbody>{places.map((one, row) => row % step === 0 && (
              <tr key={one}><td class="number">{at(one)}</td>
                {lines.map(({ name }, index) => <td key={name} class="number">{valued(values[index]?.[row], format)}</td>)}</tr>
            ))}</tbody>
          </table>
        </div>
      )}
    </details>
  );
}

function options({ host, lines, format, at, marks, point }: Pick<ChartProps, "lines" | "format" | "at"> & {
  host: HTMLElement; marks: readonly number[] | undefined; point: (index: number | null) => void;
}): uPlot.Options {
  const style = getComputedStyle(document.documentElement);
  const colour = (name: string): string => style.getPropertyValue(name).trim();
  const axis = { stroke: colour("--soft"), grid: { stroke: colour("--line"), width: 1 }, ticks: { stroke: colour("--line"), width: 1 } };
  return {
    width: Math.max(1, host.clientWidth), height: HEIGHT, legend: { show: false },
    cursor: { drag: { x: false, y: false }, y: false, points: { size: 6 } },
    scales: { x: { time: false }, y: { range: (_plot, _low, high) => [0, high > 0 ? high * 1.08 : 1] } },
    axes: [
      { ...axis, values: (_plot, places) => places.map(at), space: 44,
        ...(marks ? { splits: () => [...marks] } : { incrs: WHOLE }) },
      { ...axis, values: (_plot, found) => found.map(format), size: 72 },
    ],
    series: [{}, ...lines.map(({ name }, index) => ({
      label: name, stroke: colour(COLOURS[index % COLOURS.length]!), width: 1.5, dash: DASHES[index % DASHES.length]!,
      points: { show: false },
    }))],
    hooks: { setCursor: [(plot) => point(plot.cursor.idx ?? null)] },
  };
}
