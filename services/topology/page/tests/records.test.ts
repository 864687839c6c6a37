import assert from "node:assert/strict";
import { test } from "node:test";
import type { Described, Event } from "../src/contract/console";
import { type Operation, stateOf, withEvents, withRecords } from "../src/shell/records";

const AT = Date.parse("2026-05-01T10:00:00Z");
const time = (seconds: number): string => new Date(AT + seconds * 1000).toISOString();

function event(sequence: number, phase: string, more: Partial<Event> = {}): Event {
  return {
    schema_version: 1, time: time(sequence), operation: "op", kind: "istio", service: "lifecycle", cluster: "c1",
    cluster_name: "blue", attempt: 1, sequence, phase, severity: "info", summary: `step ${sequence}`, details: "",
    error: null, numbers: {}, ...more,
  } as Event;
}

function record(state: string | null, updated = 0): Described {
  return {
    request: {
      operation: "op", kind: "istio", clusters: ["c1"], cluster_names: { c1: "blue" }, identity: "ann", accepted: time(0),
    },
    parts: { c1: state === null ? null : { state, attempt: 1, summary: "as recorded", error: null, updated: time(updated) } },
  } as unknown as Described;
}

const EVENTS = [
  event(1, "started"), event(2, "planned", { numbers: { objects: 40 } }), event(3, "wave", { numbers: { objects: 15 } }),
  event(4, "wave", { numbers: { objects: 5 } }),
];
const part = (known: ReadonlyMap<string, Operation>) => known.get("op")!.parts.get("c1")!;

test("events tell how far an operation is, also when they come twice", () => {
  const once = withEvents(new Map(), EVENTS);
  assert.equal(stateOf(once.get("op")!), "running");
  assert.deepEqual([part(once).planned, part(once).done], [40, 20]);
  const twice = withEvents(once, EVENTS);
  assert.deepEqual(part(twice), part(once));
  const over = withEvents(twice, [event(9, "done"), event(5, "note")]);
  assert.equal(part(over).state, "succeeded");
});

test("records and events agree in either order", () => {
  const one = withRecords(withEvents(new Map(), EVENTS), [record("running")]);
  const other = withEvents(withRecords(new Map(), [record("running")]), EVENTS);
  for (const known of [one, other]) {
    assert.deepEqual([part(known).state, part(known).done, known.get("op")!.identity], ["running", 20, "ann"]);
  }
  const ended = withRecords(one, [record("failed", 30)]);
  assert.equal(part(ended).state, "failed");
  // A record from before the end does not undo it.
  const done = withEvents(one, [event(9, "done")]);
  assert.equal(part(withRecords(done, [record("running", 1)])).state, "succeeded");
});

test("what nobody has begun waits", () => {
  assert.equal(stateOf(withRecords(new Map(), [record(null)]).get("op")!), "waiting");
});

test("another attempt begins anew, and a late word of the one before is not heard", () => {
  const second = withEvents(withEvents(new Map(), EVENTS), [event(1, "started", { attempt: 2, time: time(60) })]);
  assert.deepEqual([part(second).attempt, part(second).done], [2, 0]);
  assert.equal(part(withEvents(second, [event(7, "failed")])).state, "running");
});

test("no more is kept than somebody looks at", () => {
  const many = Array.from({ length: 700 }, (_, index) => event(1, "started", { operation: `op-${index}`, time: time(index) }));
  const known = withEvents(new Map(), many);
  assert.equal(known.size, 500);
  assert.ok(known.has("op-699") && !known.has("op-0"));
});
