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

test("of an edge that two clusters tell of, the source's counts for traffic and the target's for mTLS", () => {
  const source = (isOutside: boolean) => ({ id: "web", isOutside }), target = (isOutside: boolean) => ({ id: "cart", isOutside });
  const edge = (rate: string, more = {}) => ({ id: "e", source: "web", target: "cart", traffic: { rates: { http: rate } }, ...more });
  const told = {
    a: { ...snapshot("a", [source(false), target(true)]), edges: [edge("2.00", { destPrincipal: "nobody" })] },
    b: { ...snapshot("b", [source(true), target(false)]), edges: [edge("1.00", { isMTLS: "100", destPrincipal: "cart" })] },
  };
  for (const order of [["a", "b"], ["b", "a"]] as const) {
    const store = new Together();
    for (const cluster of order) store.replace(told[cluster]);
    assert.deepEqual(store.edges.get("e"), edge("2.00", { isMTLS: "100", destPrincipal: "cart" }));
    assert.equal(store.clusterOf("edges", "e"), "a");
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
