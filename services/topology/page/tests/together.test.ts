import assert from "node:assert/strict";
import { test } from "node:test";
import { nothingTouched, Together } from "../src/graph/store";

const snapshot = (cluster: string, nodes: object[], findings = {}) => ({
  cluster, nodes, edges: [], findings, drift: {}, info: { cluster: { cluster, state: "watching" } },
});
const home = { id: "web", isOutside: false }, guest = { id: "web", isOutside: true };

test("a node that two clusters tell of is drawn as its own has it", () => {
  for (const order of [["a", "b"], ["b", "a"]]) {
    const store = new Together();
    for (const cluster of order) store.replace(snapshot(cluster, [cluster === "a" ? home : guest]));
    assert.equal(store.nodes.get("web").isOutside, false);
    assert.equal(store.clusterOf("nodes", "web"), "a");
    const touched = nothingTouched();
    store.apply({ cluster: "a", nodes: { web: null } }, touched);
    assert.deepEqual([...touched.nodes], ["web"]);
    assert.equal(store.nodes.get("web").isOutside, true);
    store.drop("b");
    assert.equal(store.nodes.size, 0);
  }
});

test("findings are of their cluster, also with one id", () => {
  const store = new Together();
  store.replace(snapshot("a", [], { x: { code: "A" } }));
  store.replace(snapshot("b", [], { x: { code: "B" } }));
  assert.equal(store.findings.size, 2);
  const touched = nothingTouched();
  store.apply({ cluster: "b", findings: { x: null } }, touched);
  assert.deepEqual([...store.findings.values()].map(({ code }) => code), ["A"]);
  assert.deepEqual([...touched.findings], ["b x"]);
  // A new snapshot takes away what is not in it.
  store.replace(snapshot("a", []));
  assert.equal(store.findings.size, 0);
  assert.equal(store.about.name, "2 clusters");
});
