// Compliance over time as lines and changes. Pure.

import type { Change, History, Point } from "../contract/compliance";
import type { Line } from "../parts/aligning";
import type { By } from "./postures";

export const CHECKS: Record<string, string> = {
  mtls: "mTLS strict", mesh: "In the mesh", policy: "Deny by default", sync: "Proxies in sync",
  version: "Proxies' version supported", findings: "Without findings",
};
export const RANGES: Record<string, string> = {
  "24h": "the last 24 hours", "7d": "the last 7 days", "30d": "the last 30 days", "90d": "the last 90 days",
};
// As many as a chart tells apart.
export const MOST_LINES = 6;

// The share of workloads that pass, of those that the check concerns; null where nothing is known.
export function share(point: Point | null, check: string): number | null {
  if (point === null) return null;
  const passing = point.passing[check] ?? 0, all = passing + (point.failing[check] ?? 0);
  return all === 0 ? null : 100 * passing / all;
}

export interface Lines {
  shown: Line[];
  // Lines beyond those; the best of them.
  others: number;
}

// The lines of the groups that do worst at the end; of one group alone where one is chosen.
export function linesOf(history: History, check: string, group: string | null): Lines {
  const at = history.moments.map((moment) => Date.parse(moment) / 1000);
  const all = history.lines
    .filter(({ key }) => group === null || key === group)
    .map(({ key, points }) => ({ name: key || `no ${history.by}`, points: points.map((one, index) => [at[index]!, share(one, check)] as const) }))
    .filter(({ points }) => points.some(([, value]) => value !== null));
  const last = ({ points }: Line) => points.findLast(([, value]) => value !== null)?.[1] ?? 100;
  all.sort((a, b) => last(a) - last(b) || a.name.localeCompare(b.name));
  return { shown: all.slice(0, MOST_LINES), others: Math.max(0, all.length - MOST_LINES) };
}

// Five places of a line for the marks of its axis.
export function marksOf(history: History): number[] {
  const first = Date.parse(history.since) / 1000, last = Date.parse(history.until) / 1000;
  return [0, 1, 2, 3, 4].map((step) => first + (last - first) * step / 4);
}

// What changed within a group, what got worse first.
export function changesOf(history: History, by: By, group: string | null): (Change & { clusterName: string })[] {
  const names = new Map(history.clusters.map(({ cluster, name }) => [cluster, name]));
  return history.changes
    .map((one) => ({ ...one, clusterName: names.get(one.cluster) ?? one.cluster }))
    .filter((one) => group === null || (by === "cluster" ? one.clusterName : one[by]) === group)
    .sort((a, b) => Number(isMended(a)) - Number(isMended(b)));
}

export const isMended = ({ became }: Change): boolean => became === "mended" || became === "gone";
