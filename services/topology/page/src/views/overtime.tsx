// How compliance went: the share that passes a check, by cluster, namespace or team, and what changed.

import { Chart } from "../parts/chart";
import { moment, percent, plural } from "../parts/figures";
import { Sign, type Tone } from "../parts/signs";
import { Empty, Failed, Loading } from "../parts/states";
import { Rows } from "../parts/tables";
import type { Change, History } from "../contract/compliance";
import { useAsked } from "../shell/asked";
import { changesOf, CHECKS, linesOf, marksOf, RANGES } from "../shell/overtime";
import type { By } from "../shell/postures";
import { query, setQuery } from "../shell/router";

const EVERY_MS = 60_000;
const MOST_SHOWN = 200;
const DAY = new Intl.DateTimeFormat([], { day: "2-digit", month: "short" });
const CLOCK = new Intl.DateTimeFormat([], { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });

export function OverTime({ by, group }: { by: By; group: string | null }) {
  const range = query.value.get("range") ?? "7d", since = range in RANGES ? range : "7d";
  const wanted = query.value.get("check") ?? "mtls", check = wanted in CHECKS ? wanted : "mtls";
  const { told, failure, again } = useAsked<History>(`/compliance.json?since=${since}&by=${by}`, {}, { everyMs: () => EVERY_MS });
  return (
    <section aria-labelledby="over-time"><h2 id="over-time">Over time</h2>
      <form class="filter not-printed" aria-label="Over time" onSubmit={(event) => event.preventDefault()}>
        <label>Range <select value={since} onChange={(event) => setQuery({ range: event.currentTarget.value })}>
          {Object.entries(RANGES).map(([value, name]) => <option key={value} value={value}>{name}</option>)}</select></label>
        <label>Check <select value={check} onChange={(event) => setQuery({ check: event.currentTarget.value })}>
          {Object.entries(CHECKS).map(([value, name]) => <option key={value} value={value}>{name}</option>)}</select></label>
      </form>
      {failure !== null && <Failed failure={failure} again={again} isPart />}
      {told === null ? failure === null && <Loading what="how it went" />
        : <><Shares of={told} since={since} check={check} group={group} /><Changes of={told} by={by} group={group} /></>}
    </section>
  );
}

function Shares({ of: history, since, check, group }: { of: History; since: string; check: string; group: string | null }) {
  const { shown, others } = linesOf(history, check, group);
  if (shown.length === 0) {
    return (
      <Empty title="Nothing is kept of this yet" isPart>
        <p class="soft">It is looked every few minutes whether something changed, and kept for ninety days.</p>
      </Empty>
    );
  }
  const at = (place: number) => (since === "24h" ? CLOCK : DAY).format(new Date(place * 1000));
  return (
    <>
      {/* Its marks belong to moments: with the hour it is another one. */}
      <Chart key={`${since} ${history.until.slice(0, 13)}`} title={`${CHECKS[check]}, share of workloads`} format={percent}
        across={RANGES[since]!} at={at} marks={marksOf(history)} lines={shown} />
      {others > 0 && <p class="soft">{`${plural(others, `${history.by} more does`, `${history.by}s more do`)} better than these; `}
        <a href={`/compliance.csv?since=${since}&by=${history.by}`} download="compliance-over-time.csv">the CSV</a> has all.</p>}
    </>
  );
}

const BECAME: Record<Change["became"], readonly [Tone, string]> = {
  failed: ["bad", "fails"], came: ["warn", "new, fails"], mended: ["good", "mended"], gone: ["none", "gone"],
};

function Changes({ of: history, by, group }: { of: History; by: By; group: string | null }) {
  const found = changesOf(history, by, group);
  const late = history.clusters.filter(({ before, after }) => before === "" && after !== "");
  return (
    <>
      <h3>What changed</h3>
      <p class="soft">Between {moment(history.since)} and {moment(history.until)}.
        {late.length > 0 && ` Nothing was kept at the beginning of ${late.map(({ name }) => name).join(", ")}.`}</p>
      {found.length === 0 ? <p>Nothing began or ceased to fail.</p> : (
        <Rows label="What changed" heads={["Became", "Check", "Workload", "Cluster", "Team"]}>
          {found.slice(0, MOST_SHOWN).map((one) => (
            <tr key={`${one.cluster} ${one.kind} ${one.namespace} ${one.name} ${one.check}`}>
              <td><Sign tone={BECAME[one.became][0]}>{BECAME[one.became][1]}</Sign></td>
              <td>{CHECKS[one.check] ?? one.check}</td>
              <td>{one.namespace}/{one.name} <span class="soft">{one.kind.split("/").at(-1)}</span></td>
              <td>{one.clusterName}</td>
              <td>{one.team || <span class="soft">none</span>}</td>
            </tr>
          ))}
        </Rows>
      )}
      {found.length + history.left_out > MOST_SHOWN &&
        <p class="soft">{`${plural(Math.max(0, found.length - MOST_SHOWN) + history.left_out, "change")} more.`}</p>}
    </>
  );
}
