// The compliance report, as `mesh.topology.compliance` and /compliance.json have it.

export interface Workload {
  kind: string;
  namespace: string;
  name: string;
  // sidecar, ambient, gateway, waypoint, none.
  mesh: string;
  pods: number;
  meshedPods: number;
  mtls: { mode: string; source: { namespace: string; name: string } | null; ports: Record<string, string> };
  // open, denied.
  access: string;
  policies: { action: string; namespace: string; name: string }[];
  proxyVersion: string;
  proxies: { standing: string; supported: boolean; certificateExpires: string };
  findings: number;
  team: string;
}

export interface Root {
  source: { kind: string; name: string };
  part: string;
  error: string;
  subject: string | null;
  notAfter: string | null;
  sha256: string | null;
}

export interface ClusterReport {
  cluster: string;
  name: string;
  made: string;
  findings: Record<string, number>;
  workloads: Workload[];
  roots: Root[];
}

export interface Report {
  clusters: ClusterReport[];
  missing?: { cluster: string; why: string }[];
}

// How it went, with `since`.
export interface Point {
  workloads: number;
  // By check; one without a workload is missing.
  passing: Record<string, number>;
  failing: Record<string, number>;
}

export interface Change {
  cluster: string;
  kind: string;
  namespace: string;
  name: string;
  team: string;
  check: string;
  became: "failed" | "came" | "mended" | "gone";
}

export interface History {
  since: string;
  until: string;
  by: string;
  moments: string[];
  lines: { key: string; points: (Point | null)[] }[];
  // "" where nothing was known then.
  clusters: { cluster: string; name: string; before: string; after: string }[];
  changes: Change[];
  left_out: number;
}
