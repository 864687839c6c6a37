import assert from "node:assert/strict";
import { test } from "node:test";
import { aligned } from "../src/parts/aligning";

test("lines share their places, and gaps stay gaps", () => {
  const { places, values } = aligned([
    { name: "a", points: [[0.5, 1], [1.5, null], [2.5, 3]] },
    { name: "b", points: [[1.5, 7], [3.5, 9]] },
  ]);
  assert.deepEqual(places, [0.5, 1.5, 2.5, 3.5]);
  assert.deepEqual(values, [[1, null, 3, undefined], [undefined, 7, undefined, 9]]);
});

test("no line has no place", () => {
  assert.deepEqual(aligned([]), { places: [], values: [] });
});
