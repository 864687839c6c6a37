// The totals of each cluster, as the stream keeps them up.

import { signal } from "@preact/signals";
import type { ClusterAbout, ClusterTotals, FleetTold, Sample } from "../contract/console";
import { stream } from "./stream";

const SAMPLE_S = 15;
const MOST_SAMPLES = 240;

// null until something was told.
export const fleet = signal<ReadonlyMap<string, ClusterTotals> | null>(null);
export const clusters = signal<readonly ClusterAbout[] | null>(null);

stream.on<ClusterAbout[]>("clusters", (told) => { clusters.value = told; });
stream.on<FleetTold>("fleet", (told) => { fleet.value = renewed(fleet.value, told); });

export function renewed(known: ReadonlyMap<string, ClusterTotals> | null, told: FleetTold): Map<string, ClusterTotals> {
  const found = new Map(told.whole ? [] : known);
  for (const one of told.clusters) {
    if ("gone" in one) found.delete(one.cluster);
    else found.set(one.cluster, { ...one, samples: one.samples ?? sampled(known?.get(one.cluster)?.samples ?? [], one) });
  }
  return new Map([...found].sort(([, a], [, b]) => a.name.localeCompare(b.name)));
}

function sampled(samples: Sample[], { at, rate, errors }: ClusterTotals): Sample[] {
  const last = samples.at(-1);
  if (last !== undefined && at - last[0] < SAMPLE_S) return samples;
  return [...samples, [at, rate, errors] satisfies Sample].slice(-MOST_SAMPLES);
}

export function clusterName(token: string): string {
  const found = clusters.value?.find((one) => one.cluster === token)?.name ?? fleet.value?.get(token)?.name;
  return found || token;
}
