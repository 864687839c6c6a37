// The front page: each cluster with what one would ask about it first.

import { count, percent, plural, rate } from "../parts/figures";
import { Sign, StateSign, type Tone } from "../parts/signs";
import { Sparkline } from "../parts/sparkline";
import { Empty, Loading } from "../parts/states";
import type { ClusterTotals } from "../contract/console";
import { clusterName, fleet } from "../shell/fleet";
import { operations } from "../shell/operations";
import { isOver, type Operation, stateOf } from "../shell/records";
import { planesOf, Versions } from "./versions";

const STATES: Record<string, Tone> = {
  watching: "good", partly: "warn", unreachable: "bad", unwatched: "warn", starting: "none",
};

export default function Fleet() {
  const known = fleet.value;
  if (known === null) return <Loading what="the fleet" />;
  if (known.size === 0) {
    return (
      <Empty title="No cluster is registered">
        <p>A cluster is registered by its first use: select it in Meshery and run any operation of this
          adapter, such as an install or a check; or start one from here with
          {" "}<code>make apply OPERATION=istio CLUSTER=~/.kube/config</code>. It appears here by itself.</p>
        <p>What is registered: <code>nats req mesh.gateway.clusters ''</code></p>
      </Empty>
    );
  }
  return (
    <div class="page">
      <h1>Fleet</h1>
      <Sums clusters={[...known.values()]} />
      <ul class="cards" aria-label="Clusters">
        {[...known.values()].map((one) => <Cluster key={one.cluster} of={one} />)}
      </ul>
      <Versions />
    </div>
  );
}

function Sums({ clusters }: { clusters: ClusterTotals[] }) {
  const sum = (read: (one: ClusterTotals) => number) => clusters.reduce((all, one) => all + read(one), 0);
  const errors = sum((one) => one.findings["error"] ?? 0), drift = sum(drifts);
  return (
    <p class="soft sums">
      {plural(clusters.length, "cluster")} · {plural(sum((one) => one.workloads), "workload")}
      {" "}· {rate(sum((one) => one.rate))} requests
      {" "}· <a href="/findings">{plural(errors, "error")} in the configuration</a>
      {" "}· <a href="/drift">{drift === 0 ? "no drift" : plural(drift, "drift")}</a> · <a href="/compliance">compliance</a>
      {clusters.length > 1 && <> · <a href="/graph?cluster=*">all on one graph</a></>}
    </p>
  );
}

function Cluster({ of: one }: { of: ClusterTotals }) {
  const proxies = one.controlPlane.proxies ?? {};
  const inAll = Object.values(proxies).reduce((all, number) => all + number, 0);
  const synced = proxies["synced"] ?? 0;
  const planes = one.controlPlane.planes ?? [];
  const samples = one.samples ?? [];
  const query = `?cluster=${encodeURIComponent(one.cluster)}`;
  return (
    <li class="card" data-cluster={one.cluster}>
      <h2><a href={`/graph${query}`}>{one.name}</a></h2>
      <p><Sign tone={STATES[one.state] ?? "none"}>{one.state}</Sign>
        {one.detail && <span class="soft"> {one.detail}</span>}</p>
      <dl class="figures">
        <dt>Istio</dt>
        <dd>{planes.length === 0 ? <span class="soft">no control plane known</span>
          : planesOf(planes)}</dd>
        <dt>Proxies in sync</dt>
        <dd>{inAll === 0 ? <span class="soft">{one.controlPlane.state === "unavailable" ? "not readable" : "none known"}</span>
          : <Sign tone={synced === inAll ? "good" : "warn"}>{`${count(synced)} of ${count(inAll)}`}</Sign>}</dd>
        <dt>Mutual TLS</dt>
        <dd>{one.mtls === null ? <span class="soft">no traffic</span>
          : <Sign tone={one.mtls >= 100 ? "good" : "warn"}>{percent(one.mtls)} of requests</Sign>}</dd>
        <dt>Workloads</dt>
        <dd>{count(one.workloads)}, {count(one.inMesh)} in the mesh</dd>
        <dt>Findings</dt>
        <dd><Findings of={one} query={query} /></dd>
        <dt>Drift</dt>
        <dd>{drifts(one) === 0 ? <Sign tone="good">none</Sign>
          : <a href={`/drift${query}`}><Sign tone="warn">{plural(drifts(one), "object")}</Sign></a>}</dd>
        <dt>Traffic</dt>
        <dd class="curve"><Sparkline values={samples.map(([, value]) => value)} label="Requests, over the last hour at most" />
          <span>{rate(one.rate)}</span></dd>
        <dt>Errors</dt>
        <dd class="curve"><Sparkline values={samples.map(([, , value]) => value)} tone="bad"
          label="Share of server errors, over the last hour at most" />
          <span>{percent(one.rate > 0 ? one.errors : null)}</span></dd>
      </dl>
      <Runs cluster={one.cluster} query={query} />
    </li>
  );
}

const drifts = (one: ClusterTotals): number => Object.values(one.drift).reduce((all, number) => all + number, 0);

const LEVELS = [["error", "bad"], ["warning", "warn"], ["info", "info"]] as const;

function Findings({ of: one, query }: { of: ClusterTotals; query: string }) {
  const found = LEVELS.filter(([level]) => (one.findings[level] ?? 0) > 0);
  if (found.length === 0) return <Sign tone="good">none</Sign>;
  return (
    <a href={`/findings${query}`}>
      {found.map(([level, tone]) => <Sign key={level} tone={tone}>{plural(one.findings[level] ?? 0, level, level === "info" ? level : `${level}s`)} </Sign>)}
    </a>
  );
}

// What runs on the cluster now, and what ended last.
function Runs({ cluster, query }: { cluster: string; query: string }) {
  const about = [...operations.value.values()].filter((one) => one.parts.has(cluster));
  const running = about.filter((one) => !isOver(stateOf(one)));
  const shown = running.length > 0 ? running.slice(0, 3) : about.slice(0, 1);
  return (
    <section class="runs" aria-label={`Operations of ${clusterName(cluster)}`}>
      <h3>{running.length > 0 ? "Running now" : "Last operation"}</h3>
      {shown.length === 0 && <p class="soft">none known</p>}
      <ul>{shown.map((one) => <Run key={one.id} of={one} cluster={cluster} />)}</ul>
      <p><a href={`/operations${query}`}>All operations</a></p>
    </section>
  );
}

function Run({ of: one, cluster }: { of: Operation; cluster: string }) {
  const part = one.parts.get(cluster)!;
  return (
    <li><a href={`/operations/${encodeURIComponent(one.id)}`}>{one.kind}</a> <StateSign state={part.state} />
      <span class="soft clip"> {part.summary}</span></li>
  );
}
