// What is known of operations. Records say how one stands; events say how it goes on. Both may come in
// any order, and twice. Pure.

import type { Described, Event } from "../contract/console";

export type State = "waiting" | "running" | "succeeded" | "failed" | "cancelled";

// One operation on one cluster.
export interface Part {
  cluster: string;
  name: string;
  state: State;
  attempt: number;
  phase: string;
  summary: string;
  code: string;
  updated: string;
  // Of the last event; those up to it are in here already.
  sequence: number;
  // Objects of the plan, and those of its waves that are done.
  planned: number;
  done: number;
}

export interface Operation {
  id: string;
  kind: string;
  identity: string;
  accepted: string;
  parts: ReadonlyMap<string, Part>;
}

const MOST_KNOWN = 500;
const FINAL: Record<string, State> = { done: "succeeded", failed: "failed", cancelled: "cancelled" };

export function stateOf(operation: Operation): State {
  const states = [...operation.parts.values()].map((part) => part.state);
  for (const state of ["running", "waiting", "failed", "cancelled"] as const) {
    if (states.includes(state)) return state;
  }
  return "succeeded";
}

export const isOver = (state: State): boolean => state !== "running" && state !== "waiting";

export function described({ request, parts }: Described): Operation {
  const found = new Map<string, Part>();
  for (const cluster of request.clusters) {
    const record = parts[cluster];
    found.set(cluster, {
      cluster, name: request.cluster_names[cluster] || cluster,
      state: record === null || record === undefined ? "waiting" : record.state,
      attempt: record?.attempt ?? 0, phase: "", summary: record?.summary ?? "",
      code: record?.error?.code ?? "", updated: record?.updated ?? request.accepted,
      sequence: 0, planned: 0, done: 0,
    });
  }
  return {
    id: request.operation, kind: request.kind, identity: request.identity, accepted: request.accepted, parts: found,
  };
}

// Records over what is known: one that is older than an event of its part is not taken.
export function withRecords(
  known: ReadonlyMap<string, Operation>, page: readonly Described[],
): Map<string, Operation> {
  const found = new Map(known);
  for (const one of page) {
    const record = described(one);
    const before = found.get(record.id);
    const parts = new Map(record.parts);
    for (const [cluster, part] of before?.parts ?? []) {
      const told = parts.get(cluster);
      if (told === undefined || (Date.parse(part.updated) > Date.parse(told.updated) && !isOver(told.state))) {
        parts.set(cluster, part);
      } else if (!isOver(told.state)) {
        parts.set(cluster, { ...part, state: told.state });
      }
    }
    found.set(record.id, { ...record, parts });
  }
  return bounded(found);
}

export function withEvents(
  known: ReadonlyMap<string, Operation>, events: readonly Event[],
): Map<string, Operation> {
  const found = new Map(known);
  for (const event of events) {
    const before = found.get(event.operation);
    const parts = new Map(before?.parts);
    parts.set(event.cluster, partAfter(parts.get(event.cluster), event));
    found.set(event.operation, before === undefined
      ? { id: event.operation, kind: event.kind, identity: "", accepted: event.time, parts }
      : { ...before, parts });
  }
  return bounded(found);
}

function partAfter(before: Part | undefined, event: Event): Part {
  const final = FINAL[event.phase];
  const isAgain = before !== undefined && event.attempt > before.attempt;
  const part = isAgain ? undefined : before;
  // A worker that was thought dead may still say something of an attempt that is over.
  if (part !== undefined && (event.attempt < part.attempt || (event.sequence <= part.sequence && event.sequence > 0)
    || (isOver(part.state) && final === undefined))) return part;
  const { objects = 0 } = event.numbers;
  return {
    cluster: event.cluster, name: event.cluster_name || before?.name || event.cluster,
    state: final ?? (event.phase === "waiting" ? "waiting" : "running"), attempt: event.attempt,
    phase: event.phase, summary: event.summary, code: event.error?.code ?? "", updated: event.time,
    sequence: event.sequence,
    planned: event.phase === "planned" ? objects : part?.planned ?? 0,
    done: (event.phase === "planned" ? 0 : part?.done ?? 0) + (event.phase === "wave" ? objects : 0),
  };
}

function bounded(all: Map<string, Operation>): Map<string, Operation> {
  const sorted = [...all].sort(([, a], [, b]) => Date.parse(b.accepted) - Date.parse(a.accepted));
  return new Map(sorted.slice(0, MOST_KNOWN));
}
