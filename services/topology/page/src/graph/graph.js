// The drawn graph. It remembers what it drew of each item and touches only elements whose picture is
// another one now: positions, selection and everything else on the screen stay.

import cytoscape from "cytoscape";
import { badgesOf } from "./badges.js";
import {
  edgeKind, edgeLabel, edgeTraffic, health, nodeKind, nodeLabel, searchText, weight,
} from "./describe.js";
import { placeNew, run } from "./layouts.js";
import { looks } from "./looks.js";

export const LARGE = 300;

export class Graph {
  // `onSelect` gets {type: "node" | "edge", id} or null.
  constructor(container, { filters, onSelect }) {
    this.filters = filters;
    this.boxes = "";
    this.labels = "rate";
    this.search = "";
    this.isLaidOut = false;
    this.isLarge = false;
    this.nodes = new Map(); // Id → what is drawn of it.
    this.edges = new Map();
    this.places = new Map(); // Where nodes stood that are gone: they may come back.
    this.cy = cytoscape({
      container, style: looks(false), minZoom: 0.03, maxZoom: 4, textureOnViewport: true,
      boxSelectionEnabled: false, selectionType: "single", autounselectify: false,
    });
    this.cy.on("tap", (event) => {
      if (event.target === this.cy) onSelect(null);
      else if (!event.target.data("box")) {
        onSelect({ type: event.target.group() === "nodes" ? "node" : "edge", id: event.target.id() });
      }
    });
  }

  // Draws what is touched (null: everything that differs) and marks it.
  show(store, marks, touched) {
    this.store = store;
    this.marks = marks;
    const added = [];
    this.cy.batch(() => {
      for (const id of touched?.nodes ?? union(this.nodes, store.nodes)) this.drawNode(id, added);
      const edges = new Set(touched?.edges ?? union(this.edges, store.edges));
      for (const id of this.loose(added)) edges.add(id);
      for (const id of edges) this.drawEdge(id);
      this.dropEmptyBoxes();
    });
    this.resize();
    // Where most is new there are no places to keep.
    const isNew = this.nodes.size > 0 && (!this.isLaidOut || 2 * added.length > this.nodes.size);
    if (isNew) this.layOut("flow");
    else placeNew(this.cy, added.filter((node) => !this.places.has(node.id())));
    for (const node of added) this.places.delete(node.id());
    this.decorate(touched === null ? null : [...touched.nodes, ...touched.edges]);
  }

  drawNode(id, added) {
    const node = this.store.nodes.get(id);
    const known = this.nodes.get(id);
    // Boxes are drawn here as the reader wants them, not as the server groups them.
    if (node === undefined || node.isBox) {
      if (known !== undefined) this.remove(id);
      return;
    }
    const picture = {
      label: nodeLabel(node), kind: nodeKind(node), health: health(node), idle: !!node.isIdle,
      dead: !!node.isDead, outside: !!(node.isOutside || node.isInaccessible), box: false,
      level: this.marks.worst(id), drift: this.marks.drift.has(id), group: this.groupOf(node),
      badges: badgesOf(node),
    };
    if (known !== undefined && equal(known, picture)) return;
    this.nodes.set(id, picture);
    const parent = this.boxFor(node, picture.group);
    if (known === undefined) {
      const position = this.places.get(id);
      added.push(this.cy.add({ group: "nodes", data: { ...picture, id, parent }, position }));
      return;
    }
    const element = this.cy.getElementById(id);
    element.data(picture);
    if (known.group !== picture.group) element.move({ parent });
  }

  drawEdge(id) {
    const edge = this.store.edges.get(id);
    const known = this.edges.get(id);
    if (edge === undefined) {
      if (known === undefined) return;
      const element = this.cy.getElementById(id);
      const [source, target] = [element.source(), element.target()];
      element.remove();
      this.edges.delete(id);
      cover(source, target);
      return;
    }
    // An end that is not there yet brings its edges when it comes.
    if (!this.nodes.has(edge.source) || !this.nodes.has(edge.target)) return;
    const picture = {
      label: edgeLabel(edge, this.labels), state: stateOf(edge), weight: weight(edge),
    };
    if (known !== undefined && equal(known, picture)) return;
    this.edges.set(id, picture);
    if (known === undefined) {
      const { source, target } = edge;
      this.cy.add({ group: "edges", data: { ...picture, id, source, target, covered: false } });
    } else this.cy.getElementById(id).data(picture);
    if (known?.state !== picture.state) {
      cover(this.cy.getElementById(edge.source), this.cy.getElementById(edge.target));
    }
  }

  remove(id) {
    const element = this.cy.getElementById(id);
    this.places.set(id, { ...element.position() });
    element.connectedEdges().forEach((edge) => { this.edges.delete(edge.id()); });
    element.remove();
    this.nodes.delete(id);
  }

  // Edges that waited for one of the added nodes.
  loose(added) {
    if (added.length === 0) return [];
    const ids = new Set(added.map((node) => node.id()));
    return [...this.store.edges.values()]
      .filter((edge) => !this.edges.has(edge.id) && (ids.has(edge.source) || ids.has(edge.target)))
      .map((edge) => edge.id);
  }

  // --- boxes ------------------------------------------------------------------------------------

  groupOf(node) {
    const { cluster = "", namespace = "", app = "" } = node;
    switch (this.boxes) {
      case "cluster": return cluster;
      case "namespace": return namespace && `${cluster}/${namespace}`;
      case "app": return app && `${cluster}/${namespace}/${app}`;
      default: return "";
    }
  }

  boxFor(node, group) {
    if (!group) return null;
    const id = `box|${group}`;
    if (this.cy.getElementById(id).empty()) {
      const label = String(node[this.boxes]);
      this.cy.add({ group: "nodes", selectable: false, data: { id, label, box: true, kind: "box" } });
    }
    return id;
  }

  dropEmptyBoxes() {
    this.cy.nodes("[?box]").filter((box) => box.isChildless()).remove();
  }

  setBoxes(boxes) {
    this.boxes = boxes;
    if (this.store !== undefined) this.show(this.store, this.marks, null);
    if (this.isLaidOut) this.layOut("flow");
  }

  // --- looks ------------------------------------------------------------------------------------

  setLabels(labels) {
    this.labels = labels;
    if (this.store !== undefined) this.show(this.store, this.marks, null);
  }

  restyle() {
    this.cy.style(looks(this.isLarge));
  }

  // A large graph is drawn with less.
  resize() {
    const isLarge = this.nodes.size > (this.isLarge ? 0.8 * LARGE : LARGE);
    if (isLarge === this.isLarge) return;
    this.isLarge = isLarge;
    this.cy.renderer().hideEdgesOnViewport = isLarge;
    this.restyle();
  }

  layOut(name) {
    run(this.cy, name);
    this.places.clear();
    this.isLaidOut = true;
  }

  // Hides what the filters leave out and marks what the search finds; of some elements, or all.
  decorate(ids = null) {
    const words = this.search.toLowerCase().split(/\s+/).filter(Boolean);
    const all = ids === null ? [...this.nodes.keys(), ...this.edges.keys()] : ids;
    this.cy.batch(() => {
      for (const id of all) {
        const node = this.store.nodes.get(id);
        const element = this.cy.getElementById(id);
        if (element.empty()) continue;
        if (node === undefined) {
          const edge = this.store.edges.get(id);
          toggle(element, "hidden", !this.filters.showsEdge(edge));
          toggle(element, "faded", words.length > 0);
          continue;
        }
        const isFound = words.length > 0 && finds(node, words);
        toggle(element, "hidden", !this.filters.showsNode(node, this.marks));
        toggle(element, "found", isFound);
        toggle(element, "faded", words.length > 0 && !isFound);
      }
      this.cy.nodes("[?box]").forEach((box) => {
        toggle(box, "hidden", box.children().every((child) => child.hasClass("hidden")));
      });
    });
  }

  get found() {
    return this.cy.nodes(".found").not(".hidden");
  }

  // --- selection --------------------------------------------------------------------------------

  select(id, { isFocus = false } = {}) {
    const element = this.cy.getElementById(id);
    this.cy.elements(":selected").unselect();
    if (element.empty()) return;
    element.select();
    if (isFocus && !isInView(this.cy, element)) this.cy.center(element);
  }

  fit() {
    this.cy.fit(this.cy.elements().not(".hidden"), 40);
  }
}

function stateOf(edge) {
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
function cover(source, target) {
  if (source.empty() || target.empty()) return;
  const edges = source.edgesTo(target);
  if (edges.length === 0) return;
  const tells = edges.some((edge) => edge.data("state") !== "idle");
  edges.forEach((edge) => {
    const isCovered = tells && edge.data("state") === "idle";
    if (edge.data("covered") !== isCovered) edge.data("covered", isCovered);
  });
}

function isInView(cy, element) {
  const { x, y } = element.isNode() ? element.renderedPosition() : element.renderedMidpoint();
  return x > 0 && y > 0 && x < cy.width() && y < cy.height();
}

function finds(node, words) {
  const text = searchText(node);
  return words.every((word) => text.includes(word));
}

function toggle(element, name, isOn) {
  if (element.hasClass(name) !== isOn) element.toggleClass(name, isOn);
}

function equal(one, other) {
  return Object.keys(other).every((key) => one[key] === other[key]);
}

function union(one, other) {
  return new Set([...one.keys(), ...other.keys()]);
}
