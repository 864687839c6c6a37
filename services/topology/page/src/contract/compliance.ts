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
