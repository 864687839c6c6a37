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

// What the target of an edge knows, and its source does not.
const SECURED = ["isMTLS", "sourcePrincipal", "destPrincipal"] as const;

// The views of several clusters as one, as `feed/together.py` has them. A node that several tell of (one's own,
// and as another cluster's telemetry names it) is drawn once, as its own cluster has it. Of an edge the source's
// cluster tells the traffic, and the target's the mutual TLS; findings and drift are of their cluster.
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
    const [token, item] = part === "nodes" ? this.nodeOf(id) : this.edgeOf(id);
    this.take(part, id, item, token);
    return id;
  }

  private nodeOf(id: string): [token: string, node: GraphNode | undefined] {
    const found = this.told("nodes", id);
    return found.find(([, node]) => !node.isOutside) ?? found[0] ?? ["", undefined];
  }

  private edgeOf(id: string): [token: string, edge: GraphEdge | undefined] {
    const found = this.told("edges", id), [first] = found;
    if (first === undefined || found.length === 1) return first ?? ["", undefined];
    const ofOwner = (node: string) => found.find(([token]) => token === this.clusterOf("nodes", node));
    const [token, edge] = ofOwner(first[1].source) ?? first;
    const target = ofOwner(edge.target)?.[1];
    const secured = SECURED.filter((name) => target?.[name] !== undefined).map((name) => [name, target![name]]);
    return [token, { ...edge, ...Object.fromEntries(secured) as Partial<GraphEdge> }];
  }

  // An item as each cluster tells it.
  private told<P extends "nodes" | "edges">(part: P, id: string): [token: string, item: Items[P]][] {
    return [...this.stores].flatMap(([token, store]) => {
      const item = store[part].get(id) as Items[P] | undefined;
      return item === undefined ? [] : [[token, item] as [string, Items[P]]];
    });
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
