// Keys. In the graph, arrows go from node to node; elsewhere single letters act unless one is typing.

import type { Core, NodeCollection, NodeSingular } from "cytoscape";
import { byId, make } from "./dom";
import type { Graph } from "./graph";
import type { Chosen } from "./panel";

interface Way {
  x: number;
  y: number;
}

interface Acts {
  choose: (chosen: Chosen) => void;
  // The id of what is selected.
  selected: () => string | null;
  escape: () => void;
  layOut: () => void;
  // Somebody has opened one of the tabs.
  opened: (tab: string) => void;
  // Ends the listening.
  signal: AbortSignal;
}

const WAYS: Record<string, Way> = {
  ArrowLeft: { x: -1, y: 0 }, ArrowRight: { x: 1, y: 0 },
  ArrowUp: { x: 0, y: -1 }, ArrowDown: { x: 0, y: 1 },
};

const HELP: readonly (readonly [key: string, text: string])[] = [
  ["← → ↑ ↓", "to the neighbour in that direction (in the graph)"],
  ["Enter", "details of the selected node"],
  ["/", "search; Enter goes to what was found, again to the next"],
  ["Esc", "back: closes, clears the search, the selection, returns to live"],
  ["f", "fit everything into view"], ["l", "lay out anew"], ["+ −", "nearer, farther"],
  ["?", "this help"],
];

export function keys(graph: Graph, { choose, selected, escape, layOut, opened, signal }: Acts): void {
  const actions: Record<string, () => void> = {
    "/": () => byId("search").focus(),
    "?": help,
    f: () => graph.fit(),
    l: layOut,
    "+": () => zoom(graph.cy, 1.25),
    "-": () => zoom(graph.cy, 0.8),
  };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Escape" && !byId<HTMLDialogElement>("help").open) escape();
    if (event.target instanceof Element && event.target.closest("input, select, textarea, dialog")) return;
    const action = actions[event.key];
    if (action === undefined) return;
    event.preventDefault();
    action();
  }, { signal });
  byId("graph").addEventListener("keydown", (event) => {
    const way = WAYS[event.key];
    if (way !== undefined) {
      event.preventDefault();
      const next = neighbour(graph.cy, selected(), way);
      if (next !== undefined) choose({ type: "node", id: next.id() });
    } else if (event.key === "Enter" && selected() !== null) {
      event.preventDefault();
      byId("tab-details").click();
      byId("details").focus();
    }
  });
  byId("help-open").addEventListener("click", help);
  tabs(opened);
}

// The nearest node in a direction: of the connected ones, else of all. Without a start, the first.
function neighbour(cy: Core, id: string | null, way: Way): NodeSingular | undefined {
  const shown = cy.nodes().filter((node) => !node.data("box") && !node.hasClass("hidden"));
  const start = id === null ? null : cy.getElementById(id);
  if (start === null || start.empty() || !start.isNode()) {
    return least(shown, (node) => node.position("x") + node.position("y"));
  }
  const from = start.position();
  const cost = (node: NodeSingular) => {
    const x = node.position("x") - from.x, y = node.position("y") - from.y;
    const along = x * way.x + y * way.y, aside = Math.abs(x * way.y) + Math.abs(y * way.x);
    return along > 0 && aside <= 2 * along ? along + 2 * aside : Infinity;
  };
  return least(start.neighborhood("node").intersection(shown).nodes(), cost) ?? least(shown.not(start).nodes(), cost);
}

// The one that costs least, where that is not endless.
function least(nodes: NodeCollection, cost: (node: NodeSingular) => number): NodeSingular | undefined {
  let found: NodeSingular | undefined, lowest = Infinity;
  nodes.forEach((node) => {
    const own = cost(node);
    if (own < lowest) [found, lowest] = [node, own];
  });
  return found;
}

function zoom(cy: Core, factor: number): void {
  cy.zoom({ level: cy.zoom() * factor, renderedPosition: { x: cy.width() / 2, y: cy.height() / 2 } });
}

function help(): void {
  const dialog = byId<HTMLDialogElement>("help");
  dialog.replaceChildren(
    make("h2", { id: "help-title" }, "Keys"),
    make("dl", {}, HELP.map(([key, text]) =>
      [make("dt", {}, make("kbd", {}, key)), make("dd", {}, text)])),
    make("form", { method: "dialog" }, make("button", { autofocus: true }, "Close")),
  );
  dialog.showModal();
}

export function openTab(name: string): void {
  for (const tab of allTabs()) {
    const isOpen = tab.id === `tab-${name}`;
    tab.setAttribute("aria-selected", String(isOpen));
    tab.tabIndex = isOpen ? 0 : -1;
    byId(panelOf(tab)).hidden = !isOpen;
  }
}

const allTabs = (): HTMLElement[] => [...document.querySelectorAll<HTMLElement>('[role="tab"]')];
const panelOf = (tab: HTMLElement): string => tab.getAttribute("aria-controls") ?? "";

function tabs(opened: (tab: string) => void): void {
  const all = allTabs();
  all.forEach((tab, index) => {
    tab.addEventListener("click", () => {
      openTab(panelOf(tab));
      opened(panelOf(tab));
    });
    tab.addEventListener("keydown", (event) => {
      const step = event.key === "ArrowLeft" ? -1 : event.key === "ArrowRight" ? 1 : 0;
      if (step === 0) return;
      const next = all[(index + step + all.length) % all.length];
      next?.click();
      next?.focus();
    });
  });
}
