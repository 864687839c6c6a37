// Findings and drift of all clusters, as the stream keeps them up.

import { signal } from "@preact/signals";
import type { Drift, Finding, Reference } from "../contract/graph";
import { stream } from "./stream";

export type { Drift, Finding, Reference };

interface Told {
  whole?: boolean;
  clusters: {
    cluster: string;
    gone?: boolean;
    whole?: boolean;
    findings?: Record<string, Finding | null>;
    drift?: Record<string, Drift | null>;
  }[];
}

export interface Troubles {
  findings: ReadonlyMap<string, Finding>;
  drift: ReadonlyMap<string, Drift>;
}

// By cluster; null until something was told.
export const troubles = signal<ReadonlyMap<string, Troubles> | null>(null);

let waiting: Told[] = [];
stream.on<Told>("troubles", (told) => {
  if (waiting.push(told) === 1) requestAnimationFrame(take);
});

function take(): void {
  const all = waiting;
  waiting = [];
  troubles.value = all.reduce(after, troubles.value ?? new Map());
}

export function after(known: ReadonlyMap<string, Troubles>, told: Told): Map<string, Troubles> {
  const found = new Map(told.whole ? [] : known);
  for (const { cluster, gone = false, whole = false, findings = {}, drift = {} } of told.clusters) {
    if (gone) {
      found.delete(cluster);
      continue;
    }
    const before = whole ? undefined : found.get(cluster);
    found.set(cluster, { findings: changed(before?.findings, findings), drift: changed(before?.drift, drift) });
  }
  return found;
}

function changed<T>(before: ReadonlyMap<string, T> | undefined, items: Record<string, T | null>): ReadonlyMap<string, T> {
  const entries = Object.entries(items);
  if (entries.length === 0 && before !== undefined) return before;
  const found = new Map(before);
  for (const [id, item] of entries) {
    if (item === null) found.delete(id);
    else found.set(id, item);
  }
  return found;
}

const short = (kind: string): string => kind.slice(kind.lastIndexOf("/") + 1);

export function named({ kind, namespace, name }: Reference): string {
  return `${short(kind)} ${namespace ? `${namespace}/` : ""}${name}`;
}

// `networking.istio.io/VirtualService`, however the item tells it.
export function fullKind({ group, kind }: Reference): string {
  return kind.includes("/") ? kind : `${group ?? ""}/${kind}`;
}

// Whether the service shows the object: those of a mesh's configuration.
export function isShown(object: Reference): boolean {
  const group = fullKind(object).split("/")[0] ?? "";
  return group.endsWith(".istio.io") || group === "gateway.networking.k8s.io";
}
