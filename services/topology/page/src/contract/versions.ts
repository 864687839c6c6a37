// Istio's versions, as `mesh.topology.versions` has them.

export interface Proxies {
  version: string;
  // Version of the control plane that they are connected to; "" where none knows them.
  controlPlane: string;
  count: number;
  // Whether Istio supports the pair.
  supported: boolean;
}

export interface ClusterVersions {
  cluster: string;
  name: string;
  controlPlanes: { revision: string; version: string }[];
  proxies: Proxies[];
}

export interface Versions {
  clusters: ClusterVersions[];
  // Version → clusters with such a control plane, version → proxies.
  summed: { controlPlanes: Record<string, number>; proxies: Record<string, number>; unsupported: number };
  missing: { cluster: string; name: string; why: string; remedy: string }[];
}
