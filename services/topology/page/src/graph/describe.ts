// What items mean: names, kinds, health, rates. Pure.

import type { GraphEdge, GraphNode, Health, Reference, Traffic } from "../contract/graph";

// What an edge carries by one protocol: a second's requests or bytes, and percent of errors.
export interface Carried {
  protocol: string;
  rate: number;
  errors: number;
  unit: string;
}

export type EdgeKind = "traffic" | "config" | "idle";

const RATES: Record<string, string> = { http: "req/s", grpc: "req/s", tcp: "B/s" };
const KINDS: Record<string, string> = { external: "service entry", unknown: "unknown source" };
const LEVELS = ["na", "healthy", "degraded", "failure", "notready"];

export function nodeName(node: GraphNode): string {
  if (node.nodeType === "unknown") return node.service || "unknown";
  if (node.nodeType === "aggregate") return node.aggregateValue || node.aggregate || "aggregate";
  if (node.nodeType === "service") return node.service || "service";
  if (node.nodeType === "workload") return node.workload || "workload";
  return node.app || node.workload || node.service || "app";
}

export function nodeLabel(node: GraphNode): string {
  const name = nodeName(node);
  return node.nodeType === "app" && node.version ? `${name}\n${node.version}` : name;
}

// The same in one line, for texts.
export function nodeTitle(node: GraphNode): string {
  return nodeLabel(node).replace("\n", " ");
}

export function nodeKind(node: GraphNode): string {
  if (node.isWaypoint) return "waypoint";
  if (node.isGateway) return "gateway";
  if (node.isServiceEntry) return "external";
  return node.nodeType || "unknown";
}

export function kindName(node: GraphNode): string {
  const kind = nodeKind(node);
  return KINDS[kind] ?? kind;
}

// One of `LEVELS`, whatever capitals and shape the item says it in.
export function health(item: { healthStatus?: string; healthData?: Health }): string {
  const data = item.healthData;
  const told = item.healthStatus ?? (typeof data === "object" ? data?.status : data);
  const text = typeof told === "string" ? told.toLowerCase().replaceAll(/[^a-z]/g, "") : "na";
  return LEVELS.includes(text) ? text : "na";
}

export function healthName(level: string): string {
  return level === "na" ? "no health known" : level === "notready" ? "not ready" : level;
}

const number = (text: string | undefined): number => Number.parseFloat(text ?? "0") || 0;

// Everything an edge says of its traffic, one for each protocol.
export const trafficOf = (edge: GraphEdge): Traffic[] => [edge.traffic ?? []].flat();

// Everything an edge carries.
export function edgeTraffic(edge: GraphEdge): Carried[] {
  return trafficOf(edge).map(({ protocol, rates }) => ({
    protocol,
    rate: number(rates?.[protocol]),
    errors: number(rates?.[`${protocol}PercentErr`]),
    unit: RATES[protocol] ?? "/s",
  })).filter((one) => one.rate > 0);
}

// Edges without the idle ones between nodes that another edge connects: they would tell nothing.
export function telling(edges: readonly GraphEdge[]): GraphEdge[] {
  const pair = ({ source, target }: GraphEdge) => `${source} ${target}`;
  const told = new Set(edges.filter((edge) => edgeKind(edge) !== "idle").map(pair));
  return edges.filter((edge) => edgeKind(edge) !== "idle" || !told.has(pair(edge)));
}

export function edgeKind(edge: GraphEdge): EdgeKind {
  if (edgeTraffic(edge).length > 0) return "traffic";
  return edge.config === undefined || edge.config === null ? "idle" : "config";
}

export function edgeLabel(edge: GraphEdge, choice: string): string {
  const traffic = edgeTraffic(edge);
  if (choice === "rate") return traffic.map(rateText).join(", ") || configText(edge);
  if (choice === "time") {
    return edge.responseTime === undefined ? "" : `${compact(number(edge.responseTime))} ms`;
  }
  if (choice === "mtls") {
    return edge.isMTLS === undefined ? "" : `${compact(number(edge.isMTLS))} % mTLS`;
  }
  return "";
}

export function rateText({ rate, errors, unit }: Carried): string {
  const text = `${compact(rate)} ${unit}`;
  return errors > 0 ? `${text} (${compact(errors)} % errors)` : text;
}

// `subset v2, 20 %, timeout 2s` of a configuration edge.
export function configText(edge: GraphEdge): string {
  const config = edge.config;
  if (config === undefined || config === null) return "";
  const parts = [];
  if (config.subset) parts.push(`subset ${config.subset}`);
  if (config.share !== undefined) parts.push(`${config.share} %`);
  if (config.mirror) parts.push("mirror");
  if (config.fault) parts.push(config.fault);
  if (config.timeout) parts.push(`timeout ${config.timeout}`);
  return parts.join(", ");
}

export function compact(value: number): string {
  if (value >= 1e6) return `${(value / 1e6).toFixed(1)} M`;
  if (value >= 1e4) return `${(value / 1e3).toFixed(1)} k`;
  if (value >= 100) return value.toFixed(0);
  return String(Number(value.toFixed(2)));
}

// 0 (little) to 1 (much) in steps of a fiftieth, for the width of an edge: a change that nobody sees is not
// drawn, and Cytoscape keeps something of every width that it has ever drawn.
export function weight(edge: GraphEdge): number {
  const most = Math.max(0, ...edgeTraffic(edge).map(({ protocol, rate }) =>
    protocol === "tcp" ? rate / 1000 : rate));
  return Math.round(50 * Math.min(1, Math.log10(1 + most) / 4)) / 50;
}

// Objects are told with the group inside of their kind (`apps/Deployment`) or beside it.
export const fullKind = ({ group, kind }: { group?: string; kind: string }): string => (kind.includes("/") ? kind : `${group ?? ""}/${kind}`);

export function keyOf(object: { group?: string; kind: string; namespace?: string | undefined; name: string }): string {
  return `${fullKind(object)}|${object.namespace ?? ""}|${object.name}`;
}

// Whether an object belongs to the configuration of a mesh, which the service shows.
export function isConfiguration(object: Reference): boolean {
  const [group = ""] = fullKind(object).split("/");
  return group.endsWith(".istio.io") || group === "gateway.networking.k8s.io";
}

// The object that a configuration edge comes from; edges tell its kind alone.
export function configOf(edge: GraphEdge): Reference | null {
  if (!edge.config?.kind) return null;
  const { kind, namespace, name } = edge.config;
  const group = kind.endsWith("Route") ? "gateway.networking.k8s.io" : "networking.istio.io";
  return { group, kind, namespace, name };
}

export const shortKind = (kind: string): string => kind.slice(kind.lastIndexOf("/") + 1);

export function objectName({ kind, namespace, name }: Reference): string {
  return `${shortKind(kind)} ${namespace ? `${namespace}/` : ""}${name}`;
}

// Keys of the objects that a node stands for or is configured by.
export function keysOf(node: GraphNode): string[] {
  const keys = (node.configs ?? []).map((one) => keyOf(one));
  const namespace = node.namespace;
  if (node.service) keys.push(keyOf({ kind: "/Service", namespace, name: node.service }));
  if (node.workload) {
    for (const kind of ["apps/Deployment", "apps/StatefulSet", "apps/DaemonSet", "/Pod"]) {
      keys.push(keyOf({ kind, namespace, name: node.workload }));
    }
  }
  return keys;
}

export function searchText(node: GraphNode): string {
  return [node.app, node.workload, node.service, node.version, node.namespace, node.cluster,
    ...(node.isServiceEntry?.hosts ?? []), ...(node.hasVS?.hostnames ?? [])]
    .filter(Boolean).join(" ").toLowerCase();
}

export function clock(time: string): string {
  return new Date(time).toLocaleTimeString([], { hour12: false });
}

export function dateAndClock(time: string): string {
  return new Date(time).toLocaleString([], { hour12: false });
}
