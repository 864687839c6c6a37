// The compliance report cut as one asks for it: by cluster, namespace or team. Pure.

import type { Report, Workload } from "../contract/compliance";

export type By = "cluster" | "namespace" | "team";
export const BYS: readonly By[] = ["cluster", "namespace", "team"];

export interface Row extends Workload {
  cluster: string;
  clusterName: string;
}

export interface Sums {
  workloads: number;
  inMesh: number;
  strict: number;
  permissive: number;
  disabled: number;
  withPolicy: number;
  denied: number;
  notInSync: number;
  findings: number;
}

export interface Group extends Sums {
  key: string;
}

const NOT_IN_SYNC = new Set(["lost", "rejected", "stale"]);

export function rowsOf(report: Report): Row[] {
  return report.clusters.flatMap(({ cluster, name, workloads }) =>
    workloads.map((one) => ({ ...one, cluster, clusterName: name || cluster })));
}

export const isMeshed = (one: Workload): boolean => one.mesh !== "none";

// What somebody who answers for the mesh would look at first.
export function hasGap(one: Workload): boolean {
  return !isMeshed(one) || one.meshedPods < one.pods || one.mtls.mode === "PERMISSIVE" || one.mtls.mode === "DISABLE"
    || Object.values(one.mtls.ports).some((mode) => mode !== "STRICT") || one.access === "open"
    || NOT_IN_SYNC.has(one.proxies.standing) || !one.proxies.supported || one.findings > 0;
}

export function isLike(one: Row, search: string): boolean {
  const text = [one.clusterName, one.namespace, one.name, one.team, one.mtls.mode, one.mesh].join(" ").toLowerCase();
  return search.toLowerCase().split(/\s+/).every((word) => text.includes(word));
}

export function summed(rows: readonly Row[]): Sums {
  const meshed = rows.filter(isMeshed);
  const mode = (name: string) => meshed.filter((one) => one.mtls.mode === name).length;
  return {
    workloads: rows.length, inMesh: meshed.length, strict: mode("STRICT"), permissive: mode("PERMISSIVE"),
    disabled: mode("DISABLE"), withPolicy: meshed.filter((one) => one.policies.length > 0).length,
    denied: meshed.filter((one) => one.access === "denied").length,
    notInSync: rows.filter((one) => NOT_IN_SYNC.has(one.proxies.standing)).length,
    findings: rows.reduce((all, one) => all + one.findings, 0),
  };
}

// Those without a team stand last, under "".
export function grouped(rows: readonly Row[], by: By): Group[] {
  const all = new Map<string, Row[]>();
  for (const row of rows) {
    const key = by === "cluster" ? row.clusterName : row[by];
    const known = all.get(key);
    if (known === undefined) all.set(key, [row]);
    else known.push(row);
  }
  return [...all].map(([key, some]) => ({ key, ...summed(some) }))
    .sort((a, b) => Number(a.key === "") - Number(b.key === "") || a.key.localeCompare(b.key));
}
