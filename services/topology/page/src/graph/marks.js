// Which nodes findings and drift belong to.

import { keyOf, keysOf } from "./describe.js";

export class Marks {
  constructor(store) {
    this.nodesByKey = new Map();
    this.findings = new Map(); // Node id → findings.
    this.drift = new Map();
    this.keys = new Map(); // Node id → its objects' keys, as one text.
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
    this.spread(store, "findings", this.findings);
    this.spread(store, "drift", this.drift);
  }

  spread(store, part, marks) {
    for (const [key, item] of store[part]) {
      for (const id of this.nodesOf(item.object, store.clusterOf(part, key))) {
        const known = marks.get(id);
        if (known === undefined) marks.set(id, [item]);
        else known.push(item);
      }
    }
  }

  // Whether a node stands for other objects than before.
  isOther(node, id) {
    return this.keys.get(id) !== (node === undefined ? undefined : keysOf(node).join());
  }

  nodesOf(object, cluster) {
    return this.nodesByKey.get(`${cluster} ${keyOf(object)}`) ?? [];
  }

  // "error", "warning", "info" or "".
  worst(id) {
    const levels = (this.findings.get(id) ?? []).map((finding) => finding.level);
    return ["error", "warning", "info"].find((level) => levels.includes(level)) ?? "";
  }
}
