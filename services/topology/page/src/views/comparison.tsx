// Two runs or more, or a baseline and runs: what changed, whether chance may have done it, and the
// curves of all on one another.

import { Fragment } from "preact";
import { useEffect, useState } from "preact/hooks";
import type { Line } from "../parts/aligning";
import { Chart } from "../parts/chart";
import { change, count, millis, percent, rate } from "../parts/figures";
import { runAddress } from "../parts/runs";
import { Sign, type Tone } from "../parts/signs";
import { Empty, Failed, Loading } from "../parts/states";
import { Rows } from "../parts/tables";
import type { Change, Compared, Curves, Outcome } from "../contract/performance";
import { ask, Failure } from "../shell/answers";
import { useAsked } from "../shell/asked";
import { query, setQuery } from "../shell/router";

const MOST_DRAWN = 6;
const BASELINE = "baseline:";

interface Sides {
  before: string[];
  after: string[];
  isPaired: boolean;
}

export function comparedIn(asked: URLSearchParams): Sides {
  const side = (name: string) => (asked.get(name) ?? "").split(",").filter((id) => id !== "");
  return { before: side("before"), after: side("after"), isPaired: asked.has("paired") };
}

export function Comparison({ before, after, isPaired }: Sides) {
  const isAsked = before.length > 0 && after.length > 0;
  const first = before[0] ?? "";
  const question = { before: first.startsWith(BASELINE) ? first : before, after, paired: isPaired };
  const { told, failure, again } = useAsked<Compared>("perf.compare", isAsked ? question : null);
  if (!isAsked) {
    return <Empty title="Nothing is compared"><p>Choose runs as before and after <a href="/performance">in the list</a>.</p></Empty>;
  }
  if (told === null && failure === null) return <Loading what="the comparison" />;
  const canBePaired = before.length === after.length && !first.startsWith(BASELINE);
  return (
    <div class="page">
      <p><a href={`/performance?${without(query.value)}`}>Performance</a></p>
      <h1>Comparison {told !== null && <VerdictSign of={told.verdict} />}</h1>
      {failure !== null && <Failed failure={failure} again={again} isPart />}
      <dl class="facts">
        <dt>Before</dt><dd><Ids of={told?.before ?? before} /></dd>
        <dt>After</dt><dd><Ids of={after} /></dd>
        {canBePaired && before.length > 1 && <><dt>Pairs</dt><dd><label><input type="checkbox" checked={isPaired}
          onChange={(event) => setQuery({ paired: event.currentTarget.checked ? "yes" : "" })} /> the runs alternated</label></dd></>}
      </dl>
      {told !== null && <Changes of={told} />}
      <Drawn before={told?.before ?? before.filter((id) => !id.startsWith(BASELINE))} after={after} />
    </div>
  );
}

function without(asked: URLSearchParams): URLSearchParams {
  const kept = new URLSearchParams(asked);
  kept.delete("compare");
  kept.delete("paired");
  return kept;
}

function Ids({ of }: { of: readonly string[] }) {
  return <>{of.map((id, index) => <Fragment key={id}>{index > 0 && ", "}{id.startsWith(BASELINE) ? id
    : <a href={runAddress(id)}>{id}</a>}</Fragment>)}</>;
}

const VERDICTS: Record<Outcome, [Tone, string]> = {
  regression: ["bad", "regression"], improvement: ["good", "improvement"], same: ["good", "no change found"],
  inconclusive: ["warn", "inconclusive"],
};

export function VerdictSign({ of }: { of: Outcome }) {
  const [tone, text] = VERDICTS[of];
  return <Sign tone={tone}>{text}</Sign>;
}

export function Changes({ of: told }: { of: Compared }) {
  return (
    <>
      {told.notes.map((note) => <p key={note} class="soft">{note}</p>)}
      {told.changes.length > 0 && (
        <Rows label="Changes" heads={["Figure", "Judged"]} numbers={["Before", "After", "Change", "Between"]}>
          {told.changes.map((one) => (
            <tr key={one.metric}>
              <td>{one.metric}</td>
              <td><Judged of={one} /></td>
              <td class="number">{valued(one.metric, one.before)}</td>
              <td class="number">{valued(one.metric, one.after)}</td>
              <td class="number">{change(one.change, unitOf(one.metric))}</td>
              <td class="number">{one.low === null || one.high === null ? "–" : `${change(one.low, "")}… ${change(one.high, unitOf(one.metric))}`}</td>
            </tr>
          ))}
        </Rows>
      )}
      <p class="soft">Response times. A change counts beyond {percent(100 * told.threshold)} and beyond chance. {told.method}</p>
    </>
  );
}

function Judged({ of: one }: { of: Change }) {
  if (one.counts) {
    const isWorse = one.metric === "rate" ? one.change < 0 : one.change > 0;
    return <Sign tone={isWorse ? "bad" : "good"}>{isWorse ? "worse" : "better"}</Sign>;
  }
  if (one.low === null) return <span class="soft">not tested</span>;
  return <span class="soft">{one.decides ? "not proven" : "explains"}</span>;
}

const unitOf = (metric: string): string => metric === "failed" ? "points" : "%";

function valued(metric: string, value: number): string {
  if (metric === "failed") return percent(100 * value);
  return metric === "rate" ? rate(value) : millis(value);
}

// --- curves ----------------------------------------------------------------------------------------

// Evenly, because what matters is in the last percent.
const PLACES = [0, 10, 25, 50, 75, 90, 95, 99, 99.5, 99.9, 99.95, 99.99, 100];
export const PERCENTILE_MARKS = [0, 3, 5, 6, 7, 9, 11, 12];
export function percentileAt(place: number): string {
  const found = PLACES[place];
  return found === undefined ? "" : found === 0 ? "least" : found === 100 ? "most" : `p${found}`;
}
export const latencyLine = (name: string, curve: readonly [number, number][]): Line =>
  ({ name, points: curve.map(([percentile, value]) => [PLACES.indexOf(percentile), value]) });

function Drawn({ before, after }: { before: readonly string[]; after: readonly string[] }) {
  const half = MOST_DRAWN / 2;
  const wanted = [...before.slice(0, half).map((id) => ["before", id] as const), ...after.slice(0, half).map((id) => ["after", id] as const)];
  const { found, failure } = useCurves(wanted.map(([, id]) => id));
  if (found === null) return failure === null ? <Loading what="curves" /> : <Failed failure={failure} isPart />;
  const shown = wanted.flatMap(([side, id]) => {
    const one = found.get(id);
    return one === undefined ? [] : [{ name: `${side}: ${id}`, one }];
  });
  const at = (place: number) => `${count(place)} s`;
  const more = before.length + after.length - wanted.length;
  return (
    <>
      {failure !== null && <Failed failure={failure} isPart />}
      {shown.length > 0 && (
        <div class="charts">
          <Chart title="Latency curves" format={millis} across="percentile" at={percentileAt} marks={PERCENTILE_MARKS}
            lines={shown.map(({ name, one }) => latencyLine(name, one.responses))} />
          <Chart title="p99 over time" format={millis} across="seconds after the start" at={at}
            lines={shown.map(({ name, one }) => ({ name, points: one.latencies["p99"] ?? [] }))} />
          <Chart title="Rate" format={rate} across="seconds after the start" at={at}
            lines={shown.map(({ name, one }) => ({ name, points: one.rates }))} />
        </div>
      )}
      {more > 0 && <p class="soft">{`${count(more)} more are judged and not drawn.`}</p>}
    </>
  );
}

// What is not there any more, such as a baseline's run after seven days, is left out and told.
function useCurves(ids: readonly string[]): { found: ReadonlyMap<string, Curves> | null; failure: Failure | null } {
  const [state, setState] = useState<{ found: ReadonlyMap<string, Curves> | null; failure: Failure | null }>({ found: null, failure: null });
  const key = ids.join(",");
  useEffect(() => {
    const leaving = new AbortController();
    void Promise.allSettled(ids.map((run) => ask<Curves>("perf.results", { run, format: "curves" }, leaving.signal))).then((all) => {
      if (leaving.signal.aborted) return;
      const found = new Map(all.flatMap((one, index) => one.status === "fulfilled" ? [[ids[index]!, one.value] as const] : []));
      const failed = all.find((one) => one.status === "rejected");
      setState({ found, failure: failed?.reason instanceof Failure ? failed.reason : null });
    });
    return () => leaving.abort();
  }, [key]);
  return state;
}
