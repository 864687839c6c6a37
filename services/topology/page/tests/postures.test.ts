import assert from "node:assert/strict";
import { test } from "node:test";
import type { Workload } from "../src/contract/compliance";
import { grouped, hasGap, isLike, rowsOf, summed } from "../src/shell/postures";

const workload = (name: string, more: Partial<Workload> = {}): Workload => ({
  kind: "apps/Deployment", namespace: "shop", name, mesh: "sidecar", pods: 2, meshedPods: 2,
  mtls: { mode: "STRICT", source: null, ports: {} }, access: "denied",
  policies: [{ action: "ALLOW", namespace: "shop", name: "web" }], proxyVersion: "1.31.0",
  proxies: { standing: "synced", supported: true, certificateExpires: "" }, findings: 0, team: "payments", ...more,
});
const report = (workloads: Workload[], cluster = "c1", name = "blue") =>
  ({ cluster, name, made: "2026-05-01T10:00:00Z", findings: {}, workloads, roots: [] });

test("each gap is one, and what has none is none", () => {
  assert.equal(hasGap(workload("a")), false);
  for (const more of [
    { mesh: "none" }, { meshedPods: 1 }, { access: "open" }, { findings: 1 },
    { mtls: { mode: "PERMISSIVE", source: null, ports: {} } }, { mtls: { mode: "STRICT", source: null, ports: { 80: "DISABLE" } } },
    { proxies: { standing: "stale", supported: true, certificateExpires: "" } },
    { proxies: { standing: "synced", supported: false, certificateExpires: "" } },
  ]) assert.equal(hasGap(workload("a", more)), true, JSON.stringify(more));
});

test("shares are of what is in the mesh", () => {
  const rows = rowsOf({ clusters: [report([workload("a"), workload("b", { mesh: "none", mtls: { mode: "NONE", source: null, ports: {} }, policies: [] })])] });
  const sums = summed(rows);
  assert.deepEqual([sums.workloads, sums.inMesh, sums.strict, sums.withPolicy, sums.denied], [2, 1, 1, 1, 1]);
});

test("groups are by cluster, namespace or team, and those of nobody stand last", () => {
  const rows = rowsOf({ clusters: [
    report([workload("a", { team: "" }), workload("b", { namespace: "money" })]), report([workload("c", { team: "web" })], "c2", ""),
  ] });
  assert.deepEqual(grouped(rows, "cluster").map(({ key, workloads }) => [key, workloads]), [["blue", 2], ["c2", 1]]);
  assert.deepEqual(grouped(rows, "namespace").map(({ key }) => key), ["money", "shop"]);
  assert.deepEqual(grouped(rows, "team").map(({ key }) => key), ["payments", "web", ""]);
  assert.deepEqual(rows.filter((row) => isLike(row, "blue money")).map(({ name }) => name), ["b"]);
});
