// Where nodes stand. `flow` is our own: it is linear in the number of nodes and edges, gives the same
// picture for the same graph, and knows boxes, none of which the fast ones of Cytoscape do.

import type { Core, LayoutOptions, NodeCollection, NodeSingular } from "cytoscape";

// Of a group: its box, or the number of its connected component.
type Key = string | number;

interface Place {
  x: number;
  y: number;
}

// Nodes that are laid out together, from 0, 0 on.
interface Block {
  places: Map<string, Place>;
  width: number;
  height: number;
}

const STEP_X = 150;
const STEP_Y = 85;
const GAP = 90;
const MOST_IN_COLUMN = 12;

export function run(cy: Core, name: string): void {
  const shown = cy.elements().not(".hidden");
  if (shown.empty()) return;
  const options = { animate: false, fit: true, padding: 40 };
  if (name === "flow") {
    const places = flow(cy);
    shown.nodes().filter((node) => places.has(node.id())).layout({
      ...options, name: "preset", positions: ((node: NodeSingular) => places.get(node.id())) as unknown as { [id: string]: Place },
    }).run();
  } else {
    shown.layout({ ...options, ...OPTIONS[name], name } as LayoutOptions).run();
  }
  // A handful of nodes must not fill the screen.
  if (cy.zoom() > 1.5) {
    cy.zoom(1.5);
    cy.center(shown);
  }
}

const OPTIONS: Record<string, object> = {
  breadthfirst: { directed: true, spacingFactor: 1.1 },
  concentric: { minNodeSpacing: 30, concentric: (node: NodeSingular) => node.degree(false), levelWidth: () => 3 },
  cose: { numIter: 400, nodeRepulsion: () => 30_000, idealEdgeLength: () => 90, randomize: false },
  grid: { spacingFactor: 1.2, avoidOverlap: true },
};

// Node id → position. Groups (boxes, else connected components) are drawn as columns of layers and
// set beside each other like words in lines.
function flow(cy: Core): Map<string, Place> {
  const nodes = cy.nodes().filter((node) => !node.data("box") && !node.hasClass("hidden"));
  const groups = new Map<Key, NodeSingular[]>();
  const isBoxed = cy.nodes("[?box]").nonempty();
  const component = isBoxed ? null : components(nodes);
  nodes.forEach((node) => {
    const key = (isBoxed ? node.data("parent") as string | null : component?.get(node.id())) ?? "";
    const known = groups.get(key);
    if (known === undefined) groups.set(key, [node]);
    else known.push(node);
  });
  // In the order in which requests come through.
  const depths = groupDepths(groups);
  const depthOf = (key: Key) => depths.get(key) ?? 0;
  const blocks = [...groups]
    .sort(([a, one], [b, other]) => depthOf(a) - depthOf(b) || other.length - one.length)
    .map(([, inside]) => block(inside));
  const area = blocks.reduce((sum, b) => sum + (b.width + GAP) * (b.height + GAP), 0);
  const widest = Math.max(Math.sqrt(area) * 1.5, ...blocks.map((b) => b.width));
  const places = new Map<string, Place>();
  let x = 0, y = 0, line = 0;
  for (const { places: inside, width, height } of blocks) {
    if (x > 0 && x + width > widest) {
      x = 0;
      y += line + GAP;
      line = 0;
    }
    for (const [id, place] of inside) places.set(id, { x: x + place.x, y: y + place.y });
    x += width + GAP;
    line = Math.max(line, height);
  }
  return places;
}

// Group → how many groups requests have come through; what has to do with no other one is last.
function groupDepths(groups: ReadonlyMap<Key, readonly NodeSingular[]>): Map<Key, number> {
  const groupOf = new Map<string, Key>();
  for (const [key, nodes] of groups) for (const node of nodes) groupOf.set(node.id(), key);
  const next = new Map([...groups.keys()].map((key) => [key, new Set<Key>()]));
  const entered = new Set<Key>();
  for (const [key, nodes] of groups) {
    for (const node of nodes) {
      node.outgoers("edge").forEach((edge) => {
        const to = groupOf.get(edge.data("target") as string);
        if (to === undefined || to === key) return;
        next.get(key)?.add(to);
        entered.add(to);
      });
    }
  }
  const busy = [...groups.keys()].filter((key) => entered.has(key) || (next.get(key)?.size ?? 0) > 0);
  const depths = depthsOf(busy, next, entered);
  for (const key of groups.keys()) if (!depths.has(key)) depths.set(key, groups.size);
  return depths;
}

function components(nodes: NodeCollection): Map<string, number> {
  const found = new Map<string, number>();
  let count = 0;
  nodes.forEach((start) => {
    if (found.has(start.id())) return;
    const waiting = [start];
    found.set(start.id(), count);
    while (waiting.length > 0) {
      waiting.pop()?.neighborhood("node").nodes().forEach((next) => {
        if (next.hasClass("hidden") || found.has(next.id())) return;
        found.set(next.id(), count);
        waiting.push(next);
      });
    }
    count += 1;
  });
  // All that is connected to nothing is one group.
  nodes.forEach((node) => {
    if (node.degree(false) === 0) found.set(node.id(), -1);
  });
  return found;
}

function block(nodes: readonly NodeSingular[]): Block {
  const depths = layers(nodes);
  const columns: NodeSingular[][] = [];
  for (const node of nodes) (columns[depths.get(node.id()) ?? 0] ??= []).push(node);
  const places = new Map<string, Place>();
  let x = 0, height = 0;
  for (const column of columns.filter(Boolean)) {
    // Beside what calls them, so that edges run level and cross little.
    const wanted = new Map(column.map((node) => [node, callersY(node, places)]));
    const yOf = (node: NodeSingular) => wanted.get(node) ?? 0;
    column.sort((a, b) => yOf(a) - yOf(b) || (a.data("label") < b.data("label") ? -1 : 1));
    const isLong = column.length > MOST_IN_COLUMN;
    for (let start = 0; start < column.length; start += MOST_IN_COLUMN) {
      let y = 0;
      for (const node of column.slice(start, start + MOST_IN_COLUMN)) {
        if (!isLong) y = Math.max(y, STEP_Y * Math.round(yOf(node) / STEP_Y));
        places.set(node.id(), { x, y });
        y += STEP_Y;
        height = Math.max(height, y);
      }
      x += STEP_X;
    }
  }
  return { places, width: x, height };
}

// The mean height of the callers that have a place; 0 without any.
function callersY(node: NodeSingular, places: ReadonlyMap<string, Place>): number {
  const found = node.incomers("node").map((caller) => places.get(caller.id())?.y)
    .filter((y): y is number => y !== undefined);
  return found.length === 0 ? 0 : found.reduce((sum, y) => sum + y, 0) / found.length;
}

// Steps from where requests enter the group, by breadth first; a circle is entered anywhere.
function layers(nodes: readonly NodeSingular[]): Map<string, number> {
  const ids = new Set(nodes.map((node) => node.id()));
  const next = new Map(nodes.map((node) => [node.id(), [] as string[]]));
  const entered = new Set<string>();
  for (const node of nodes) {
    node.outgoers("edge").forEach((edge) => {
      const target = edge.data("target") as string;
      if (!ids.has(target) || target === node.id()) return;
      next.get(node.id())?.push(target);
      entered.add(target);
    });
  }
  return depthsOf([...ids], next, entered);
}

// Key → steps by breadth first from those that nothing leads to, then from what is left.
function depthsOf<K>(keys: readonly K[], next: ReadonlyMap<K, Iterable<K>>, entered: ReadonlySet<K>): Map<K, number> {
  const depths = new Map<K, number>();
  const roots = keys.filter((key) => !entered.has(key));
  for (const start of [roots, ...keys.map((key) => [key])]) {
    let level = start.filter((key) => !depths.has(key));
    level.forEach((key) => depths.set(key, 0));
    for (let depth = 1; level.length > 0; depth += 1) {
      level = level.flatMap((key) => [...next.get(key) ?? []]).filter((key) => {
        if (depths.has(key)) return false;
        depths.set(key, depth);
        return true;
      });
    }
  }
  return depths;
}

// Sets new nodes beside their neighbours that have a place, each a little further than the last.
export function placeNew(cy: Core, added: readonly NodeSingular[]): void {
  if (added.length === 0) return;
  const isNew = new Set(added.map((node) => node.id()));
  const bounds = cy.nodes().filter((node) => !isNew.has(node.id())).boundingBox();
  const orphans = { x: (bounds.x2 || 0) + STEP_X, y: bounds.y1 || 0 };
  added.forEach((node, index) => {
    const near = node.neighborhood("node").filter((other) => !isNew.has(other.id()));
    const siblings = near.nonempty() ? near
      : node.siblings("node").filter((other) => !isNew.has(other.id()));
    if (siblings.empty()) {
      node.position({ x: orphans.x, y: orphans.y });
      orphans.y += STEP_Y;
      return;
    }
    const centre = { x: 0, y: 0 };
    siblings.forEach((other) => {
      centre.x += other.position("x") / siblings.length;
      centre.y += other.position("y") / siblings.length;
    });
    const angle = 2.4 * index + 0.6; // The golden angle: no two in the same place.
    const distance = STEP_Y + 8 * Math.sqrt(index);
    node.position({
      x: centre.x + distance * Math.cos(angle), y: centre.y + distance * Math.sin(angle),
    });
    isNew.delete(node.id());
  });
}
