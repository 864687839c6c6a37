// Which nodes findings and drift belong to.

import type { Drift, Finding, GraphNode, Reference } from "../contract/graph";
import { keyOf, keysOf } from "./describe";
import type { Store } from "./store";

export class Marks {
  // By the node's id.
  readonly findings = new Map<string, Finding[]>();
  readonly drift = new Map<string, Drift[]>();
  private readonly nodesByKey = new Map<string, string[]>();
  private readonly keys = new Map<string, string>(); // Node id → its objects' keys, as one text.

  constructor(store: Store) {
    for (const node of store.nodes.values()) {
      const keys = keysOf(node);
      this.keys.set(node.id, keys.join());
      const cluster = store.clusterOf("nodes", node.id);
      for (const key of keys.map((one) => `${cluster} ${one}`)) {
        const known = this.nodesByKey.get(key);
        if (known === undefined) this.nodesByKey.set(key, [node.id]);
        else known.push(node.id);
      }
    }
    this.spread(store, "findings", store.findings, this.findings);
    this.spread(store, "drift", store.drift, this.drift);
  }

  private spread<Item extends { object: Reference }>(
    store: Store, part: "findings" | "drift", items: ReadonlyMap<string, Item>, marks: Map<string, Item[]>,
  ): void {
    for (const [key, item] of items) {
      for (const id of this.nodesOf(item.object, store.clusterOf(part, key))) {
        const known = marks.get(id);
        if (known === undefined) marks.set(id, [item]);
        else known.push(item);
      }
    }
  }

  // Whether a node stands for other objects than before.
  isOther(node: GraphNode | undefined, id: string): boolean {
    return this.keys.get(id) !== (node === undefined ? undefined : keysOf(node).join());
  }

  nodesOf(object: Reference, cluster: string): string[] {
    return this.nodesByKey.get(`${cluster} ${keyOf(object)}`) ?? [];
  }

  // "error", "warning", "info" or "".
  worst(id: string): string {
    const levels = (this.findings.get(id) ?? []).map((finding) => finding.level);
    return ["error", "warning", "info"].find((level) => levels.includes(level)) ?? "";
  }
}
