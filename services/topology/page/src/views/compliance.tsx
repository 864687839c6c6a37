// Compliance: how each workload stands in the mesh, by cluster, namespace or team; to be printed, and as
// CSV and JSON.

import { useMemo } from "preact/hooks";
import { count, percent, plural } from "../parts/figures";
import { Moment, Sign, type Tone } from "../parts/signs";
import { Empty, Failed, Loading } from "../parts/states";
import { Rows, Tile } from "../parts/tables";
import type { ClusterReport, Report, Root, Workload } from "../contract/compliance";
import { useAsked } from "../shell/asked";
import { type By, BYS, type Group, grouped, hasGap, isLike, isMeshed, type Row, rowsOf, type Sums, summed } from "../shell/postures";
import { query, setQuery } from "../shell/router";
import { OverTime } from "./overtime";

const EVERY_MS = 60_000;
const MOST_SHOWN = 500;
const SOON_MS = 30 * 86_400_000;

export default function Compliance() {
  const { told, failure, again } = useAsked<Report>("/compliance.json", {}, { everyMs: () => EVERY_MS });
  const by = BYS.find((one) => one === query.value.get("by")) ?? "cluster";
  const search = query.value.get("q") ?? "", group = query.value.get("group"), isGaps = query.value.get("only") === "gaps";
  const rows = useMemo(() => told === null ? [] : rowsOf(told), [told]);
  const found = useMemo(() => rows.filter((one) => isLike(one, search) && (!isGaps || hasGap(one))), [rows, search, isGaps]);
  if (told === null) return failure === null ? <Loading what="the compliance report" /> : <Failed failure={failure} again={again} />;
  const groups = grouped(found, by);
  const shown = group === null ? found : found.filter((one) => (by === "cluster" ? one.clusterName : one[by]) === group);
  const made = told.clusters.map((one) => one.made).sort()[0];
  return (
    <div class="page">
      <h1>Compliance</h1>
      {failure !== null && <Failed failure={failure} again={again} isPart />}
      {(told.missing ?? []).map(({ cluster, why }) => (
        <div key={cluster} class="note" data-level="warning"><p><Sign tone="warn">{`Cluster ${cluster} is not in here`}</Sign> {why}</p></div>
      ))}
      {told.clusters.length === 0 ? (
        <Empty title="No cluster is watched" isPart><p>A cluster is registered by its first use; then its workloads stand here.</p></Empty>
      ) : (
        <>
          <p class="soft">As of {made && <Moment time={made} />}. <span class="not-printed">
            <a href="/compliance.csv" download="compliance.csv">CSV</a> · <a href="/compliance.json" data-leaves>JSON</a> ·
            {" "}<a href="/compliance.html" data-leaves>one page</a> · <button type="button" onClick={() => print()}>Print</button></span></p>
          <Tiles of={summed(found)} />
          <Filter by={by} search={search} isGaps={isGaps} />
          {found.length === 0
            ? <Empty title={rows.length === 0 ? "No workload is there" : "No workload is like this"} isPart>
              {rows.length > 0 && <p><button type="button" onClick={() => setQuery({ q: "", only: "", group: "" })}>Show all</button></p>}</Empty>
            : <><Groups of={groups} by={by} chosen={group} /><OverTime by={by} group={group} /><Workloads of={shown} /></>}
          <Roots of={told.clusters} />
        </>
      )}
    </div>
  );
}

function Tiles({ of }: { of: Sums }) {
  const share = (part: number) => of.inMesh === 0 ? "–" : percent(100 * part / of.inMesh);
  return (
    <dl class="tiles">
      <Tile name="Workloads"><b>{count(of.workloads)}</b></Tile>
      <Tile name="In the mesh"><b>{of.workloads === 0 ? "–" : percent(100 * of.inMesh / of.workloads)}</b></Tile>
      <Tile name="mTLS strict"><b>{share(of.strict)}</b> <span class="soft">of those</span></Tile>
      <Tile name="Deny by default"><b>{share(of.denied)}</b></Tile>
      <Tile name="Proxies not in sync"><b>{count(of.notInSync)}</b></Tile>
      <Tile name="Findings"><b>{count(of.findings)}</b></Tile>
    </dl>
  );
}

function Filter({ by, search, isGaps }: { by: By; search: string; isGaps: boolean }) {
  return (
    <form class="filter not-printed" role="search" onSubmit={(event) => event.preventDefault()}>
      <label>By <select value={by} onChange={(event) => setQuery({ by: event.currentTarget.value, group: "" })}>
        {BYS.map((one) => <option key={one} value={one}>{one}</option>)}</select></label>
      <label>Search <input id="compliance-search" type="search" value={search} autocomplete="off" spellcheck={false}
        placeholder="cluster, namespace, name, team" onInput={(event) => setQuery({ q: event.currentTarget.value })} /></label>
      <label><input type="checkbox" checked={isGaps} onChange={(event) => setQuery({ only: event.currentTarget.checked ? "gaps" : "" })} />
        {" "}only with a gap</label>
    </form>
  );
}

const NAMES: Record<By, string> = { cluster: "Cluster", namespace: "Namespace", team: "Team" };

function Groups({ of, by, chosen }: { of: readonly Group[]; by: By; chosen: string | null }) {
  const heads = ["Workloads", "In the mesh", "Strict", "Permissive", "Disabled", "With a policy", "Deny by default", "Not in sync", "Findings"];
  const bad = (value: number, tone: Tone) => value === 0 ? count(value) : <Sign tone={tone}>{count(value)}</Sign>;
  return (
    <section aria-labelledby="groups"><h2 id="groups">By {by}</h2>
      <Rows label={`By ${by}`} heads={[NAMES[by]]} numbers={heads}>
        {of.map((one) => (
          <tr key={one.key} aria-current={chosen === one.key ? "true" : undefined}>
            <td><a href={address(chosen === one.key ? null : one.key)}>{one.key || `no ${by}`}</a>{chosen === one.key && <span class="soft"> chosen</span>}</td>
            <td class="number">{count(one.workloads)}</td>
            <td class="number">{one.inMesh === one.workloads ? count(one.inMesh) : <Sign tone="warn">{count(one.inMesh)}</Sign>}</td>
            <td class="number">{count(one.strict)}</td>
            <td class="number">{bad(one.permissive, "warn")}</td>
            <td class="number">{bad(one.disabled, "bad")}</td>
            <td class="number">{count(one.withPolicy)}</td>
            <td class="number">{count(one.denied)}</td>
            <td class="number">{bad(one.notInSync, "bad")}</td>
            <td class="number">{bad(one.findings, "warn")}</td>
          </tr>
        ))}
      </Rows>
    </section>
  );
}

function address(group: string | null): string {
  const wanted = new URLSearchParams(query.value);
  if (group === null) wanted.delete("group");
  else wanted.set("group", group);
  return `/compliance?${wanted}`;
}

const MODES: Record<string, Tone> = { STRICT: "good", PERMISSIVE: "warn", DISABLE: "bad" };
const STANDINGS: Record<string, Tone> = { synced: "good", stale: "warn", rejected: "bad", lost: "bad" };

function Workloads({ of }: { of: readonly Row[] }) {
  return (
    <section aria-labelledby="workloads"><h2 id="workloads">Workloads</h2>
      <Rows label="Workloads" heads={["Workload", "Cluster", "Team", "Mesh", "mTLS", "Access by default", "Policies", "Proxies", "Certificate until"]}
        numbers={["Pods in the mesh", "Findings"]}>
        {of.slice(0, MOST_SHOWN).map((one) => (
          <tr key={`${one.cluster} ${one.kind} ${one.namespace} ${one.name}`}>
            <td>{one.namespace}/{one.name} <span class="soft">{one.kind.split("/").at(-1)}</span></td>
            <td>{one.clusterName}</td>
            <td>{one.team || <span class="soft">none</span>}</td>
            <td>{isMeshed(one) ? <Sign tone="good">{one.mesh}</Sign> : <Sign tone="warn">not in it</Sign>}</td>
            <td><Tls of={one} /></td>
            <td>{!isMeshed(one) ? "–" : <Sign tone={one.access === "denied" ? "good" : "warn"}>{one.access}</Sign>}</td>
            <td>{one.policies.length === 0 ? "–" : one.policies.map(({ action, name }) => `${action} ${name}`).join(", ")}</td>
            <td>{one.proxyVersion === "" ? "–" : <><Sign tone={STANDINGS[one.proxies.standing] ?? "none"}>{one.proxies.standing}</Sign>
              {" "}{one.proxies.supported ? <span class="soft">{one.proxyVersion}</span> : <Sign tone="warn">{`${one.proxyVersion}, not supported`}</Sign>}</>}</td>
            <td>{one.proxies.certificateExpires ? <Moment time={one.proxies.certificateExpires} /> : "–"}</td>
            <td class="number">{count(one.meshedPods)} of {count(one.pods)}</td>
            <td class="number">{one.findings === 0 ? "0" : <Sign tone="warn">{count(one.findings)}</Sign>}</td>
          </tr>
        ))}
      </Rows>
      {of.length > MOST_SHOWN && <p class="soft">{`${plural(of.length - MOST_SHOWN, "workload")} more; the CSV has all of them.`}</p>}
    </section>
  );
}

function Tls({ of: one }: { of: Workload }) {
  if (!isMeshed(one)) return <>–</>;
  const ports = Object.entries(one.mtls.ports);
  return (
    <><Sign tone={MODES[one.mtls.mode] ?? "none"}>{one.mtls.mode.toLowerCase()}</Sign>
      {one.mtls.source && <span class="soft"> {one.mtls.source.namespace}/{one.mtls.source.name}</span>}
      {ports.map(([port, mode]) => <span key={port}> <Sign tone={MODES[mode] ?? "none"}>{`${port} ${mode.toLowerCase()}`}</Sign></span>)}</>
  );
}

function Roots({ of }: { of: readonly ClusterReport[] }) {
  const all = of.flatMap((one) => one.roots.map((root) => [one, root] as const));
  return (
    <section aria-labelledby="roots"><h2 id="roots">Root certificates</h2>
      {all.length === 0 ? <p class="soft">No webhook of Istio names one.</p> : (
        <Rows label="Root certificates" heads={["Cluster", "Trusted by", "Subject", "Holds until", "SHA-256"]} numbers={[]}>
          {all.map(([one, root], index) => (
            <tr key={index}><td>{one.name || one.cluster}</td>
              <td>{root.source.kind.split("/").at(-1)} {root.source.name} {root.part}</td>
              <td>{root.subject ?? <Sign tone="bad">{`not readable: ${root.error}`}</Sign>}</td>
              <td><Until of={root} /></td><td><code>{root.sha256?.slice(0, 16)}</code></td></tr>
          ))}
        </Rows>
      )}
    </section>
  );
}

function Until({ of: root }: { of: Root }) {
  if (root.notAfter === null) return <>–</>;
  const left = Date.parse(root.notAfter) - Date.now();
  const tone: Tone = left <= 0 ? "bad" : left <= SOON_MS ? "warn" : "good";
  return <Sign tone={tone}><Moment time={root.notAfter} />{left <= 0 ? " (expired)" : ""}</Sign>;
}
