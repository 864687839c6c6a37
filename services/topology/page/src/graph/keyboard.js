// Keys. In the graph, arrows go from node to node; elsewhere single letters act unless one is typing.

import { byId, make } from "./dom.js";

const WAYS = {
  ArrowLeft: { x: -1, y: 0 }, ArrowRight: { x: 1, y: 0 },
  ArrowUp: { x: 0, y: -1 }, ArrowDown: { x: 0, y: 1 },
};

const HELP = [
  ["← → ↑ ↓", "to the neighbour in that direction (in the graph)"],
  ["Enter", "details of the selected node"],
  ["/", "search; Enter goes to what was found, again to the next"],
  ["Esc", "back: closes, clears the search, the selection, returns to live"],
  ["f", "fit everything into view"], ["l", "lay out anew"], ["+ −", "nearer, farther"],
  ["?", "this help"],
];

export function keys(graph, { choose, selected, escape, layOut, signal }) {
  const actions = {
    "/": () => byId("search").focus(),
    "?": help,
    f: () => graph.fit(),
    l: layOut,
    "+": () => zoom(graph.cy, 1.25),
    "-": () => zoom(graph.cy, 0.8),
  };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Escape" && !byId("help").open) escape();
    if (event.target.closest("input, select, textarea, dialog")) return;
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
  tabs();
}

// The nearest node in a direction: of the connected ones, else of all. Without a start, the first.
function neighbour(cy, id, way) {
  const shown = cy.nodes().not(".hidden").filter((node) => !node.data("box"));
  const start = id === null ? cy.collection() : cy.getElementById(id);
  if (start.empty() || !start.isNode()) {
    return shown.min((node) => node.position("x") + node.position("y")).ele;
  }
  const from = start.position();
  const cost = (node) => {
    const x = node.position("x") - from.x, y = node.position("y") - from.y;
    const along = x * way.x + y * way.y, aside = Math.abs(x * way.y) + Math.abs(y * way.x);
    return along > 0 && aside <= 2 * along ? along + 2 * aside : Infinity;
  };
  for (const candidates of [start.neighborhood("node").intersection(shown), shown.not(start)]) {
    const { value, ele } = candidates.min(cost);
    if (value < Infinity) return ele;
  }
  return undefined;
}

function zoom(cy, factor) {
  cy.zoom({ level: cy.zoom() * factor, renderedPosition: { x: cy.width() / 2, y: cy.height() / 2 } });
}

function help() {
  const dialog = byId("help");
  dialog.replaceChildren(
    make("h2", { id: "help-title" }, "Keys"),
    make("dl", {}, HELP.map(([key, text]) =>
      [make("dt", {}, make("kbd", {}, key)), make("dd", {}, text)])),
    make("form", { method: "dialog" }, make("button", { autofocus: true }, "Close")),
  );
  dialog.showModal();
}

export function openTab(name) {
  for (const tab of document.querySelectorAll('[role="tab"]')) {
    const isOpen = tab.id === `tab-${name}`;
    tab.setAttribute("aria-selected", String(isOpen));
    tab.tabIndex = isOpen ? 0 : -1;
    byId(tab.getAttribute("aria-controls")).hidden = !isOpen;
  }
}

function tabs() {
  const all = [...document.querySelectorAll('[role="tab"]')];
  all.forEach((tab, index) => {
    tab.addEventListener("click", () => openTab(tab.getAttribute("aria-controls")));
    tab.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (step === undefined) return;
      const next = all[(index + step + all.length) % all.length];
      next.click();
      next.focus();
    });
  });
}
