// One run: as it goes on while it runs, and what it measured when it is over. Of a gate, its runs and
// what it decided.

import { Chart } from "../parts/chart";
import { Action } from "../parts/dialogs";
import { count, duration, millis, percent, plural, rate } from "../parts/figures";
import { Decision, FailedSign, isGate, isOfGate, isRunning, p99Of, rateOf, runAddress, RunProgress, runState, runTitle } from "../parts/runs";
import { Moment, Sign, StateSign } from "../parts/signs";
import { Failed, Loading } from "../parts/states";
import { Rows, Tile } from "../parts/tables";
import type { EventsTold } from "../contract/console";
import type { Compared, Correlation, Curves, Figures, RunRecord, RunsTold } from "../contract/performance";
import { useAsked } from "../shell/asked";
import { Changes, latencyLine, PERCENTILE_MARKS, percentileAt, VerdictSign } from "./comparison";

const EVERY_MS = 1_000;
const NO_CLUSTER = "none";

export function OneRun({ id }: { id: string }) {
  const { told: run, failure, again } = useAsked<RunRecord>("perf.status", { run: id }, {
    service: "perf", everyMs: (known) => known !== null && isRunning(known) ? EVERY_MS : 0,
  });
  if (run === null) return failure === null ? <Loading what="the run" /> : <Failed failure={failure} again={again} />;
  return (
    <div class="page" data-run={id}>
      <p><a href="/performance">Performance</a></p>
      <h1>{runTitle(run)} <StateSign state={runState(run)} /></h1>
      <p class="hidden-label" role="status">{`${runTitle(run)}: ${runState(run)}`}</p>
      {failure !== null && <Failed failure={failure} again={again} isPart />}
      <dl class="facts">
        <dt>Asked</dt><dd><Moment time={run.asked} /></dd>
        <dt>Id</dt><dd><code>{run.run}</code></dd>
        <dt>Operation</dt><dd><a href={`/operations/${encodeURIComponent(run.operation)}`}>{run.kind}</a></dd>
        {run.cluster !== NO_CLUSTER && <><dt>Cluster</dt><dd>{run.cluster_name || run.cluster}</dd></>}
        {run.workers.length > 0 && <><dt>Workers</dt><dd>{run.workers.join(", ")}</dd></>}
      </dl>
      {isRunning(run) && <p><Action verb="Cancel" name="perf.cancel" question={{ run: id }} done={again}>
        <p><b>{runTitle(run)}</b> ends; no load is left a second later. {isGate(run)
          ? "Its change is rolled back, unless it was asked to leave it." : "What it counted until then is kept, and is no result."}</p>
      </Action></p>}
      {run.error !== null && <Problem of={run} />}
      {isGate(run) ? <Gate of={run} /> : isRunning(run) ? <Live of={run} />
        : run.state === "done" ? <Result id={id} /> : run.started !== null && <UntilThen of={run} />}
    </div>
  );
}

function Problem({ of: { error } }: { of: RunRecord }) {
  if (error === null) return null;
  return (
    <div class="note" data-level="error">
      <p><b>{error.code}</b> {error.summary}</p>
      {error.cause && <p><b>Cause</b> {error.cause}</p>}
      {error.remedy && <p><b>Remedy</b> {error.remedy}</p>}
    </div>
  );
}

// --- while it runs ---------------------------------------------------------------------------------

function Live({ of: run }: { of: RunRecord }) {
  if (run.state !== "running") return <p class="soft">It waits for workers.</p>;
  return (
    <>
      <p><RunProgress of={run} /></p>
      <Until of={run} />
    </>
  );
}

// One that was cancelled or has failed has no result: how it went is what its record was told.
function UntilThen({ of: run }: { of: RunRecord }) {
  return (
    <section aria-labelledby="until-then"><h2 id="until-then">How it went until then</h2>
      <p class="soft">{`It ended after ${duration(run.elapsed_s)} of ${duration(run.duration_s)}; what it counted is no result.`}</p>
      <Until of={run} />
    </section>
  );
}

function Until({ of: run }: { of: RunRecord }) {
  const at = (place: number) => `${count(place)} s`;
  return (
    <>
      <dl class="tiles">
        <Tile name="Rate"><b>{rateOf(run.rate)}</b></Tile>
        <Tile name="p99"><b>{p99Of(run)}</b></Tile>
        <Tile name="Requests"><b>{count(run.requests)}</b></Tile>
        <Tile name="Failed"><FailedSign failed={run.failed} requests={run.requests} /></Tile>
      </dl>
      {run.curve.length > 1 && (
        <div class="charts">
          <Chart title="Rate" format={rate} across="seconds after the start" at={at}
            lines={[{ name: "requests", points: run.curve.map((one) => [one.at_s, one.rate]) }]} />
          <Chart title="Latency of the last seconds" format={millis} across="seconds after the start" at={at} lines={[
            { name: "p50", points: run.curve.map((one) => [one.at_s, one.p50_ms]) },
            { name: "p99", points: run.curve.map((one) => [one.at_s, one.p99_ms]) },
          ]} />
        </div>
      )}
      <Codes of={Object.entries(run.codes)} title="Answers of the last seconds" />
    </>
  );
}

// --- what it measured ------------------------------------------------------------------------------

function Result({ id }: { id: string }) {
  const { told, failure, again } = useAsked<Curves>("perf.results", { run: id, format: "curves" });
  if (failure !== null) return <Failed failure={failure} again={again} isPart />;
  if (told === null) return <Loading what="what it measured" />;
  return <Measured of={told} />;
}

function Measured({ of: one }: { of: Curves }) {
  const at = (place: number) => `${count(place)} s`;
  const { figures } = one;
  const failures = Object.entries(one.failures);
  return (
    <>
      {!one.is_complete && <div class="note" data-level="warning"><p><Sign tone="warn">Incomplete</Sign> {one.missing.length === 0
        ? "A generator ended early." : `${plural(one.missing.length, "part")} of the load is not counted.`}</p>
        {one.missing.map(({ shard, worker, reason }) => <p key={shard}>{`Shard ${shard} on ${worker}: ${reason}`}</p>)}</div>}
      <dl class="tiles">
        <Tile name="Rate"><b>{rate(one.actual_rate)}</b> <span class="soft">{one.requested_rate > 0
          ? `of ${rate(one.requested_rate)} asked` : "as fast as possible"}</span></Tile>
        <Tile name="p50"><b>{millis(figures.response_p50_ms)}</b></Tile>
        <Tile name="p90"><b>{millis(figures.response_p90_ms)}</b></Tile>
        <Tile name="p99"><b>{millis(figures.response_p99_ms)}</b></Tile>
        <Tile name="Requests"><b>{count(figures.requests)}</b> <span class="soft">in {duration(one.duration_s)}</span></Tile>
        <Tile name="Failed"><FailedSign failed={figures.failed} requests={figures.requests} /></Tile>
        {one.saturation_rate !== null && <Tile name="Holds up to"><b>{one.saturation_rate > 0 ? rate(one.saturation_rate) : "no rate"}</b></Tile>}
      </dl>
      <p class="soft">Response times, from when the rate wanted each request sent.
        {" "}{plural(one.connections, "connection")} from {plural(one.workers, "worker")} with {one.generator}, {one.protocol};
        configuration {one.fingerprint || "not known"}.</p>
      {one.warnings.map((text) => <p key={text}><Sign tone="warn">{text}</Sign></p>)}
      <div class="charts">
        <Chart title="Latency curve" format={millis} across="percentile" at={percentileAt} marks={PERCENTILE_MARKS}
          lines={[latencyLine("response times", one.responses), latencyLine("durations", one.durations)]} />
        <Chart title="Percentiles over time" format={millis} across="seconds after the start" at={at}
          lines={Object.entries(one.latencies).map(([name, points]) => ({ name, points }))} />
        <Chart title="Rate" format={rate} across="seconds after the start" at={at} lines={[{ name: "requests", points: one.rates }]} />
        {failures.length > 0 && <Chart title="Failures by code" format={rate} across="seconds after the start" at={at}
          lines={failures.map(([name, points]) => ({ name, points }))} />}
      </div>
      <Codes of={one.codes} title="Answers" />
      {one.stages.length > 1 && <Stages of={one} />}
      {one.targets.length > 1 && <Targets of={one} />}
      {one.correlation !== null && <Telemetry of={one.correlation} />}
      <Earlier of={one} />
    </>
  );
}

function Codes({ of, title }: { of: readonly (readonly [string, number])[]; title: string }) {
  const all = of.reduce((sum, [, number]) => sum + number, 0);
  if (all === 0) return null;
  return (
    <section aria-label={title}><h2>{title}</h2>
      <Rows label={title} heads={["Code"]} numbers={["Requests", "Share"]}>
        {of.map(([code, number]) => (
          <tr key={code}><td>{code}</td><td class="number">{count(number)}</td><td class="number">{percent(100 * number / all)}</td></tr>
        ))}
      </Rows>
    </section>
  );
}

const FIGURES = ["Requests", "Failed", "p50", "p90", "p99"];

function Cells({ of }: { of: Figures }) {
  return (
    <>
      <td class="number">{count(of.requests)}</td>
      <td class="number"><FailedSign failed={of.failed} requests={of.requests} /></td>
      <td class="number">{millis(of.response_p50_ms)}</td>
      <td class="number">{millis(of.response_p90_ms)}</td>
      <td class="number">{millis(of.response_p99_ms)}</td>
    </>
  );
}

function Stages({ of: one }: { of: Curves }) {
  const title = one.saturation_rate === null ? "Stages" : "Steps of the search";
  return (
    <section aria-label={title}><h2>{title}</h2>
      <Rows label={title} heads={["Objective"]} numbers={["Asked", "Reached", "Took", ...FIGURES]}>
        {one.stages.map((stage, index) => (
          <tr key={index}>
            <td>{stage.holds === null ? <span class="soft">none</span> : stage.holds ? <Sign tone="good">held</Sign>
              : <Sign tone="bad">{stage.reason || "did not hold"}</Sign>}</td>
            <td class="number">{stage.rate > 0 ? rate(stage.rate) : "any"}</td>
            <td class="number">{rate(stage.actual_rate)}</td>
            <td class="number">{duration(stage.duration_s)}</td>
            <Cells of={stage.figures} />
          </tr>
        ))}
      </Rows>
    </section>
  );
}

function Targets({ of: one }: { of: Curves }) {
  return (
    <section aria-label="Targets"><h2>Targets</h2>
      <Rows label="Targets" heads={["URL"]} numbers={["Weight", ...FIGURES]}>
        {one.targets.map((target) => (
          <tr key={target.url}><td>{target.url}</td><td class="number">{count(target.weight)}</td><Cells of={target.figures} /></tr>
        ))}
      </Rows>
    </section>
  );
}

function Telemetry({ of: told }: { of: Correlation }) {
  return (
    <section aria-label="Telemetry"><h2>Where the time went</h2>
      <p>{told.place.replace("_", " ")} <span class="soft">confidence {told.confidence}: {told.reason}</span></p>
      {told.shares.length > 0 && <dl class="facts">{told.shares.map((share) => (
        <><dt>{share.place.replace("_", " ")}</dt><dd>{millis(share.ms)} <span class="soft">{share.covers}</span></dd></>))}</dl>}
      {told.saturated.map(({ text }) => <p key={text}><Sign tone="bad">{text}</Sign></p>)}
      {told.evidence.map(({ text }) => <p key={text}>{text}</p>)}
      {told.missing.map((text) => <p key={text} class="soft">Not found: {text}</p>)}
    </section>
  );
}

// The runs of the same test before this one: what it would be compared with.
function Earlier({ of: one }: { of: Curves }) {
  const { told } = useAsked<RunsTold>("perf.status", one.name === "" ? null : { limit: 300 });
  const earlier = (told?.runs ?? []).filter((run) => run.name === one.name && run.run !== one.run && run.state === "done"
    && Date.parse(run.asked) < Date.parse(one.started) && !isOfGate(run)).slice(0, 5);
  if (earlier.length === 0) return null;
  return (
    <section aria-labelledby="earlier"><h2 id="earlier">Earlier runs of this test</h2>
      <Rows label="Earlier runs" heads={["Run", "Begun", "Compare"]} numbers={["Rate", "p99"]}>
        {earlier.map((run) => (
          <tr key={run.run}>
            <td><a href={runAddress(run.run)}>{run.run}</a></td>
            <td><Moment time={run.started ?? run.asked} /></td>
            <td><a href={`/performance?${new URLSearchParams({ compare: "yes", before: run.run, after: one.run })}`}
              aria-label={`Compare with ${run.run}`}>compare</a></td>
            <td class="number">{rateOf(run.rate)}</td>
            <td class="number">{p99Of(run)}</td>
          </tr>
        ))}
      </Rows>
    </section>
  );
}

// --- a gate ----------------------------------------------------------------------------------------

function Gate({ of: gate }: { of: RunRecord }) {
  const { told } = useAsked<RunsTold>("perf.status", { limit: 1000 }, {
    service: "perf", everyMs: () => isRunning(gate) ? EVERY_MS : 0,
  });
  const events = useAsked<EventsTold>("gateway.events", { operation: gate.operation }, { service: "perf" });
  const runs = (told?.runs ?? []).filter((run) => isOfGate(run) && run.run.startsWith(`${gate.run}-`))
    .sort((a, b) => Date.parse(a.asked) - Date.parse(b.asked));
  const side = (name: string) => runs.filter((run) => run.state === "done" && run.run.startsWith(`${gate.run}-${name}-`)).map((run) => run.run).sort();
  const before = side("before"), after = side("after");
  const isPaired = before.length === after.length && before.length > 0;
  const compared = useAsked<Compared>("perf.compare", before.length > 0 && after.length > 0 && !isRunning(gate)
    ? { before, after, paired: isPaired } : null);
  const last = events.told?.events.filter((event) => event.phase === "done" || event.phase === "failed").at(-1);
  return (
    <>
      <section aria-labelledby="decision"><h2 id="decision">Decision</h2>
        <p><Decision of={gate} /></p>
        {last !== undefined && <p>{last.summary}</p>}
        {last?.details && <p class="soft">{last.details}</p>}
      </section>
      {compared.told !== null && (
        <section aria-labelledby="sides"><h2 id="sides">With the change beside without it</h2>
          <p><VerdictSign of={compared.told.verdict} /> <span class="soft">as these runs alone say; the gate also
            knows the baseline, and may have looked several times.</span></p>
          <Changes of={compared.told} />
        </section>
      )}
      {compared.failure !== null && <Failed failure={compared.failure} again={compared.again} isPart />}
      {runs.length > 0 && (
        <section aria-labelledby="turns"><h2 id="turns">Its runs</h2>
          <Rows label="Its runs" heads={["Run", "State"]} numbers={["Rate", "p99", "Requests"]}>
            {runs.map((run) => (
              <tr key={run.run}>
                <td><a href={runAddress(run.run)}>{run.run.slice(gate.run.length + 1).replace("-", " the change, ")}</a></td>
                <td><StateSign state={runState(run)} /> <RunProgress of={run} /></td>
                <td class="number">{rateOf(run.rate)}</td>
                <td class="number">{p99Of(run)}</td>
                <td class="number">{count(run.requests)}</td>
              </tr>
            ))}
          </Rows>
        </section>
      )}
    </>
  );
}

