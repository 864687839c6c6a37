// Istio's versions over the fleet: control planes, proxies under them, and pairs that Istio does not support.

import { count, plural } from "../parts/figures";
import { Sign } from "../parts/signs";
import { Empty, Failed, Loading } from "../parts/states";
import { Rows } from "../parts/tables";
import type { ClusterVersions, Versions as Told } from "../contract/versions";
import { useAsked } from "../shell/asked";
import { query, setQuery } from "../shell/router";
import { byVersion, newestFirst, shownOf, unsupportedOf } from "../shell/skews";

const EVERY_MS = 60_000; // Each asks every owner, who looks at all pods.
const MOST_SHOWN = 200;

export function Versions() {
  const { told, failure, again } = useAsked<Told>("topology.versions", {}, { everyMs: () => EVERY_MS });
  return (
    <section aria-labelledby="versions"><h2 id="versions">Istio's versions</h2>
      {failure !== null && <Failed failure={failure} again={again} isPart />}
      {told === null ? failure === null && <Loading what="Istio's versions" /> : <Known of={told} />}
    </section>
  );
}

function Known({ of: told }: { of: Told }) {
  const rows = byVersion(told), isSkewOnly = query.value.get("only") === "skew";
  const { unsupported } = told.summed;
  return (
    <>
      {told.missing.map(({ cluster, name, why, remedy }) => (
        <div key={cluster} class="note" data-level="warning"><p><Sign tone="warn">{`Cluster ${name} is not in here`}</Sign> {why}</p>
          {remedy && <p class="soft">{remedy}</p>}</div>
      ))}
      {rows.length === 0 ? <Empty title="No control plane and no proxy of Istio is known" isPart /> : (
        <>
          <p role="status">{unsupported === 0 ? <Sign tone="good">Every proxy goes with its control plane</Sign>
            : <><Sign tone="bad">{plural(unsupported, "proxy", "proxies")}</Sign> {unsupported === 1 ? "does" : "do"} not go with their control plane.
              <span class="soft"> Istio supports a proxy of the same minor version, or of the one before. Workloads get another one when they restart.</span></>}</p>
          <Rows label="By version" heads={["Version"]} numbers={["Clusters with such a control plane", "Proxies", "Not supported"]}>
            {rows.map((one) => (
              <tr key={one.version}>
                <td>{one.version || "unknown"}</td>
                <td class="number">{count(one.clusters)}</td>
                <td class="number">{count(one.proxies)}</td>
                <td class="number">{one.unsupported === 0 ? "0" : <Sign tone="bad">{count(one.unsupported)}</Sign>}</td>
              </tr>
            ))}
          </Rows>
          <Clusters of={shownOf(told, isSkewOnly)} isSkewOnly={isSkewOnly} />
        </>
      )}
    </>
  );
}

function Clusters({ of, isSkewOnly }: { of: readonly ClusterVersions[]; isSkewOnly: boolean }) {
  return (
    <>
      <form class="filter" aria-label="Versions by cluster" onSubmit={(event) => event.preventDefault()}>
        <label><input type="checkbox" checked={isSkewOnly} onChange={(event) => setQuery({ only: event.currentTarget.checked ? "skew" : "" })} />
          {" "}only clusters with proxies that are not supported</label>
      </form>
      {of.length === 0 ? <p>No cluster is like this.</p> : (
        <Rows label="Versions by cluster" heads={["Cluster", "Control planes", "Proxies"]}>
          {of.slice(0, MOST_SHOWN).map((one) => (
            <tr key={one.cluster} data-cluster={one.cluster}>
              <td><a href={`/graph?cluster=${encodeURIComponent(one.cluster)}`}>{one.name}</a></td>
              <td>{one.controlPlanes.length === 0 ? <span class="soft">none known</span> : planesOf(one.controlPlanes)}</td>
              <td>{one.proxies.length === 0 ? <span class="soft">none</span> : <Proxies of={one} />}</td>
            </tr>
          ))}
        </Rows>
      )}
      {of.length > MOST_SHOWN && <p class="soft">{`${plural(of.length - MOST_SHOWN, "cluster")} more; `}
        <code>nats req mesh.topology.versions ''</code> tells all.</p>}
    </>
  );
}

export const planesOf = (planes: ClusterVersions["controlPlanes"]): string =>
  planes.map(({ revision, version }) => `${version || "version unknown"} (${revision})`).join(", ");

function Proxies({ of: one }: { of: ClusterVersions }) {
  const bad = new Set(unsupportedOf(one));
  return (
    <ul class="plain">
      {[...one.proxies].sort((a, b) => newestFirst(a.version, b.version)).map((some) => {
        const text = `${count(some.count)} of ${some.version}`;
        const under = some.controlPlane === "" ? "no control plane knows them" : `under ${some.controlPlane}`;
        return <li key={`${some.version} ${some.controlPlane}`}>
          {bad.has(some) ? <><Sign tone="bad">{text}</Sign> not supported {under}</> : <>{text} <span class="soft">{under}</span></>}</li>;
      })}
    </ul>
  );
}
