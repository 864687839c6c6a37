// What is wrong with the configuration, on all clusters, by what it is.

import { useMemo, useState } from "preact/hooks";
import { TroubleFilter } from "../parts/choices";
import { plural } from "../parts/figures";
import { Moment, Sign, type Tone } from "../parts/signs";
import { Source } from "../parts/source";
import { Empty, Loading } from "../parts/states";
import { clusterName } from "../shell/fleet";
import { query, setQuery } from "../shell/router";
import { type Finding, isShown, named, troubles } from "../shell/troubles";

const LEVELS = ["error", "warning", "info"];
const TONES: Record<string, Tone> = { error: "bad", warning: "warn", info: "info" };
const MOST = 300; // More entries than anybody reads make the page slow.

interface Row extends Finding {
  id: string;
  cluster: string;
}

export default function Findings() {
  const wanted = {
    cluster: query.value.get("cluster") ?? "", level: query.value.get("level") ?? "", text: query.value.get("q") ?? "",
    by: query.value.get("by") ?? "code",
  };
  const { cluster, level, text, by } = wanted;
  const rows = useMemo(() => found(cluster, level, text), [troubles.value, cluster, level, text]);
  if (troubles.value === null) return <Loading what="findings" />;
  const groups = [...Map.groupBy(rows.slice(0, MOST), (row) => by === "object" ? `${row.cluster} ${named(row.object)}`
    : by === "namespace" ? row.object.namespace || "no namespace" : row.code)];
  return (
    <div class="page">
      <h1>Findings</h1>
      <TroubleFilter view="findings" words="code, object, words" by={by} groups={["code", "object", "namespace"]}>
        <label>Level <select value={level} onChange={(event) => setQuery({ level: event.currentTarget.value })}>
          <option value="">any</option>{LEVELS.map((one) => <option key={one} value={one}>{one}</option>)}
        </select></label>
      </TroubleFilter>
      <p class="soft" role="status">{plural(rows.length, "finding")}{rows.length > MOST && `, the first ${MOST} are shown`}</p>
      {rows.length === 0 && (cluster || level || text
        ? <Empty title="Nothing like this is wrong" isPart />
        : <Empty title="Nothing is wrong that the analysis knows of" isPart><p>The rules are evaluated again with every change.</p></Empty>)}
      {groups.map(([name, items]) => (
        <section class="group" key={name} aria-label={name}>
          <h2>{name} <span class="soft">{items.length > 1 ? items.length : ""}</span></h2>
          <ul>{items.map((row) => <One key={`${row.cluster} ${row.id}`} of={row} />)}</ul>
        </section>
      ))}
    </div>
  );
}

function found(cluster: string, level: string, text: string): Row[] {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  const all = [...troubles.value ?? []].filter(([name]) => !cluster || name === cluster)
    .flatMap(([name, { findings }]) => [...findings].map(([id, item]): Row => ({ ...item, id, cluster: name })));
  return all.filter((row) => (!level || row.level === level) && words.every((word) =>
    [...row.codes, named(row.object), row.message, row.path].join(" ").toLowerCase().includes(word)))
    .sort((a, b) => LEVELS.indexOf(a.level) - LEVELS.indexOf(b.level) || a.code.localeCompare(b.code)
      || named(a.object).localeCompare(named(b.object)) || a.id.localeCompare(b.id));
}

function One({ of: row }: { of: Row }) {
  const [isOpen, setOpen] = useState(false);
  return (
    <li class="note" data-level={row.level}>
      <p><Sign tone={TONES[row.level] ?? "none"}>{row.level}</Sign> <b>{row.codes.join(", ")}</b> {row.message}</p>
      <p class="soft"><a href={`/graph?cluster=${encodeURIComponent(row.cluster)}&tab=findings`}>{named(row.object)}</a>
        {" "}on {clusterName(row.cluster)}{row.path && <> · <code>{row.path}</code></>}
        {row.since && <> · since <Moment time={row.since} /></>}</p>
      {row.cause && <p><b>Cause</b> {row.cause}</p>}
      {row.remedy && <p><b>Remedy</b> {row.remedy}</p>}
      {isShown(row.object) && (
        <details onToggle={(event) => setOpen(event.currentTarget.open)}><summary>The object</summary>
          {isOpen && <Source cluster={row.cluster} object={row.object} path={row.path} />}
        </details>
      )}
    </li>
  );
}
