// What perf answers: records of runs, curves of a result, comparisons.

import type { BaselineRecord, Change, Comparison, Outcome, RunRecord } from "./bus";

export type { BaselineRecord, Change, Outcome, RunRecord };

export interface RunsTold {
  runs: RunRecord[];
  more: boolean;
}

export interface BaselinesTold {
  baselines: BaselineRecord[];
}

// Seconds after the start, and a value; null where there was no request.
export type Points = [at: number, value: number | null][];

export interface Figures {
  requests: number;
  failed: number;
  p50_ms: number | null;
  p90_ms: number | null;
  p99_ms: number | null;
  response_p50_ms: number | null;
  response_p90_ms: number | null;
  response_p99_ms: number | null;
}

// `mesh.perf.results` with the format `curves`.
export interface Curves {
  run: string;
  name: string;
  generator: string;
  protocol: string;
  service: string;
  cluster: string;
  fingerprint: string;
  labels: Record<string, string>;
  started: string;
  duration_s: number;
  requested_rate: number;
  actual_rate: number;
  connections: number;
  workers: number;
  rerun: number[];
  missing: { shard: number; worker: string; reason: string }[];
  warnings: string[];
  is_complete: boolean;
  saturation_rate: number | null;
  correlation: Correlation | null;
  figures: Figures;
  // Percentile, milliseconds.
  durations: [number, number][];
  responses: [number, number][];
  latencies: Record<string, Points>;
  rates: Points;
  failures: Record<string, Points>;
  codes: [string, number][];
  stages: {
    rate: number; duration_s: number; actual_rate: number; holds: boolean | null; reason: string; figures: Figures;
  }[];
  targets: { url: string; weight: number; figures: Figures }[];
}

// Where the mesh's telemetry says that the time went.
export interface Correlation {
  place: string;
  confidence: string;
  reason: string;
  shares: { place: string; ms: number; covers: string }[];
  saturated: { text: string }[];
  evidence: { text: string }[];
  missing: string[];
}

// The answer of `mesh.perf.compare`.
export interface Compared extends Comparison {
  told: string;
}
