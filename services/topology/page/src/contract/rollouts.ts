// What lifecycle answers of a rollout, and of the making of a mesh of several clusters.

import type { ErrorReport } from "./bus";

export interface RolloutCluster {
  cluster: string;
  name: string;
  // From 1; 0 before the waves are known, and where there are none.
  wave: number;
  step: string;
  running: boolean;
  tries: number;
  // waiting, under way, done, rolled back, failed, left as it was.
  state: string;
  may_go_back: boolean;
  namespaces: string[];
  reason?: ErrorReport;
  // Of a mesh of several clusters: what was found of this one.
  found?: Record<string, string>;
}

export interface Rollout {
  rollout: string;
  title: string;
  version: string;
  revision: string;
  // running, paused, rolling back, stopped, done.
  state: string;
  stage: string;
  // Since when the gate does not hold; "" while it does.
  broken_since: string;
  since: string;
  begun: string;
  expires: string;
  ended: string;
  reason: ErrorReport | null;
  clusters: RolloutCluster[];
  // From 1, and the clusters of each; a mesh of several clusters has none.
  wave?: number;
  waves?: string[][];
}
