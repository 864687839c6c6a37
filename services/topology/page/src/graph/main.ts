// The graph view: puts its parts together once they are laid out, and takes them apart again.

import type { About, Delta, GraphNode, Reference, Snapshot } from "../contract/graph";
import { keyOf, kindName, nodeTitle } from "./describe";
import { byId, make } from "./dom";
import { drawForm, Filters } from "./filters";
import { Graph } from "./graph";
import { keys, openTab } from "./keyboard";
import { Lists } from "./lists";
import { Marks } from "./marks";
import { Pace } from "./pace";
import { type Chosen, chosenIn, chosenText, Panel } from "./panel";
import { drawEmpty, drawLegend, type Heard, Status } from "./status";
import { nothingTouched, PARTS, Store, Together, type Touched } from "./store";
import { Travel } from "./travel";
import { effect } from "@preact/signals";
import { query as address, setQuery } from "../shell/router";
import { stream } from "../shell/stream";
import { isDark } from "../shell/theme";

const ALL = "*"; // In the place of a cluster's token.

// Lays the view's parts out into its elements; what it returns takes them apart.
export function mount(): () => void {
  const wanted = address.peek();
  let live: Store = new Store();
  let shown = live; // `live`, or a past state.
  let marks = new Marks(live);
  let clusters: readonly About[] = [];
  let selection: Chosen | null = null;
  let heard: Heard | null = null;
  let isLoaded = false;
  let asked = chosenIn(wanted.get("chosen") ?? ""); // By the address; until it is here.
  let touched = nothingTouched();

  const graphType = byId<HTMLSelectElement>("graph-type"), searched = byId<HTMLInputElement>("search");
  const filters = new Filters();
  const graph = new Graph(byId("graph"), { filters, onSelect: (chosen) => choose(chosen) });
  const panel = new Panel(byId("details"), { choose: (chosen) => choose(chosen, { isFocus: true }) });
  const lists = new Lists({
    findings: byId("findings"), drift: byId("drift"),
    counts: { findings: byId("findings-count"), drift: byId("drift-count") }, choose: jump,
  });
  const status = new Status();
  const travel = new Travel({
    past: (snapshot, at) => { showPast(snapshot); setQuery({ at }); },
    live: () => { shown = live; status.say(""); setQuery({ at: "" }); drawAll(); },
    failed: (text) => status.say(text),
  });
  const followed = { cluster: "", graphType: "" };

  const pace = new Pace(drawTouched, () => graph.isMoving);

  // --- drawing ------------------------------------------------------------------------------------

  function drawTouched(): void {
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

  function drawAll(): void {
    touched = nothingTouched();
    marks = new Marks(shown);
    draw(null, null);
    restore();
  }

  // Chooses what the address names, once that is drawn.
  function restore(): void {
    if (asked === null || !isLoaded) return;
    const tab = address.peek().get("tab") ?? "details";
    if (asked.type === "object") jump(asked.object, asked.cluster);
    else if ((asked.type === "node" ? shown.nodes : shown.edges).has(asked.id)) choose(asked, { isFocus: true });
    else return;
    show(tab);
  }

  // `changed`: what the graph has to look at (null: everything); `parts`: what the rest has to.
  function draw(changed: Touched | null, parts: Touched | null): void {
    graph.show(shown, marks, changed);
    panel.show(selection, shown, marks);
    if (parts === null || parts.findings.size > 0 || parts.drift.size > 0) lists.show(shown);
    if (parts === null || parts.nodes.size > 0) drawFilters();
    status.show(shown, heard);
    drawEmpty(clusters, shown, isLoaded);
    showFound();
  }

  function showPast(snapshot: Snapshot): void {
    shown = new Store();
    shown.replace(snapshot);
    status.say("");
    drawAll();
  }

  let namespaces = "";
  function drawFilters(): void {
    const names = [...new Set([...shown.nodes.values()].map((node) => node.namespace ?? ""))].sort();
    if (names.join() === namespaces) return;
    namespaces = names.join();
    const form = byId("filters").querySelector("form");
    if (form !== null) drawForm(form, filters, names, () => {
      showFiltered();
      graph.decorate();
      showFound();
    });
  }

  function showFiltered(): void {
    byId("filters-active").textContent = filters.count > 0 ? `(${filters.count})` : "";
    setQuery({ filter: filters.text });
  }

  // --- choosing -----------------------------------------------------------------------------------

  function choose(chosen: Chosen | null, { isFocus = false } = {}): void {
    selection = chosen;
    asked = null;
    setQuery({ chosen: chosenText(chosen) });
    graph.select(chosen?.id ?? "", { isFocus });
    if (chosen !== null) show("details");
    panel.show(selection, shown, marks);
    const node: GraphNode | undefined = chosen?.type === "node" ? shown.nodes.get(chosen.id) : undefined;
    byId("spoken").textContent = node ? `${kindName(node)} ${nodeTitle(node)}, ${node.namespace ?? ""}` : "";
  }

  function show(tab: string): void {
    openTab(tab);
    setQuery({ tab: tab === "details" ? "" : tab });
  }

  // From a finding or drift to its object, in the graph too where it is there.
  function jump(object: Reference, cluster: string): void {
    const [id] = marks.nodesOf(object, cluster);
    choose({ type: "object", object, cluster, id }, { isFocus: true });
  }

  function follow(cluster: string, graphType: string): void {
    // What was chosen, and when, is of the graph that was there.
    if (followed.cluster !== "") {
      asked = null;
      setQuery({ chosen: "", at: "" });
    }
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
    travel.open(cluster === ALL ? "" : cluster, graphType, address.peek().get("at") ?? "").catch((error: Error) => status.say(`no moments: ${error.message}`));
    setQuery({ cluster, graphType });
  }

  function showClusters(told: readonly About[]): void {
    clusters = told;
    const select = byId<HTMLSelectElement>("cluster");
    const before = select.value || wanted.get("cluster") || "";
    const all = told.length > 1 ? [make("option", { value: ALL }, "all clusters")] : [];
    select.replaceChildren(...told.map((about) =>
      make("option", { value: about.cluster }, about.name || about.cluster)), ...all);
    const isThere = told.some((about) => about.cluster === before) || (before === ALL && all.length > 0);
    select.value = isThere ? before : told[0]?.cluster ?? "";
    if (select.value !== (followed.cluster)) follow(select.value, graphType.value);
    drawEmpty(clusters, shown, isLoaded);
  }

  function showFound(): void {
    byId("search-count").textContent = graph.search ? `${graph.found.length} found` : "";
  }

  let place = -1;
  function search(text: string): void {
    graph.search = text.trim();
    setQuery({ q: graph.search });
    place = -1;
    graph.decorate();
    showFound();
  }

  function nextFound(): void {
    const found = graph.found;
    if (found.length === 0) return;
    place = (place + 1) % found.length;
    const next = found[place];
    if (next !== undefined) choose({ type: "node", id: next.id() }, { isFocus: true });
  }

  function escape(): void {
    const field = searched, menu = byId<HTMLDetailsElement>("filters");
    if (menu.open) menu.open = false;
    else if (field.value) {
      field.value = "";
      search("");
    } else if (selection !== null) choose(null);
    else travel.back();
    if (document.activeElement === field) byId("graph").focus();
  }

  // --- controls -----------------------------------------------------------------------------------

  // As the address says, else as it was the last time. An empty choice stands there as `none`.
  function remembered(id: string, use: (value: string) => void): void {
    const control = byId<HTMLSelectElement>(id), usual = control.value;
    const take = () => {
      use(control.value);
      setQuery({ [id]: control.value === usual ? "" : control.value || "none" });
    };
    choice(control, wanted.get(id)?.replace(/^none$/, "") ?? localStorage.getItem(id));
    control.addEventListener("change", () => {
      localStorage.setItem(id, control.value);
      take();
    });
    take();
  }

  // Chooses what there is to be chosen; anything else leaves it as it is.
  function choice(control: HTMLSelectElement, value: string | null): void {
    if ([...control.options].some((one) => one.value === value)) control.value = value ?? "";
  }

  const restyled = effect(() => {
    void isDark.value;
    graph.restyle();
  });
  remembered("boxes", (value) => graph.setBoxes(value));
  remembered("edge-labels", (value) => graph.setLabels(value));
  const layout = byId<HTMLSelectElement>("layout"), chosenCluster = byId<HTMLSelectElement>("cluster");
  const layOut = () => graph.layOut();
  choice(layout, wanted.get("layout"));
  graph.layout = layout.value;
  layout.addEventListener("change", () => {
    graph.layout = layout.value;
    setQuery({ layout: layout.value });
    layOut();
  });
  byId("lay-out").addEventListener("click", layOut);
  for (const control of [chosenCluster, graphType]) {
    control.addEventListener("change", () => follow(chosenCluster.value, graphType.value));
  }
  filters.read(wanted.get("filter") ?? "");
  showFiltered();
  searched.value = wanted.get("q") ?? "";
  search(searched.value);
  searched.addEventListener("input", () => search(searched.value));
  searched.addEventListener("keydown", (event) => { if (event.key === "Enter") nextFound(); });
  const legend = byId("legend").querySelector("div");
  if (legend !== null) drawLegend(legend);
  const leaving = new AbortController();
  keys(graph, {
    choose: (chosen) => choose(chosen, { isFocus: true }),
    selected: () => selection?.id ?? null, escape, layOut, opened: show, signal: leaving.signal,
  });
  choice(graphType, wanted.get("graphType"));
  panel.show(null, live, marks);
  const ends = [
    stream.on<Snapshot>("snapshot", (told) => {
      live.replace(told);
      isLoaded = true;
      if (shown === live) drawAll();
    }),
    stream.on<Delta>("delta", (told) => {
      live.apply(told, touched);
      heard = { time: told.time, delay: Date.now() - Date.parse(told.time) };
      if (followed.cluster !== ALL) travel.add(told.time);
      pace.ask();
    }),
    stream.on<About[]>("clusters", showClusters),
    stream.on<{ cluster: string }>("gone", ({ cluster }) => {
      if (live instanceof Together) live.drop(cluster);
      else live.replace({ cluster: "", nodes: [], edges: [], findings: {}, drift: {}, info: {} });
      if (shown === live) drawAll();
    }),
    stream.state.subscribe((state) => status.connection(state)),
  ];
  const tab = wanted.get("tab");
  if (tab === "findings" || tab === "drift") openTab(tab);
  follow(wanted.get("cluster") ?? "", graphType.value);

  // For whoever looks into it by hand, and for tests in a browser.
  Object.assign(window, { meshbus: { graph, stream, travel, get live() { return live; }, keyOf, PARTS } });

  return () => {
    leaving.abort();
    restyled();
    for (const end of ends) end();
    pace.end();
    travel.end();
    delete document.body.dataset["time"];
    graph.cy.destroy();
  };
}
