// What several views let one choose.

import { clusters } from "../shell/fleet";
import { query, setQuery } from "../shell/router";

export function ClusterChoice() {
  return (
    <label>Cluster <select value={query.value.get("cluster") ?? ""}
      onChange={(event) => setQuery({ cluster: event.currentTarget.value })}>
      <option value="">all</option>
      {(clusters.value ?? []).map((one) => <option key={one.cluster} value={one.cluster}>{one.name || one.cluster}</option>)}
    </select></label>
  );
}
