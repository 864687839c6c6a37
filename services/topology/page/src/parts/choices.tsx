// What several views let one choose.

import type { ComponentChildren } from "preact";
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

// What narrows a list down and groups it; every choice is in the address. `children` are choices of the view's own.
export function TroubleFilter({ view, words, by, groups, children }: { view: string; words: string; by: string; groups: string[];
  children?: ComponentChildren }) {
  return (
    <form class="filter" role="search" onSubmit={(event) => event.preventDefault()}>
      <label>Search <input id={`${view}-search`} type="search" value={query.value.get("q") ?? ""} placeholder={words} autocomplete="off"
        onInput={(event) => setQuery({ q: event.currentTarget.value })} /></label>
      <ClusterChoice />
      {children}
      <label>Group by <select value={by} onChange={(event) => setQuery({ by: event.currentTarget.value })}>
        {groups.map((one) => <option key={one} value={one}>{one}</option>)}
      </select></label>
    </form>
  );
}
