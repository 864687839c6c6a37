import assert from "node:assert/strict";
import { test } from "node:test";
import { lineOf, segments } from "../src/parts/lines";

const TEXT = `apiVersion: networking.istio.io/v1
kind: VirtualService
metadata:
  name: cart
  annotations:
    meshbus.io/drift: heal
spec:
  hosts:
  - cart
  - cart.example.com
  http:
  - match:
    - uri:
        prefix: /a
    route:
    - destination:
        host: cart
        subset: v1
      weight: 90
    - destination:
        host: nowhere
        subset: v2
      weight: 10
  - route:
    - destination:
        host: cart
`;
const at = (path: string): string => TEXT.split("\n")[lineOf(TEXT, path)]?.trim() ?? "";

test("a path leads to its line", () => {
  assert.equal(at("spec.http[0].route[1].destination.host"), "host: nowhere");
  assert.equal(at("spec.http[0].route[0].weight"), "weight: 90");
  assert.equal(at("spec.http[1].route[0].destination.host"), "host: cart");
  assert.equal(at("spec.http[0].match[0].uri.prefix"), "prefix: /a");
  assert.equal(at("spec.hosts[1]"), "- cart.example.com");
  assert.equal(at('metadata.annotations["meshbus.io/drift"]'), "meshbus.io/drift: heal");
  assert.equal(at("metadata.name"), "name: cart");
});

test("of what is not there the nearest place is shown", () => {
  assert.equal(at("spec.http[0].timeout"), "- match:");
  assert.equal(at("spec.http[7]"), "http:");
  assert.equal(lineOf(TEXT, "status.x"), -1);
  assert.equal(lineOf(TEXT, ""), -1);
});

test("paths are read in pieces", () => {
  assert.deepEqual(segments('a.b[3]["c.d/e"].f'), ["a", "b", 3, "c.d/e", "f"]);
});
