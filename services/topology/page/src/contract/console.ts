// What the console's own server tells: the fleet, and answers that no message of the bus has.

import type { ClusterRecord, Event, OperationRecord, RequestRecord } from "./bus";

export type { ClusterRecord, Event, OperationRecord, RequestRecord };

// A coded error of Meshbus.
export interface Problem {
  code: string;
  summary: string;
  cause: string;
  remedy: string;
}

// Unix seconds, requests per second, percent of errors.
export type Sample = [at: number, rate: number, errors: number];

export interface ClusterTotals {
  cluster: string;
  name: string;
  // watching, partly, unreachable, unwatched, starting.
  state: string;
  detail: string;
  since: string;
  telemetry: { source?: string; state?: string; detail?: string };
  controlPlane: {
    state?: string;
    detail?: string;
    planes?: { revision: string; version: string }[];
    // Standing → count.
    proxies?: Record<string, number>;
  };
  at: number;
  workloads: number;
  inMesh: number;
  services: number;
  health: Record<string, number>;
  rate: number;
  errors: number;
  // Percent of the requests; null without any.
  mtls: number | null;
  findings: Record<string, number>;
  drift: Record<string, number>;
  samples?: Sample[];
}

export interface FleetTold {
  whole?: boolean;
  clusters: (ClusterTotals | { cluster: string; gone: true })[];
}

// A row of `mesh.gateway.operations`.
export interface Described {
  request: RequestRecord;
  parts: Record<string, OperationRecord | null>;
}

export interface OperationsPage {
  operations: Described[];
  more: boolean;
}

export interface EventsTold {
  events: Event[];
  left_out: number;
}

// The list of clusters in every stream.
export interface ClusterAbout {
  cluster: string;
  name?: string;
  state?: string;
}
