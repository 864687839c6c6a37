// A cluster's graph as the feed tells it: items in Kiali's vendor JSON, findings, drift, and what is known
// of the cluster itself.

export interface Reference {
  group?: string;
  kind: string;
  namespace: string;
  name: string;
}

export interface Finding {
  code: string;
  codes: string[];
  level: string;
  object: Reference;
  path: string;
  message: string;
  cause: string;
  remedy: string;
  since: string;
}

export interface Drift {
  id: string;
  object: Reference;
  kind: string;
  changes: { path: string; wanted?: unknown; found?: unknown }[];
  more: number;
  manager: string;
  time: string;
  detected: string;
  mode: string;
  healing: string;
  intent?: { kind?: string; when?: string };
}

// Rates are texts, by names such as `httpPercentErr`.
export interface Traffic {
  protocol: string;
  rates?: Record<string, string> | null;
  responses?: Record<string, { flags?: Record<string, string>; hosts?: Record<string, string> }>;
}

// What an item says of itself in a word, or in an object that has it.
export type Health = string | { status?: string } | null;

// What a node is, or has, beyond its names; all but the objects are there or not.
export interface Flags {
  hasCB?: unknown;
  hasFaultInjection?: unknown;
  hasMirroring?: unknown;
  hasRequestRouting?: unknown;
  hasRequestTimeout?: unknown;
  hasTCPTrafficShifting?: unknown;
  hasTrafficShifting?: unknown;
  hasVS?: { hostnames?: string[] };
  hasWorkloadEntry?: unknown;
  isAmbient?: unknown;
  isDead?: unknown;
  isGateway?: { ingressInfo?: { hostnames?: string[] } };
  isIdle?: unknown;
  isInaccessible?: unknown;
  isK8sGatewayAPI?: unknown;
  isOutOfMesh?: unknown;
  isOutside?: unknown;
  isRoot?: unknown;
  isServiceEntry?: { hosts?: string[] };
  isWaypoint?: unknown;
}

export interface GraphNode extends Flags {
  id: string;
  nodeType?: string;
  // Of a box, what it groups by.
  isBox?: string;
  cluster?: string;
  namespace?: string;
  app?: string;
  version?: string;
  workload?: string;
  service?: string;
  aggregate?: string;
  aggregateValue?: string;
  healthData?: Health;
  healthStatus?: string;
  traffic?: Traffic[];
  labels?: Record<string, string>;
  configs?: Reference[];
  destServices?: { name: string }[];
  // Proxies that are not in sync, by how they stand.
  proxyStatus?: Record<string, number>;
}

export interface GraphEdge {
  id: string;
  source: string;
  target: string;
  traffic?: Traffic | Traffic[];
  healthData?: Health;
  healthStatus?: string;
  responseTime?: string;
  throughput?: string;
  isMTLS?: string;
  sourcePrincipal?: string;
  destPrincipal?: string;
  waypoint?: { direction: string };
  // The object that routes there, where no request was seen.
  config?: {
    kind: string;
    namespace: string;
    name: string;
    path?: string;
    subset?: string;
    share?: number;
    mirror?: boolean;
    fault?: string;
    timeout?: string;
  } | null;
}

// What is known of a cluster as a whole.
export interface About {
  cluster?: string;
  name?: string;
  state?: string | undefined;
  detail?: string | undefined;
  since?: string;
  refused?: string[];
  telemetry?: { source?: string; state?: string; detail?: string; tried?: string[] };
  controlPlane?: { state?: string; detail?: string };
}

export interface Snapshot {
  cluster: string;
  // Of a past state.
  at?: string;
  nodes: GraphNode[];
  edges: GraphEdge[];
  findings: Record<string, Finding>;
  drift: Record<string, Drift>;
  info: Record<string, About>;
}

// Items by their ids; null takes one away.
export type Changed<Item> = Record<string, Item | null>;

export interface Delta {
  cluster: string;
  time: string;
  nodes?: Changed<GraphNode>;
  edges?: Changed<GraphEdge>;
  findings?: Changed<Finding>;
  drift?: Changed<Drift>;
  info?: Changed<About>;
}
