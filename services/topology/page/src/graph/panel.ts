// The details of what is selected: a node, an edge, or an object that findings or drift name.

import type { About, Drift, Finding, Flags, GraphEdge, GraphNode, Reference } from "../contract/graph";
import {
  clock, compact, configOf, configText, dateAndClock, edgeLabel, edgeTraffic, fullKind, health,
  healthName, isConfiguration, keyOf, kindName, nodeTitle, objectName, rateText, telling, trafficOf,
} from "./describe";
import { facts, make, renew, table } from "./dom";
import type { Marks } from "./marks";
import type { Store } from "./store";

// What is selected: an element of the graph, or an object that may be none.
export type Chosen =
  | { type: "node" | "edge"; id: string }
  | { type: "object"; object: Reference; cluster: string; id?: string | undefined };

// As an address has it: `node:ID`, `edge:ID`, or `object:CLUSTER/GROUP/KIND/NAMESPACE/NAME`.
export function chosenText(chosen: Chosen | null): string {
  if (chosen === null) return "";
  if (chosen.type !== "object") return `${chosen.type}:${chosen.id}`;
  const { namespace, name } = chosen.object;
  return `object:${[chosen.cluster, fullKind(chosen.object), namespace, name].join("/")}`;
}

// null for what is no such text.
export function chosenIn(text: string): Chosen | null {
  const type = text.slice(0, text.indexOf(":")), rest = text.slice(type.length + 1);
  if (type === "node" || type === "edge") return { type, id: rest };
  const [cluster, group, kind, namespace, name] = rest.split("/");
  return type !== "object" || cluster === undefined || group === undefined || kind === undefined || namespace === undefined
    || name === undefined ? null : { type, cluster, object: { group, kind, namespace, name } };
}

type Choose = (chosen: Chosen) => void;

// A part of the panel: `of` is what it shows, and it is built anew only where that is another.
interface Section {
  name: string;
  of: unknown;
  build: () => HTMLElement;
}
type Sections = (Section | false)[];

const FLAGS: Required<Record<keyof Flags, string>> = {
  hasCB: "circuit breaker", hasFaultInjection: "fault injection", hasMirroring: "mirroring",
  hasRequestRouting: "request routing", hasRequestTimeout: "timeouts",
  hasTCPTrafficShifting: "TCP shifting", hasTrafficShifting: "traffic shifting",
  hasVS: "virtual service", hasWorkloadEntry: "workload entries", isAmbient: "ambient",
  isDead: "no pods", isGateway: "gateway", isIdle: "idle", isInaccessible: "not accessible",
  isK8sGatewayAPI: "Gateway API", isOutOfMesh: "no sidecar",
  isOutside: "outside", isRoot: "entry", isServiceEntry: "service entry", isWaypoint: "waypoint",
};

const MODES: Record<string, string> = { report: "Reported only", heal: "To be put back" };

export class Panel {
  private readonly choose: Choose;

  // `choose` selects something else.
  constructor(private readonly container: HTMLElement, { choose }: { choose: Choose }) {
    this.choose = choose;
  }

  show(selection: Chosen | null, store: Store, marks: Marks): void {
    const sections = this.sections(selection, store, marks);
    renew(this.container, sections.filter((one) => one !== false).map(({ name, of, build }) => ({
      key: `${name} ${JSON.stringify(of)} ${store.at ?? ""}`, build,
    })));
  }

  private sections(selection: Chosen | null, store: Store, marks: Marks): Sections {
    if (selection?.type === "object") return this.ofObject(selection.object, selection.cluster, store);
    const node = selection?.type === "node" ? store.nodes.get(selection.id) : undefined;
    if (node !== undefined) return this.ofNode(node, store, marks);
    const edge = selection?.type === "edge" ? store.edges.get(selection.id) : undefined;
    return edge !== undefined ? this.ofEdge(edge, store) : [this.hint(store, selection)];
  }

  private hint(store: Store, selection: Chosen | null): Section {
    const text = selection ? "What was selected is not there any more."
      : "Select a node or an edge: click it, or press an arrow key in the graph.";
    return {
      name: "hint", of: [text, store.about],
      build: () => make("section", {}, make("h2", {}, store.about.name ?? "No cluster"),
        make("p", { class: "soft" }, text), aboutCluster(store.about)),
    };
  }

  // --- nodes ------------------------------------------------------------------------------------

  private ofNode(node: GraphNode, store: Store, marks: Marks): Sections {
    const edges = telling([...store.edges.values()]
      .filter((edge) => edge.source === node.id || edge.target === node.id));
    return [
      { name: "head", of: headOf(node), build: () => nodeHead(node) },
      this.traffic(node, store, edges),
      this.notes("Findings", marks.findings.get(node.id) ?? [], findingNote),
      this.notes("Drift", marks.drift.get(node.id) ?? [], driftNote),
      this.configs(node.configs ?? [], store, store.clusterOf("nodes", node.id)),
      this.neighbours("Called by", edges.filter((edge) => edge.target === node.id), "source", store),
      this.neighbours("Calls", edges.filter((edge) => edge.source === node.id), "target", store),
    ];
  }

  private traffic(node: GraphNode, store: Store, edges: readonly GraphEdge[]): Section | false {
    const rows = (node.traffic ?? []).map(({ protocol, rates }) =>
      [protocol, ...["In", "Out"].map((way) => rates?.[`${protocol}${way}`] ?? ""), errorsIn(protocol, rates)]);
    const times = edges.filter((edge) => edge.target === node.id && edge.responseTime !== undefined)
      .map((edge) => [titleOf(store, edge.source), `${edge.responseTime} ms`] as const);
    return (rows.length > 0 || times.length > 0) && {
      name: "traffic", of: [rows, times],
      build: () => make("section", {}, make("h3", {}, "Traffic"),
        rows.length > 0 && table(["", "in /s", "out /s", "errors in /s"], rows),
        times.length > 0 && make("h3", {}, "Response times"),
        times.length > 0 && facts(times)),
    };
  }

  private neighbours(title: string, edges: readonly GraphEdge[], end: "source" | "target", store: Store): Section | false {
    const rows = edges.flatMap((edge) => {
      const node = store.nodes.get(edge[end]);
      return node === undefined ? [] : [[edge, node] as const];
    });
    return rows.length > 0 && {
      name: title, of: rows.map(([edge, node]) => [edge.id, nodeTitle(node), edgeText(edge)]),
      build: () => make("section", {}, make("h3", {}, title), make("ul", {}, rows.map(([edge, node]) =>
        make("li", {}, this.link(nodeTitle(node), { type: "node", id: node.id }), " ",
          make("span", { class: "soft" }, edgeText(edge)))))),
    };
  }

  private link(text: string, selection: Chosen): HTMLElement {
    return make("button", { type: "button", class: "link", onclick: () => this.choose(selection) }, text);
  }

  // --- edges ------------------------------------------------------------------------------------

  private ofEdge(edge: GraphEdge, store: Store): Sections {
    const source = titleOf(store, edge.source), target = titleOf(store, edge.target);
    const responses = trafficOf(edge).flatMap((one) => Object.entries(one.responses ?? {}));
    return [
      {
        name: "edge", of: [edge, source, target],
        build: () => make("section", {},
          make("h2", {}, this.link(source, { type: "node", id: edge.source }), " → ",
            this.link(target, { type: "node", id: edge.target })),
          facts([
            ["Traffic", edgeTraffic(edge).map((one) => `${one.protocol} ${rateText(one)}`).join(", ") || "none"],
            ["Health", healthName(health(edge))],
            ["Response time", edge.responseTime && `${edge.responseTime} ms`],
            ["Throughput", edge.throughput && `${edge.throughput} B/s`],
            ["mTLS", edge.isMTLS !== undefined && edgeLabel(edge, "mtls")],
            ["Source identity", edge.sourcePrincipal],
            ["Target identity", edge.destPrincipal],
            ["Waypoint", edge.waypoint?.direction],
            ["Routed by", edge.config?.path],
            ["Configuration", configText(edge)],
          ]),
          responses.length > 0 && make("h3", {}, "Responses"),
          responses.length > 0 && table(["code", "flags", "hosts"], responses.map(([code, told]) =>
            [code, shares(told.flags), shares(told.hosts)]))),
      },
      this.configs([configOf(edge)].filter((one) => one !== null), store, store.clusterOf("edges", edge.id)),
    ];
  }

  // --- objects ----------------------------------------------------------------------------------

  // Other kinds than the mesh's own are not shown by the service.
  private ofObject(object: Reference, cluster: string, store: Store): Sections {
    const key = keyOf(object);
    const about = <Item extends { object: Reference }>(part: "findings" | "drift", items: ReadonlyMap<string, Item>) =>
      [...items].filter(([id, item]) => keyOf(item.object) === key && store.clusterOf(part, id) === cluster).map(([, item]) => item);
    return [
      { name: "object", of: object, build: () => make("section", {}, make("h2", {}, objectName(object))) },
      this.notes("Findings", about("findings", store.findings), findingNote),
      this.notes("Drift", about("drift", store.drift), driftNote),
      this.configs([object].filter(isConfiguration), store, cluster, true),
    ];
  }

  private notes<Item>(title: string, items: readonly Item[], note: (item: Item) => HTMLElement): Section | false {
    return items.length > 0 && {
      name: title, of: items,
      build: () => make("section", {}, make("h3", {}, title), items.map((item) => note(item))),
    };
  }

  private configs(objects: readonly Reference[], store: Store, cluster: string, isOpen = false): Section | false {
    return objects.length > 0 && {
      name: "configs", of: [cluster, objects],
      build: () => make("section", {},
        make("h3", {}, store.at === null ? "Configuration" : "Configuration, as it is now"),
        objects.map((object) => yamlOf(cluster, object, isOpen))),
    };
  }
}

const titleOf = (store: Store, id: string): string => {
  const node = store.nodes.get(id);
  return node === undefined ? id : nodeTitle(node);
};

function headOf(node: GraphNode): object {
  const { traffic: _, ...rest } = node;
  return rest;
}

function nodeHead(node: GraphNode): HTMLElement {
  const flags = Object.entries(FLAGS).filter(([flag]) => node[flag as keyof Flags]).map(([, name]) => name);
  const labels = Object.entries(node.labels ?? {}).map(([name, value]) => `${name}=${value}`);
  return make("section", {},
    make("h2", {}, nodeTitle(node)),
    flags.length > 0 && make("p", { class: "tags" }, flags.map((flag) => make("span", {}, flag))),
    facts([
      ["Kind", kindName(node)], ["Namespace", node.namespace], ["Cluster", node.cluster],
      ["App", node.app], ["Version", node.version], ["Workload", node.workload],
      ["Service", node.service],
      ["Health", make("span", { "data-colour": health(node) }, healthName(health(node)))],
      ["Proxies", Object.entries(node.proxyStatus ?? {}).map(([how, count]) => `${count} ${how}`).join(", ")],
      ["Serves", (node.destServices ?? []).map((one) => one.name).join(", ")],
      ["Hosts", [node.isServiceEntry?.hosts, node.hasVS?.hostnames,
        node.isGateway?.ingressInfo?.hostnames].flat().filter(Boolean).join(", ")],
      ["Labels", labels.join(", ")],
    ]));
}

function errorsIn(protocol: string, rates: Record<string, string> | null | undefined): string {
  const names = protocol === "grpc" ? ["grpcInErr", "grpcInNoResponse"]
    : ["httpIn4xx", "httpIn5xx", "httpInNoResponse"];
  const sum = names.reduce((all, name) => all + (Number.parseFloat(rates?.[name] ?? "") || 0), 0);
  return sum > 0 ? compact(sum) : "";
}

const shares = (told: Record<string, string> | undefined): string => Object.entries(told ?? {}).map(([name, part]) => `${name} ${part} %`).join(", ");
const edgeText = (edge: GraphEdge): string => edgeTraffic(edge).map(rateText).join(", ") || configText(edge) || "idle";

// The text of a configuration object, fetched when it is opened.
function yamlOf(cluster: string, object: Reference, isOpen: boolean): HTMLElement {
  const text = make("pre", { tabindex: 0 }, "…");
  const load = async () => {
    const { namespace = "", name } = object;
    const query = new URLSearchParams({ cluster, kind: fullKind(object), namespace, name });
    const response = await fetch(`/api/object?${query}`);
    const told = await response.json() as { yaml: string; summary: string; remedy: string };
    text.textContent = response.ok ? told.yaml : `${told.summary}\n${told.remedy}`;
  };
  const element = make("details", {}, make("summary", {}, objectName(object)), text);
  element.addEventListener("toggle", () => {
    if (element.open) load().catch((error: Error) => { text.textContent = `not readable: ${error.message}`; });
  });
  element.open = isOpen;
  return element;
}

export function findingNote(finding: Finding): HTMLElement {
  return make("div", { class: "note", "data-level": finding.level },
    make("p", {}, make("b", {}, (finding.codes ?? [finding.code]).join(", ")), ` ${finding.message}`),
    finding.path && make("p", { class: "soft" }, finding.path),
    finding.cause && make("p", { class: "soft" }, `Cause: ${finding.cause}`),
    finding.remedy && make("p", { class: "soft" }, `Remedy: ${finding.remedy}`));
}

export function driftNote(drift: Drift): HTMLElement {
  const value = (tag: "del" | "ins", mark: string, told: unknown) => told !== undefined && told !== null
    && make(tag, {}, `${mark} ${typeof told === "string" ? told : JSON.stringify(told)}`);
  return make("div", { class: "note", "data-level": "drift" },
    make("p", {}, make("b", {}, drift.kind), drift.manager ? ` by ${drift.manager}` : "",
      drift.time ? ` at ${clock(drift.time)}` : ""),
    (drift.changes ?? []).map((change) => make("div", { class: "soft" }, change.path,
      make("div", {}, value("del", "−", change.wanted)), make("div", {}, value("ins", "+", change.found)))),
    drift.more > 0 && make("p", { class: "soft" }, `and ${drift.more} more fields`),
    drift.intent && make("p", { class: "soft" }, `Applied by ${drift.intent.kind || "Meshbus"}`
      + (drift.intent.when ? ` at ${dateAndClock(drift.intent.when)}` : "")),
    make("p", { class: "soft" }, drift.healing ? `Healing: ${drift.healing}` : MODES[drift.mode] ?? drift.mode));
}

function aboutCluster(about: About): HTMLElement {
  return facts([
    ["State", about.state], ["", about.detail],
    ["Telemetry", about.telemetry && [about.telemetry.source, about.telemetry.state, about.telemetry.detail]
      .filter(Boolean).join(", ")],
    ...(about.telemetry?.tried ?? []).map((tried) => ["", tried] as const),
    ["Control plane", about.controlPlane && [about.controlPlane.state, about.controlPlane.detail]
      .filter(Boolean).join(", ")],
    ["Not readable", (about.refused ?? []).join(", ")],
    ["Watched since", about.since && dateAndClock(about.since)],
  ]);
}

