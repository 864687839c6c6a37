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

  // The token of the cluster that an item is of.
  clusterOf() {
    return this.cluster;
  }

  get about() {
    return this.info.get("cluster") ?? {};
  }
}

// The views of several clusters as one. A node that several tell of (one's own, and as another cluster's
// telemetry names it) is drawn once, as its own cluster has it; findings and drift are of their cluster.
export class Together extends Store {
  constructor() {
    super();
    this.cluster = "*";
    this.stores = new Map();
    this.owners = new Map(); // Part and id → the token of the cluster whose item is taken.
  }

  replace(snapshot) {
    const { cluster } = snapshot;
    const before = this.stores.get(cluster);
    const store = new Store();
    store.replace(snapshot);
    this.stores.set(cluster, store);
    for (const part of PARTS) {
      for (const id of new Set([...(before?.[part].keys() ?? []), ...store[part].keys()])) this.renew(part, id, cluster);
    }
  }

  drop(cluster) {
    const store = this.stores.get(cluster);
    this.stores.delete(cluster);
    for (const part of PARTS) for (const id of store?.[part].keys() ?? []) this.renew(part, id, cluster);
  }

  apply(delta, touched) {
    const store = this.stores.get(delta.cluster);
    if (store === undefined) return;
    const own = nothingTouched();
    store.apply(delta, own);
    for (const part of PARTS) {
      for (const id of own[part]) touched[part].add(this.renew(part, id, delta.cluster));
    }
  }

  // Takes the item that counts now; returns the id that it has here.
  renew(part, id, cluster) {
    if (part !== "nodes" && part !== "edges") {
      const key = `${cluster} ${id}`;
      this.take(part, key, this.stores.get(cluster)?.[part].get(id), cluster);
      return key;
    }
    const found = [...this.stores].map(([token, store]) => [token, store[part].get(id)]).filter(([, item]) => item);
    const [token, item] = found.find(([, one]) => !one.isOutside) ?? found[0] ?? ["", undefined];
    this.take(part, id, item, token);
    return id;
  }

  take(part, id, item, cluster) {
    if (item === undefined) {
      this[part].delete(id);
      this.owners.delete(`${part} ${id}`);
    } else {
      this[part].set(id, item);
      this.owners.set(`${part} ${id}`, cluster);
    }
  }

  clusterOf(part, id) {
    return this.owners.get(`${part} ${id}`) ?? "";
  }

  get about() {
    const all = [...this.info.values()];
    const worst = all.find((one) => one.state !== "watching") ?? all[0] ?? {};
    return { name: `${all.length} clusters`, state: worst.state, detail: worst.detail,
      telemetry: { state: [...new Set(all.map((one) => one.telemetry?.state).filter(Boolean))].join(", ") } };
  }
}

export function nothingTouched() {
  return Object.fromEntries(PARTS.map((part) => [part, new Set()]));
}

export function same(one, other) {
  return one === other || JSON.stringify(one) === JSON.stringify(other);
}
