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
      for (const key of keys) {
        const known = this.nodesByKey.get(key);
        if (known === undefined) this.nodesByKey.set(key, [node.id]);
        else known.push(node.id);
      }
    }
    this.spread(store.findings, this.findings);
    this.spread(store.drift, this.drift);
  }

  spread(items, marks) {
    for (const item of items.values()) {
      for (const id of this.nodesOf(item.object)) {
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

  nodesOf(object) {
    return this.nodesByKey.get(keyOf(object)) ?? [];
  }

  // "error", "warning", "info" or "".
  worst(id) {
    const levels = (this.findings.get(id) ?? []).map((finding) => finding.level);
    return ["error", "warning", "info"].find((level) => levels.includes(level)) ?? "";
  }
}
