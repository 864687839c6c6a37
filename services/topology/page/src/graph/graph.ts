// The drawn graph. It remembers what it drew of each item and touches only elements whose picture is
// another one now: positions, selection and everything else on the screen stay.

import cytoscape, { type Core, type EdgeSingular, type NodeCollection, type NodeSingular } from "cytoscape";
import type { GraphEdge, GraphNode } from "../contract/graph";
import { badgesOf } from "./badges";
import {
  edgeKind, edgeLabel, edgeTraffic, health, nodeKind, nodeLabel, searchText, weight,
} from "./describe";
import type { Filters } from "./filters";
import { placeNew, run } from "./layouts";
import { looks } from "./looks";
import type { Marks } from "./marks";
import type { Chosen } from "./panel";
import type { Store, Touched } from "./store";

export const LARGE = 300;
const MOST_PLACES = 2_000;
// An hour of jobs that come and go has twenty times as many.
const MOST_NAMES = 10_000;
const MOVING_MS = 150; // After the last movement of the picture it is taken for still.

// What an element looks like: Cytoscape's style sheet goes by these data.
type Picture = Record<string, string | number | boolean>;

interface Place {
  x: number;
  y: number;
}

export class Graph {
  search = "";
  layout = "flow";
  isLaidOut = false;
  readonly cy: Core;
  private readonly filters: Filters;
  private boxes = "";
  private labels = "rate";
  private isLarge = false;
  private names = 0; // Elements added since the renderer was made.
  private movedAt = -MOVING_MS;
  private hasMoved = false; // A node has come, left or changed its box, since boxes were looked at.
  private shown: { store: Store; marks: Marks } | null = null;
  private readonly nodes = new Map<string, Picture>(); // Id → what is drawn of it.
  private readonly edges = new Map<string, Picture>();
  private readonly places = new Map<string, Place>(); // Where nodes stood that are gone: they may come back.

  constructor(container: HTMLElement, { filters, onSelect }: { filters: Filters; onSelect: (chosen: Chosen | null) => void }) {
    this.filters = filters;
    this.cy = cytoscape({
      container, style: looks(false), minZoom: 0.03, maxZoom: 4, textureOnViewport: true,
      boxSelectionEnabled: false, selectionType: "single", autounselectify: false,
    });
    this.cy.on("viewport", () => { this.movedAt = performance.now(); });
    this.cy.on("tap", (event) => {
      if (event.target === this.cy) onSelect(null);
      else if (!event.target.data("box")) {
        onSelect({ type: event.target.group() === "nodes" ? "node" : "edge", id: event.target.id() });
      }
    });
  }

  // Draws what is touched (null: everything that differs) and marks it.
  show(store: Store, marks: Marks, touched: Touched | null): void {
    this.shown = { store, marks };
    const added: NodeSingular[] = [];
    this.cy.batch(() => {
      for (const id of touched?.nodes ?? union(this.nodes, store.nodes)) this.drawNode(store, marks, id, added);
      const edges = new Set(touched?.edges ?? union(this.edges, store.edges));
      for (const id of this.loose(store, added)) edges.add(id);
      for (const id of edges) this.drawEdge(store, id);
      if (this.hasMoved) this.dropEmptyBoxes();
    });
    this.resize();
    // Where most is new there are no places to keep.
    const isNew = this.nodes.size > 0 && (!this.isLaidOut || 2 * added.length > this.nodes.size);
    if (isNew) this.layOut();
    else placeNew(this.cy, added.filter((node) => !this.places.has(node.id())));
    for (const node of added) this.places.delete(node.id());
    this.renew();
    this.decorate(touched === null ? null : [...touched.nodes, ...touched.edges]);
  }

  private drawNode(store: Store, marks: Marks, id: string, added: NodeSingular[]): void {
    const node = store.nodes.get(id);
    const known = this.nodes.get(id);
    // Boxes are drawn here as the reader wants them, not as the server groups them.
    if (node === undefined || node.isBox) {
      if (known !== undefined) this.remove(id);
      return;
    }
    const group = this.groupOf(node);
    const picture: Picture = {
      label: nodeLabel(node), kind: nodeKind(node), health: health(node), idle: !!node.isIdle,
      dead: !!node.isDead, outside: !!(node.isOutside || node.isInaccessible), box: false,
      level: marks.worst(id), drift: marks.drift.has(id), group,
      badges: badgesOf(node),
    };
    if (known !== undefined && equal(known, picture)) return;
    this.nodes.set(id, picture);
    const parent = this.boxFor(node, group);
    if (known === undefined) {
      const position = this.places.get(id);
      const data = { ...picture, id, ...(parent !== null && { parent }) };
      const drawn = { group: "nodes", data, ...(position && { position }) } as const;
      added.push(this.cy.add(drawn)[0] as NodeSingular);
      this.names += 1;
      this.hasMoved = true;
      return;
    }
    const element = this.cy.getElementById(id);
    element.data(picture);
    if (known["group"] === group) return;
    element.move({ parent });
    this.hasMoved = true;
  }

  private drawEdge(store: Store, id: string): void {
    const edge = store.edges.get(id);
    const known = this.edges.get(id);
    if (edge === undefined) {
      if (known === undefined) return;
      const element = this.cy.getElementById(id);
      const source = element.source(), target = element.target();
      element.remove();
      this.edges.delete(id);
      cover(source, target);
      return;
    }
    // An end that is not there yet brings its edges when it comes.
    if (!this.nodes.has(edge.source) || !this.nodes.has(edge.target)) return;
    const picture: Picture = {
      label: edgeLabel(edge, this.labels), state: stateOf(edge), weight: weight(edge),
    };
    if (known !== undefined && equal(known, picture)) return;
    this.edges.set(id, picture);
    if (known === undefined) {
      const { source, target } = edge;
      this.cy.add({ group: "edges", data: { ...picture, id, source, target, covered: false } });
      this.names += 1;
    } else this.cy.getElementById(id).data(picture);
    if (known?.["state"] !== picture["state"]) {
      cover(this.cy.getElementById(edge.source), this.cy.getElementById(edge.target));
    }
  }

  private remove(id: string): void {
    const element = this.cy.getElementById(id);
    this.places.set(id, { ...element.position() });
    // The oldest go first: what comes under new names all the time would fill the tab.
    const [oldest] = this.places.keys();
    if (this.places.size > MOST_PLACES && oldest !== undefined) this.places.delete(oldest);
    element.connectedEdges().forEach((edge) => { this.edges.delete(edge.id()); });
    element.remove();
    this.nodes.delete(id);
    this.hasMoved = true;
  }

  // Edges that waited for one of the added nodes.
  private loose(store: Store, added: readonly NodeSingular[]): string[] {
    if (added.length === 0) return [];
    const ids = new Set(added.map((node) => node.id()));
    return [...store.edges.values()]
      .filter((edge) => !this.edges.has(edge.id) && (ids.has(edge.source) || ids.has(edge.target)))
      .map((edge) => edge.id);
  }

  // --- boxes ------------------------------------------------------------------------------------

  private groupOf(node: GraphNode): string {
    const { cluster = "", namespace = "", app = "" } = node;
    switch (this.boxes) {
      case "cluster": return cluster;
      case "namespace": return namespace && `${cluster}/${namespace}`;
      case "app": return app && `${cluster}/${namespace}/${app}`;
      default: return "";
    }
  }

  private boxFor(node: GraphNode, group: string): string | null {
    if (!group) return null;
    const id = `box|${group}`;
    if (this.cy.getElementById(id).empty()) {
      const label = String(node[this.boxes as "cluster" | "namespace" | "app"]);
      this.cy.add({ group: "nodes", selectable: false, data: { id, label, box: true, kind: "box" } });
    }
    return id;
  }

  private get boxed(): NodeCollection {
    return this.cy.nodes("[?box]");
  }

  private dropEmptyBoxes(): void {
    this.boxed.filter((box) => box.isChildless()).remove();
  }

  setBoxes(boxes: string): void {
    this.boxes = boxes;
    this.again();
    if (this.isLaidOut) this.layOut();
  }

  // --- looks ------------------------------------------------------------------------------------

  setLabels(labels: string): void {
    this.labels = labels;
    this.again();
  }

  private again(): void {
    if (this.shown !== null) this.show(this.shown.store, this.shown.marks, null);
  }

  restyle(): void {
    this.cy.style(looks(this.isLarge));
  }

  // A large graph is drawn with less.
  private resize(): void {
    const isLarge = this.nodes.size > (this.isLarge ? 0.8 * LARGE : LARGE);
    if (isLarge === this.isLarge) return;
    this.isLarge = isLarge;
    this.dress();
  }

  private dress(): void {
    (this.cy as Core & { renderer: () => { hideEdgesOnViewport: boolean } }).renderer().hideEdgesOnViewport = this.isLarge;
    this.restyle();
  }

  // Cytoscape's renderer remembers the name of each element that it ever drew; a new one begins empty.
  private renew(): void {
    const container = this.cy.container();
    // Not while somebody holds the picture.
    if (this.names < MOST_NAMES || container === null || container.matches(":active")) return;
    this.names = 0;
    this.cy.mount(container);
    this.dress();
  }

  layOut(): void {
    run(this.cy, this.layout);
    this.places.clear();
    this.isLaidOut = true;
  }

  // Hides what the filters leave out and marks what the search finds; of some elements, or all.
  decorate(ids: readonly string[] | null = null): void {
    if (this.shown === null) return;
    const { store, marks } = this.shown;
    // A box goes with all that is in it: to look through all boxes at each change costs what a picture does.
    let isOther = ids === null || this.hasMoved;
    this.hasMoved = false;
    const words = this.search.toLowerCase().split(/\s+/).filter(Boolean);
    const all = ids === null ? [...this.nodes.keys(), ...this.edges.keys()] : ids;
    this.cy.batch(() => {
      for (const id of all) {
        const node = store.nodes.get(id);
        const element = this.cy.getElementById(id);
        if (element.empty()) continue;
        if (node === undefined) {
          const edge = store.edges.get(id);
          toggle(element, "hidden", edge !== undefined && !this.filters.showsEdge(edge));
          toggle(element, "faded", words.length > 0);
          continue;
        }
        const isFound = words.length > 0 && finds(node, words);
        isOther = toggle(element, "hidden", !this.filters.showsNode(node, marks)) || isOther;
        toggle(element, "found", isFound);
        toggle(element, "faded", words.length > 0 && !isFound);
      }
      if (isOther) {
        this.boxed.forEach((box) => {
          toggle(box, "hidden", box.children().nodes().every((child) => (child as NodeSingular).hasClass("hidden")));
        });
      }
    });
  }

  get found(): NodeCollection {
    return this.cy.nodes(".found").not(".hidden").nodes();
  }

  // --- selection --------------------------------------------------------------------------------

  select(id: string, { isFocus = false } = {}): void {
    const element = this.cy.getElementById(id);
    this.cy.elements(":selected").unselect();
    if (element.empty()) return;
    element.select();
    if (isFocus && !isInView(this.cy, element)) this.cy.center(element);
  }

  // Whether the reader, or a layout, moves the picture.
  get isMoving(): boolean {
    return performance.now() - this.movedAt < MOVING_MS;
  }

  fit(): void {
    this.cy.fit(this.cy.elements().not(".hidden"), 40);
  }
}

function stateOf(edge: GraphEdge): string {
  const kind = edgeKind(edge);
  if (kind !== "traffic") return kind;
  const level = health(edge);
  if (level !== "na") return level;
  const traffic = edgeTraffic(edge);
  if (traffic.every((one) => one.protocol === "tcp")) return "tcp";
  const errors = Math.max(...traffic.map((one) => one.errors));
  return errors >= 10 ? "failure" : errors > 0 ? "degraded" : "healthy";
}

// An idle edge is not drawn beside another one between the same nodes: it would tell nothing.
function cover(source: NodeSingular, target: NodeSingular): void {
  if (source.empty() || target.empty()) return;
  const edges = source.edgesTo(target);
  if (edges.length === 0) return;
  const tells = edges.some((edge) => edge.data("state") !== "idle");
  edges.forEach((edge) => {
    const isCovered = tells && edge.data("state") === "idle";
    if (edge.data("covered") !== isCovered) edge.data("covered", isCovered);
  });
}

function isInView(cy: Core, element: NodeSingular | EdgeSingular): boolean {
  const { x, y } = element.isNode() ? element.renderedPosition() : element.renderedMidpoint();
  return x > 0 && y > 0 && x < cy.width() && y < cy.height();
}

function finds(node: GraphNode, words: readonly string[]): boolean {
  const text = searchText(node);
  return words.every((word) => text.includes(word));
}

// Whether it was otherwise before.
function toggle(element: NodeSingular | EdgeSingular, name: string, isOn: boolean): boolean {
  if (element.hasClass(name) === isOn) return false;
  element.toggleClass(name, isOn);
  return true;
}

function equal(one: Picture, other: Picture): boolean {
  return Object.keys(other).every((key) => one[key] === other[key]);
}

function union(one: ReadonlyMap<string, unknown>, other: ReadonlyMap<string, unknown>): Set<string> {
  return new Set([...one.keys(), ...other.keys()]);
}
