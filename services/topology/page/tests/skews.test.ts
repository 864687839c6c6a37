import assert from "node:assert/strict";
import { test } from "node:test";
import type { ClusterVersions, Versions } from "../src/contract/versions";
import { byVersion, newestFirst, shownOf } from "../src/shell/skews";

const cluster = (name: string, ...proxies: [string, string, number, boolean][]): ClusterVersions => ({
  cluster: `token-${name}`, name, controlPlanes: [{ revision: "default", version: "1.31.0" }],
  proxies: proxies.map(([version, controlPlane, count, supported]) => ({ version, controlPlane, count, supported })),
});
const told: Versions = {
  clusters: [
    cluster("green", ["1.31.0", "1.31.0", 3, true], ["1.9.2", "1.31.0", 2, false]),
    cluster("blue", ["1.9.2", "", 1, true]),
  ],
  summed: { controlPlanes: { "1.31.0": 2 }, proxies: { "1.31.0": 3, "1.9.2": 3 }, unsupported: 2 },
  missing: [],
};

test("versions are ordered by their numbers, and what is unknown is last", () => {
  assert.deepEqual(["1.9.2", "", "1.31.0", "1.31.10"].sort(newestFirst), ["1.31.10", "1.31.0", "1.9.2", ""]);
});

test("a version has its clusters, its proxies, and those that are not supported", () => {
  assert.deepEqual(byVersion(told), [
    { version: "1.31.0", clusters: 2, proxies: 3, unsupported: 0 },
    { version: "1.9.2", clusters: 0, proxies: 3, unsupported: 2 },
  ]);
});

test("clusters stand by name, or those with skew alone", () => {
  assert.deepEqual(shownOf(told, false).map(({ name }) => name), ["blue", "green"]);
  assert.deepEqual(shownOf(told, true).map(({ name }) => name), ["green"]);
});
