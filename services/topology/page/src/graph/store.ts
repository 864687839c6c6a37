// The items of one cluster's view by id, and what a change touches. Items are whole: a delta's item
// replaces the one before, null removes it, so applying one twice does no harm.

import type { About, Delta, Drift, Finding, GraphEdge, GraphNode, Snapshot } from "../contract/graph";

export interface Items {
  nodes: GraphNode;
  edges: GraphEdge;
  findings: Finding;
  drift: Drift;
  info: About;
}

export type Part = keyof Items;
export const PARTS: readonly Part[] = ["nodes", "edges", "findings", "drift", "info"];

// Ids of what a change was about.
export type Touched = Record<Part, Set<string>>;

export class Store {
  nodes = new Map<string, GraphNode>();
  edges = new Map<string, GraphEdge>();
  findings = new Map<string, Finding>();
  drift = new Map<string, Drift>();
  info = new Map<string, About>();
  cluster = "";
  at: string | null = null; // The moment of a past state.

  // Takes a whole state over.
  replace(snapshot: Snapshot): void {
    this.cluster = snapshot.cluster;
    this.at = snapshot.at ?? null;
    this.nodes = new Map(snapshot.nodes.map((item) => [item.id, item]));
    this.edges = new Map(snapshot.edges.map((item) => [item.id, item]));
    this.findings = new Map(Object.entries(snapshot.findings));
    this.drift = new Map(Object.entries(snapshot.drift));
    this.info = new Map(Object.entries(snapshot.info));
  }

  // Takes a delta over and notes in `touched` what it was about.
  apply(delta: Delta, touched: Touched): void {
    for (const part of PARTS) {
      const items = itemsOf(this, part);
      for (const [id, item] of Object.entries(delta[part] ?? {}) as [string, Items[Part] | null][]) {
        if (item === null) items.delete(id);
        else items.set(id, item);
        touched[part].add(id);
      }
    }
  }

  // The token of the cluster that an item is of.
  clusterOf(_part: Part, _id: string): string {
    return this.cluster;
  }

  get about(): About {
    return this.info.get("cluster") ?? {};
  }
}

// Of whichever part: what is put in came out of the same part, here or in a message.
const itemsOf = (store: Store, part: Part) => store[part] as Map<string, Items[Part]>;

// The views of several clusters as one. A node that several tell of (one's own, and as another cluster's
// telemetry names it) is drawn once, as its own cluster has it; findings and drift are of their cluster.
export class Together extends Store {
  override cluster = "*";
  private readonly stores = new Map<string, Store>();
  private readonly owners = new Map<string, string>(); // Part and id → the token of the cluster whose item is taken.

  override replace(snapshot: Snapshot): void {
    const { cluster } = snapshot;
    const before = this.stores.get(cluster);
    const store = new Store();
    store.replace(snapshot);
    this.stores.set(cluster, store);
    for (const part of PARTS) {
      for (const id of new Set([...(before?.[part].keys() ?? []), ...store[part].keys()])) this.renew(part, id, cluster);
    }
  }

  drop(cluster: string): void {
    const store = this.stores.get(cluster);
    this.stores.delete(cluster);
    for (const part of PARTS) for (const id of store?.[part].keys() ?? []) this.renew(part, id, cluster);
  }

  override apply(delta: Delta, touched: Touched): void {
    const store = this.stores.get(delta.cluster);
    if (store === undefined) return;
    const own = nothingTouched();
    store.apply(delta, own);
    for (const part of PARTS) {
      for (const id of own[part]) touched[part].add(this.renew(part, id, delta.cluster));
    }
  }

  // Takes the item that counts now; returns the id that it has here.
  private renew(part: Part, id: string, cluster: string): string {
    if (part !== "nodes" && part !== "edges") {
      const key = `${cluster} ${id}`;
      this.take(part, key, this.stores.get(cluster)?.[part].get(id), cluster);
      return key;
    }
    let taken: [token: string, item: GraphNode | GraphEdge | undefined] = ["", undefined];
    for (const [token, store] of this.stores) {
      const item = store[part].get(id);
      if (item === undefined) continue;
      const isOwn = !("isOutside" in item && item.isOutside);
      if (isOwn || taken[1] === undefined) taken = [token, item];
      if (isOwn) break;
    }
    this.take(part, id, taken[1], taken[0]);
    return id;
  }

  private take(part: Part, id: string, item: Items[Part] | undefined, cluster: string): void {
    if (item === undefined) {
      this[part].delete(id);
      this.owners.delete(`${part} ${id}`);
    } else {
      itemsOf(this, part).set(id, item);
      this.owners.set(`${part} ${id}`, cluster);
    }
  }

  override clusterOf(part: Part, id: string): string {
    return this.owners.get(`${part} ${id}`) ?? "";
  }

  override get about(): About {
    const all = [...this.info.values()];
    const worst = all.find((one) => one.state !== "watching") ?? all[0] ?? {};
    return { name: `${all.length} clusters`, state: worst.state, detail: worst.detail,
      telemetry: { state: [...new Set(all.map((one) => one.telemetry?.state).filter(Boolean))].join(", ") } };
  }
}

export function nothingTouched(): Touched {
  return { nodes: new Set(), edges: new Set(), findings: new Set(), drift: new Set(), info: new Set() };
}
