// The live graph of one cluster. Its picture is Cytoscape's and is drawn beside Preact, which only
// lays out once what is around it.

import { useEffect } from "preact/hooks";
import { mount } from "../graph/main";

const TYPES = [["versionedApp", "versioned apps"], ["app", "apps"], ["workload", "workloads"], ["service", "services"]];
const LAYOUTS = [["flow", "flow"], ["breadthfirst", "layers"], ["concentric", "concentric"], ["cose", "force"], ["grid", "grid"]];
const BOXES = [["", "none"], ["namespace", "by namespace"], ["cluster", "by cluster"], ["app", "by app"]];
const LABELS = [["", "nothing"], ["rate", "rate"], ["time", "time"], ["mtls", "mTLS"]];

export default function GraphView() {
  useEffect(() => mount(), []);
  return (
    <div class="graph-view">
      <h1 class="hidden-label">Graph</h1>
      <div id="controls" role="group" aria-label="What the graph shows">
        <label>Cluster <select id="cluster" /></label>
        <label>Show <Select id="graph-type" of={TYPES} /></label>
        <label>Layout <Select id="layout" of={LAYOUTS} /></label>
        <button id="lay-out" type="button" title="Lay the graph out anew (l)" aria-label="Lay out">⟳</button>
        <label>Boxes <Select id="boxes" of={BOXES} chosen="namespace" /></label>
        <label>Edges <Select id="edge-labels" of={LABELS} chosen="rate" /></label>
        <details id="filters" class="menu"><summary>Filter <span id="filters-active" /></summary><form /></details>
        <label class="search"><span class="hidden-label">Search</span>
          <input id="search" type="search" placeholder="Search  /" autocomplete="off" spellcheck={false} />
          <output id="search-count" for="search" /></label>
        <span class="grow" />
        <button id="help-open" type="button" title="Keys (?)" aria-label="Help">?</button>
      </div>
      <div id="panes">
        <section id="stage" aria-label="Graph">
          <div id="graph" tabIndex={0} role="application" data-main
            aria-label="Graph of the mesh. Arrow keys go from node to node, Enter opens the details." />
          <section id="empty" hidden />
          <details id="legend"><summary>Legend</summary><div /></details>
          <p id="spoken" class="hidden-label" aria-live="polite" />
        </section>
        <aside id="side" aria-label="Details">
          <div role="tablist" aria-label="Details, findings, drift">
            <button role="tab" id="tab-details" aria-controls="details" aria-selected="true" type="button">Details</button>
            <button role="tab" id="tab-findings" aria-controls="findings" aria-selected="false" tabIndex={-1}
              type="button">Findings <span id="findings-count">0</span></button>
            <button role="tab" id="tab-drift" aria-controls="drift" aria-selected="false" tabIndex={-1}
              type="button">Drift <span id="drift-count">0</span></button>
          </div>
          <div id="details" role="tabpanel" aria-labelledby="tab-details" tabIndex={0} />
          <div id="findings" role="tabpanel" aria-labelledby="tab-findings" tabIndex={0} hidden />
          <div id="drift" role="tabpanel" aria-labelledby="tab-drift" tabIndex={0} hidden />
        </aside>
      </div>
      <div id="foot">
        <div id="travel">
          <label for="moment">Time</label>
          <input id="moment" type="range" min="0" max="0" step="1" />
          <output id="moment-text" for="moment">live</output>
          <button id="back-to-live" type="button" hidden>Back to live</button>
        </div>
        <div id="status" role="status" />
      </div>
      <dialog id="help" aria-labelledby="help-title" />
    </div>
  );
}

function Select({ id, of, chosen = "" }: { id: string; of: string[][]; chosen?: string }) {
  return (
    <select id={id}>
      {of.map(([value, name]) => <option key={value} value={value} selected={value === chosen}>{name}</option>)}
    </select>
  );
}
