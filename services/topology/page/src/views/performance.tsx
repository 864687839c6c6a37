// Performance: what runs now, what was measured, gates with their decision, and baselines.

import { useMemo } from "preact/hooks";
import { count, duration, millis, plural } from "../parts/figures";
import { Decision, FailedSign, isGate, isOfGate, isRunning, p99Of, rateOf, runAddress, RunProgress, runState, runTitle } from "../parts/runs";
import { Moment, StateSign } from "../parts/signs";
import { Empty, Failed, Loading } from "../parts/states";
import { Rows } from "../parts/tables";
import type { BaselineRecord, BaselinesTold, RunRecord, RunsTold } from "../contract/performance";
import { useAsked } from "../shell/asked";
import { query, setQuery } from "../shell/router";
import { Comparison, comparedIn } from "./comparison";
import { NewTest } from "./newtest";
import { OneRun } from "./run";
import type { ViewProps } from "./views";

const MOST = 300;
const EVERY_MS = 1_000;

export default function Performance({ id }: ViewProps) {
  if (id) return <OneRun key={id} id={id} />;
  if (query.value.has("start")) return <NewTest />;
  if (query.value.has("compare")) return <Comparison {...comparedIn(query.value)} />;
  return <List />;
}

function List() {
  const { told, failure, again } = useAsked<RunsTold>("perf.status", { limit: MOST }, {
    service: "perf", everyMs: (known) => known?.runs.some(isRunning) ? EVERY_MS : 0,
  });
  const baselines = useAsked<BaselinesTold>("perf.baselines", {}, { service: "perf" });
  const search = query.value.get("q") ?? "";
  const shown = useMemo(() => (told?.runs ?? []).filter((run) => isLike(run, search)), [told, search]);
  if (told === null) return failure === null ? <Loading what="performance runs" /> : <Failed failure={failure} again={again} />;
  const runs = shown.filter((run) => !isOfGate(run));
  const running = runs.filter(isRunning), gates = runs.filter((run) => isGate(run) && !isRunning(run));
  const over = runs.filter((run) => !isGate(run) && !isRunning(run));
  const kept = baselines.told?.baselines ?? [];
  return (
    <div class="page">
      <h1>Performance</h1>
      <p><a href="/performance?start=yes">Start a test</a></p>
      {failure !== null && <Failed failure={failure} again={again} isPart />}
      {told.runs.length > 0 && <Filter search={search} />}
      {told.runs.length === 0 && kept.length === 0 && <Nothing />}
      {told.runs.length > 0 && runs.length === 0 && (
        <Empty title="No run is like this" isPart>
          <p><button type="button" onClick={() => setQuery({ q: "" })}>Show all</button></p>
        </Empty>
      )}
      {running.length > 0 && <section aria-labelledby="running"><h2 id="running">Running now</h2><Running of={running} /></section>}
      {gates.length > 0 && <section aria-labelledby="gates"><h2 id="gates">Gates</h2><Gates of={gates} /></section>}
      {over.length > 0 && <section aria-labelledby="runs"><h2 id="runs">Runs</h2><Chosen /><Runs of={over} />
        {told.more && <p class="soft">{`The newest ${count(MOST)}; those of the last seven days are kept.`}</p>}</section>}
      {baselines.failure !== null && <Failed failure={baselines.failure} again={baselines.again} isPart />}
      {kept.length > 0 && <section aria-labelledby="baselines"><h2 id="baselines">Baselines</h2><Baselines of={kept} /></section>}
    </div>
  );
}

function Nothing() {
  return (
    <Empty title="No performance run yet" isPart>
      <p>A test that is asked for appears here as it runs: by Meshery's operation <code>performance-test</code>,
        with <code>{"nats req mesh.perf.run < test.yaml"}</code>, or from here.</p>
    </Empty>
  );
}

function Filter({ search }: { search: string }) {
  return (
    <form class="filter" role="search" onSubmit={(event) => event.preventDefault()}>
      <label>Search <input id="runs-search" type="search" value={search} autocomplete="off" spellcheck={false}
        placeholder="name, id, cluster, state" onInput={(event) => setQuery({ q: event.currentTarget.value })} /></label>
    </form>
  );
}

function isLike(run: RunRecord, search: string): boolean {
  const text = [run.name, run.run, run.cluster_name, run.cluster, run.state, run.kind].join(" ").toLowerCase();
  return search.toLowerCase().split(/\s+/).every((word) => text.includes(word));
}

function Running({ of }: { of: RunRecord[] }) {
  return (
    <Rows label="Running now" heads={["Run", "State", "Cluster", "Begun"]} numbers={["Rate", "p99", "Requests", "Failed"]}>
      {of.map((run) => (
        <tr key={run.run}>
          <td><Named of={run} /></td>
          <td>{isGate(run) ? <Decision of={run} /> : <StateSign state={runState(run)} />} <RunProgress of={run} /></td>
          <td><Where of={run} /></td>
          <td><Moment time={run.started ?? run.asked} /></td>
          <Measured of={run} />
        </tr>
      ))}
    </Rows>
  );
}

function Gates({ of }: { of: RunRecord[] }) {
  return (
    <Rows label="Gates" heads={["Gate", "Decision", "Cluster", "Asked"]} numbers={[]}>
      {of.map((run) => (
        <tr key={run.run}>
          <td><Named of={run} /></td>
          <td><Decision of={run} />{run.error && <span class="soft clip">{run.error.summary}</span>}</td>
          <td><Where of={run} /></td>
          <td><Moment time={run.asked} /></td>
        </tr>
      ))}
    </Rows>
  );
}

function Runs({ of }: { of: RunRecord[] }) {
  return (
    <Rows label="Runs" heads={["Run", "State", "Cluster", "Begun", "Compare"]} numbers={["Took", "Rate", "p99", "Requests", "Failed"]}>
      {of.map((run) => (
        <tr key={run.run}>
          <td><Named of={run} /></td>
          <td><StateSign state={runState(run)} />{run.error && <span class="soft clip">{run.error.summary}</span>}</td>
          <td><Where of={run} /></td>
          <td><Moment time={run.started ?? run.asked} /></td>
          <td>{run.state === "done" && <Choose id={run.run} name={runTitle(run)} />}</td>
          <td class="number">{run.state === "done" ? duration(run.elapsed_s) : "–"}</td>
          <Measured of={run} />
        </tr>
      ))}
    </Rows>
  );
}

function Measured({ of: run }: { of: RunRecord }) {
  if (run.requests === 0) return <><td class="number">–</td><td class="number">–</td><td class="number">–</td><td class="number">–</td></>;
  return (
    <>
      <td class="number">{rateOf(run.rate)}</td>
      <td class="number">{p99Of(run)}</td>
      <td class="number">{count(run.requests)}</td>
      <td class="number"><FailedSign failed={run.failed} requests={run.requests} /></td>
    </>
  );
}

function Named({ of: run }: { of: RunRecord }) {
  return <><a href={runAddress(run.run)}>{runTitle(run)}</a>{run.name && <span class="soft clip">{run.run}</span>}</>;
}

function Where({ of: run }: { of: RunRecord }) {
  return run.cluster === "none" ? <span class="soft">none</span> : <>{run.cluster_name || run.cluster}</>;
}

// --- what is compared with what: in the address, so that it can be sent to somebody ----------------

const idsOf = (side: string): string[] => (query.value.get(side) ?? "").split(",").filter((id) => id !== "");

function choose(id: string, side: string): void {
  const sides = { before: idsOf("before"), after: idsOf("after") };
  for (const name of ["before", "after"] as const) sides[name] = sides[name].filter((one) => one !== id);
  if (side === "before" || side === "after") sides[side].push(id);
  // A baseline stands alone on its side.
  const isBaseline = (one: string) => one.startsWith("baseline:");
  if (side === "before") sides.before = sides.before.filter((one) => isBaseline(one) === isBaseline(id));
  if (isBaseline(id) && side === "before") sides.before = [id];
  setQuery({ before: sides.before.join(","), after: sides.after.join(",") });
}

function Choose({ id, name }: { id: string; name: string }) {
  const side = idsOf("before").includes(id) ? "before" : idsOf("after").includes(id) ? "after" : "";
  return (
    <select aria-label={`Compare ${name} as`} value={side} onChange={(event) => choose(id, event.currentTarget.value)}>
      <option value="">–</option><option value="before">before</option><option value="after">after</option>
    </select>
  );
}

function Chosen() {
  const before = idsOf("before"), after = idsOf("after");
  if (before.length === 0 && after.length === 0) {
    return <p class="soft">Choose runs as before and after to compare them; three on each side tell a regression from chance.</p>;
  }
  const wanted = new URLSearchParams({ compare: "yes", before: before.join(","), after: after.join(",") });
  const told = `${before.some((one) => one.startsWith("baseline:")) ? before[0] : plural(before.length, "run")} before, ${plural(after.length, "run")} after`;
  return (
    <p class="chosen" role="status">{told}{" "}
      {before.length > 0 && after.length > 0 && <a href={`/performance?${wanted}`}>Compare</a>}{" "}
      <button type="button" onClick={() => setQuery({ before: "", after: "" })}>Choose none</button></p>
  );
}

function Baselines({ of }: { of: BaselineRecord[] }) {
  return (
    <Rows label="Baselines" heads={["Baseline", "Service", "Configuration", "Changed", "Compare"]} numbers={["Runs", "p50", "p99", "Rate"]}>
      {of.map((one) => (
        <tr key={`${one.name} ${one.service} ${one.fingerprint}`}>
          <td>{one.name}{one.replaced.length > 0 && <span class="soft clip">
            {`begun anew by ${one.replaced.at(-1)!.by}`}</span>}</td>
          <td>{one.service}</td>
          <td><code>{one.fingerprint || "not known"}</code></td>
          <td><Moment time={one.stored} /></td>
          <td><button type="button" aria-pressed={idsOf("before").includes(`baseline:${one.name}`)}
            onClick={() => choose(`baseline:${one.name}`, idsOf("before").includes(`baseline:${one.name}`) ? "" : "before")}
            aria-label={`as before: the baseline ${one.name}`}>as before</button></td>
          <td class="number">{count(one.runs.length)}</td>
          <td class="number">{millis(one.figures["p50_ms"])}</td>
          <td class="number">{millis(one.figures["p99_ms"])}</td>
          <td class="number">{rateOf(one.figures["rate"] ?? null)}</td>
        </tr>
      ))}
    </Rows>
  );
}
