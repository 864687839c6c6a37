// The items of one cluster's view by id, and what a change touches. Items are whole: a delta's item
// replaces the one before, null removes it, so applying one twice does no harm.

export const PARTS = ["nodes", "edges", "findings", "drift", "info"];

export class Store {
  constructor() {
    for (const part of PARTS) this[part] = new Map();
    this.cluster = "";
    this.at = null; // The moment of a past state.
  }

  // Takes a whole state over.
  replace(snapshot) {
    this.cluster = snapshot.cluster;
    this.at = snapshot.at ?? null;
    this.nodes = new Map(snapshot.nodes.map((item) => [item.id, item]));
    this.edges = new Map(snapshot.edges.map((item) => [item.id, item]));
    for (const part of ["findings", "drift", "info"]) {
      this[part] = new Map(Object.entries(snapshot[part]));
    }
  }

  // Takes a delta over and notes in `touched` (part → set of ids) what it was about.
  apply(delta, touched) {
    for (const part of PARTS) {
      for (const [id, item] of Object.entries(delta[part] ?? {})) {
        if (item === null) this[part].delete(id);
        else this[part].set(id, item);
        touched[part].add(id);
      }
    }
  }

  get about() {
    return this.info.get("cluster") ?? {};
  }
}

export function nothingTouched() {
  return Object.fromEntries(PARTS.map((part) => [part, new Set()]));
}

export function same(one, other) {
  return one === other || JSON.stringify(one) === JSON.stringify(other);
}
