// The graph view: puts its parts together once they are laid out, and takes them apart again.

import { keyOf, kindName, nodeTitle } from "./describe.js";
import { byId, make } from "./dom.js";
import { drawForm, Filters } from "./filters.js";
import { Graph } from "./graph.js";
import { keys, openTab } from "./keyboard.js";
import { Lists } from "./lists.js";
import { Marks } from "./marks.js";
import { Pace } from "./pace.js";
import { Panel } from "./panel.js";
import { drawEmpty, drawLegend, Status } from "./status.js";
import { nothingTouched, PARTS, Store, Together } from "./store.js";
import { Travel } from "./travel.js";
import { effect } from "@preact/signals";
import { query as address, setQuery } from "../shell/router";
import { stream } from "../shell/stream";
import { isDark } from "../shell/theme";

const ALL = "*"; // In the place of a cluster's token.

export function mount() {
  const wanted = address.peek();
  let live = new Store();
  let shown = live; // `live`, or a past state.
  let marks = new Marks(live);
  let clusters = [];
  let selection = null;
  let heard = null;
  let isLoaded = false;
  let touched = nothingTouched();

  const filters = new Filters();
  const graph = new Graph(byId("graph"), { filters, onSelect: (chosen) => choose(chosen) });
  const panel = new Panel(byId("details"), { choose: (chosen) => choose(chosen, { isFocus: true }) });
  const lists = new Lists({
    findings: byId("findings"), drift: byId("drift"),
    counts: { findings: byId("findings-count"), drift: byId("drift-count") }, choose: jump,
  });
  const status = new Status();
  const travel = new Travel({
    past: (snapshot) => { showPast(snapshot); },
    live: () => { shown = live; status.say(""); drawAll(); },
    failed: (text) => status.say(text),
  });
  const heardOf = {
    snapshot: (told) => {
      live.replace(told);
      isLoaded = true;
      if (shown === live) drawAll();
    },
    delta: (told) => {
      live.apply(told, touched);
      heard = { time: told.time, delay: Date.now() - Date.parse(told.time) };
      if (followed.cluster !== ALL) travel.add(told.time);
      pace.ask();
    },
    clusters: showClusters,
    gone: ({ cluster }) => {
      if (live instanceof Together) live.drop(cluster);
      else live.replace({ cluster: "", nodes: [], edges: [], findings: {}, drift: {}, info: {} });
      if (shown === live) drawAll();
    },
  };
  const followed = { cluster: "", graphType: "" };

  const pace = new Pace(drawTouched);

  // --- drawing ------------------------------------------------------------------------------------

  function drawTouched() {
    if (shown !== live) {
      touched = nothingTouched();
      return;
    }
    // A node's own findings change with its objects; then all nodes are looked at.
    const isAll = touched.findings.size > 0 || touched.drift.size > 0
      || [...touched.nodes].some((id) => marks.isOther(live.nodes.get(id), id));
    if (isAll) marks = new Marks(live);
    draw(isAll ? null : touched, touched);
    touched = nothingTouched();
  }

  function drawAll() {
    touched = nothingTouched();
    marks = new Marks(shown);
    draw(null, null);
  }

  // `changed`: what the graph has to look at (null: everything); `parts`: what the rest has to.
  function draw(changed, parts) {
    graph.show(shown, marks, changed);
    panel.show(selection, shown, marks);
    if (parts === null || parts.findings.size > 0 || parts.drift.size > 0) lists.show(shown);
    if (parts === null || parts.nodes.size > 0) drawFilters();
    status.show(shown, heard);
    drawEmpty(clusters, shown, isLoaded);
    showFound();
  }

  function showPast(snapshot) {
    shown = new Store();
    shown.replace(snapshot);
    status.say("");
    drawAll();
  }

  let namespaces = "";
  function drawFilters() {
    const names = [...new Set([...shown.nodes.values()].map((node) => node.namespace ?? ""))].sort();
    if (names.join() === namespaces) return;
    namespaces = names.join();
    drawForm(byId("filters").querySelector("form"), filters, names, () => {
      byId("filters-active").textContent = filters.count > 0 ? `(${filters.count})` : "";
      graph.decorate();
      showFound();
    });
  }

  // --- choosing -----------------------------------------------------------------------------------

  function choose(chosen, { isFocus = false } = {}) {
    selection = chosen;
    graph.select(chosen?.id ?? "", { isFocus });
    if (chosen !== null) openTab("details");
    panel.show(selection, shown, marks);
    const node = chosen?.type === "node" ? shown.nodes.get(chosen.id) : undefined;
    byId("spoken").textContent = node ? `${kindName(node)} ${nodeTitle(node)}, ${node.namespace ?? ""}` : "";
  }

  // From a finding or drift to its object, in the graph too where it is there.
  function jump(object, cluster) {
    const [id] = marks.nodesOf(object, cluster);
    choose({ type: "object", object, cluster, id }, { isFocus: true });
  }

  function follow(cluster, graphType) {
    graph.isLaidOut = false;
    selection = null;
    heard = null;
    isLoaded = cluster === "";
    const isShown = shown === live;
    live = cluster === ALL ? new Together() : new Store();
    if (isShown) shown = live;
    Object.assign(followed, { cluster, graphType });
    stream.follow({ cluster, graphType, topics: ["operations"] });
    // The past is one cluster's.
    travel.open(cluster === ALL ? "" : cluster, graphType).catch((error) => status.say(`no moments: ${error.message}`));
    setQuery({ cluster, graphType });
  }

  function showClusters(told) {
    clusters = told;
    const select = byId("cluster");
    const before = select.value || wanted.get("cluster") || "";
    const all = told.length > 1 ? [make("option", { value: ALL }, "all clusters")] : [];
    select.replaceChildren(...told.map((about) =>
      make("option", { value: about.cluster }, about.name || about.cluster)), ...all);
    const isThere = told.some((about) => about.cluster === before) || (before === ALL && all.length > 0);
    select.value = isThere ? before : told[0]?.cluster ?? "";
    if (select.value !== (followed.cluster)) follow(select.value, byId("graph-type").value);
    drawEmpty(clusters, shown, isLoaded);
  }

  function showFound() {
    byId("search-count").textContent = graph.search ? `${graph.found.length} found` : "";
  }

  let place = -1;
  function search(text) {
    graph.search = text.trim();
    place = -1;
    graph.decorate();
    showFound();
  }

  function nextFound() {
    const found = graph.found;
    if (found.length === 0) return;
    place = (place + 1) % found.length;
    choose({ type: "node", id: found[place].id() }, { isFocus: true });
  }

  function escape() {
    const field = byId("search");
    if (byId("filters").open) byId("filters").open = false;
    else if (field.value) {
      field.value = "";
      search("");
    } else if (selection !== null) choose(null);
    else travel.back();
    if (document.activeElement === field) byId("graph").focus();
  }

  // --- controls -----------------------------------------------------------------------------------

  function remembered(id, use) {
    const control = byId(id);
    control.value = localStorage.getItem(id) ?? control.value;
    control.addEventListener("change", () => {
      localStorage.setItem(id, control.value);
      use(control.value);
    });
    use(control.value);
  }

  const restyled = effect(() => {
    void isDark.value;
    graph.restyle();
  });
  remembered("boxes", (value) => graph.setBoxes(value));
  remembered("edge-labels", (value) => graph.setLabels(value));
  const layOut = () => graph.layOut(byId("layout").value);
  byId("layout").addEventListener("change", layOut);
  byId("lay-out").addEventListener("click", layOut);
  byId("cluster").addEventListener("change", () => follow(byId("cluster").value, byId("graph-type").value));
  byId("graph-type").addEventListener("change", () =>
    follow(byId("cluster").value, byId("graph-type").value));
  byId("search").addEventListener("input", (event) => search(event.target.value));
  byId("search").addEventListener("keydown", (event) => { if (event.key === "Enter") nextFound(); });
  drawLegend(byId("legend").querySelector("div"));
  const leaving = new AbortController();
  keys(graph, {
    choose: (chosen) => choose(chosen, { isFocus: true }),
    selected: () => selection?.id ?? null, escape, layOut, signal: leaving.signal,
  });
  byId("graph-type").value = wanted.get("graphType") ?? "versionedApp";
  if (!byId("graph-type").value) byId("graph-type").value = "versionedApp";
  panel.show(null, live, marks);
  const ends = Object.entries(heardOf).map(([name, heard]) => stream.on(name, heard));
  ends.push(stream.state.subscribe((state) => status.connection(state)));
  if (["findings", "drift"].includes(wanted.get("tab"))) openTab(wanted.get("tab"));
  follow(wanted.get("cluster") ?? "", byId("graph-type").value);

  // For whoever looks into it by hand, and for tests in a browser.
  window.meshbus = { graph, stream, travel, get live() { return live; }, keyOf, PARTS };

  return () => {
    leaving.abort();
    restyled();
    for (const end of ends) end();
    pace.end();
    travel.end();
    delete document.body.dataset.time;
    graph.cy.destroy();
  };
}
