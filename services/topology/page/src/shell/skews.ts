// Istio's versions over the fleet, put in order. Pure.

import type { ClusterVersions, Proxies, Versions } from "../contract/versions";

export interface OfVersion {
  version: string;
  clusters: number;
  proxies: number;
  // Of those proxies, the ones that do not go with their control plane.
  unsupported: number;
}

const BY_NUMBER = new Intl.Collator("en", { numeric: true });

// The newest first; what nobody knows stands last.
export function newestFirst(a: string, b: string): number {
  return Number(a === "") - Number(b === "") || BY_NUMBER.compare(b, a);
}

export function byVersion({ clusters, summed }: Versions): OfVersion[] {
  const bad = new Map<string, number>();
  for (const { version, count } of clusters.flatMap(unsupportedOf)) bad.set(version, (bad.get(version) ?? 0) + count);
  return [...new Set([...Object.keys(summed.controlPlanes), ...Object.keys(summed.proxies)])].sort(newestFirst)
    .map((version) => ({
      version, clusters: summed.controlPlanes[version] ?? 0, proxies: summed.proxies[version] ?? 0,
      unsupported: bad.get(version) ?? 0,
    }));
}

export const unsupportedOf = (one: ClusterVersions): Proxies[] => one.proxies.filter(({ supported }) => !supported);

// Those with proxies that Istio does not support, else all; by name.
export function shownOf({ clusters }: Versions, isSkewOnly: boolean): ClusterVersions[] {
  return clusters.filter((one) => !isSkewOnly || unsupportedOf(one).length > 0)
    .sort((a, b) => a.name.localeCompare(b.name) || a.cluster.localeCompare(b.cluster));
}
