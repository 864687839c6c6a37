import assert from "node:assert/strict";
import { test } from "node:test";
import type { History, Point } from "../src/contract/compliance";
import { changesOf, linesOf, marksOf, share } from "../src/shell/overtime";

const point = (passing: number, failing: number): Point =>
  ({ workloads: passing + failing, passing: { mtls: passing }, failing: { mtls: failing } });

const history = (lines: History["lines"], changes: History["changes"] = []): History => ({
  since: "2026-11-01T00:00:00Z", until: "2026-11-03T00:00:00Z", by: "team",
  moments: ["2026-11-01T00:00:00Z", "2026-11-03T00:00:00Z"], lines, changes, left_out: 0,
  clusters: [{ cluster: "c1", name: "blue", before: "", after: "2026-11-03T00:00:00Z" }],
});

test("a share is of those that the check concerns", () => {
  assert.equal(share(point(3, 1), "mtls"), 75);
  assert.equal(share(point(3, 1), "policy"), null);
  assert.equal(share(null, "mtls"), null);
});

test("those that do worst are drawn, and a gap is one", () => {
  const lines = Array.from({ length: 8 }, (_, index) => ({ key: `t${index}`, points: [null, point(index, 8 - index)] }));
  const { shown, others } = linesOf(history([...lines, { key: "none of it", points: [null, null] }]), "mtls", null);
  assert.deepEqual(shown.map(({ name }) => name), ["t0", "t1", "t2", "t3", "t4", "t5"]);
  assert.equal(others, 2);
  assert.deepEqual(shown[1]!.points, [[1793491200, null], [1793664000, 12.5]]);
  assert.deepEqual(linesOf(history(lines), "mtls", "t7").shown.map(({ name }) => name), ["t7"]);
  assert.deepEqual(linesOf(history([{ key: "", points: [point(1, 0), null] }]), "mtls", null).shown[0]!.name, "no team");
});

test("marks go from one end to the other", () => {
  assert.deepEqual(marksOf(history([])), [1793491200, 1793534400, 1793577600, 1793620800, 1793664000]);
});

test("what got worse stands before what was mended", () => {
  const one = { cluster: "c1", kind: "apps/Deployment", namespace: "shop", name: "cart", team: "web", check: "mtls" };
  const told = history([], [{ ...one, became: "mended" }, { ...one, became: "failed", team: "pay" }]);
  assert.deepEqual(changesOf(told, "team", null).map(({ became }) => became), ["failed", "mended"]);
  assert.deepEqual(changesOf(told, "team", "web").map(({ became }) => became), ["mended"]);
  assert.equal(changesOf(told, "cluster", "blue").length, 2);
});
