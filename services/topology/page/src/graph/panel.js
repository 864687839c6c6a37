// The details of what is selected: a node, an edge, or an object that findings or drift name.

import {
  clock, compact, configOf, configText, dateAndClock, edgeLabel, edgeTraffic, fullKind, health,
  healthName, isConfiguration, keyOf, kindName, nodeTitle, objectName, rateText, telling,
} from "./describe.js";
import { facts, make, renew, table } from "./dom.js";

const FLAGS = {
  hasCB: "circuit breaker", hasFaultInjection: "fault injection", hasMirroring: "mirroring",
  hasRequestRouting: "request routing", hasRequestTimeout: "timeouts",
  hasTCPTrafficShifting: "TCP shifting", hasTrafficShifting: "traffic shifting",
  hasVS: "virtual service", hasWorkloadEntry: "workload entries", isAmbient: "ambient",
  isDead: "no pods", isGateway: "gateway", isIdle: "idle", isInaccessible: "not accessible",
  isK8sGatewayAPI: "Gateway API", isOutOfMesh: "no sidecar",
  isOutside: "outside", isRoot: "entry", isServiceEntry: "service entry", isWaypoint: "waypoint",
};

const MODES = { report: "Reported only", heal: "To be put back" };

export class Panel {
  // `choose` selects something else: {type, id} or {type: "object", object}.
  constructor(container, { choose }) {
    this.container = container;
    this.choose = choose;
  }

  show(selection, store, marks) {
    const sections = this.sections(selection, store, marks);
    renew(this.container, sections.filter(Boolean).map(({ name, of, build }) => ({
      key: `${name} ${JSON.stringify(of)} ${store.at ?? ""}`, build,
    })));
  }

  sections(selection, store, marks) {
    if (selection?.type === "object") return this.ofObject(selection.object, selection.cluster, store);
    const item = selection && store[`${selection.type}s`].get(selection.id);
    if (item === undefined || item === null) return [this.hint(store, selection)];
    return selection.type === "node" ? this.ofNode(item, store, marks) : this.ofEdge(item, store);
  }

  hint(store, selection) {
    const text = selection ? "What was selected is not there any more."
      : "Select a node or an edge: click it, or press an arrow key in the graph.";
    return {
      name: "hint", of: [text, store.about],
      build: () => make("section", {}, make("h2", {}, store.about.name ?? "No cluster"),
        make("p", { class: "soft" }, text), aboutCluster(store.about)),
    };
  }

  // --- nodes ------------------------------------------------------------------------------------

  ofNode(node, store, marks) {
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

  traffic(node, store, edges) {
    const rows = (node.traffic ?? []).map(({ protocol, rates }) =>
      [protocol, ...["In", "Out"].map((way) => rates?.[`${protocol}${way}`] ?? ""), errorsIn(protocol, rates)]);
    const times = edges.filter((edge) => edge.target === node.id && edge.responseTime !== undefined)
      .map((edge) => [nodeTitle(store.nodes.get(edge.source) ?? {}), `${edge.responseTime} ms`]);
    return (rows.length > 0 || times.length > 0) && {
      name: "traffic", of: [rows, times],
      build: () => make("section", {}, make("h3", {}, "Traffic"),
        rows.length > 0 && table(["", "in /s", "out /s", "errors in /s"], rows),
        times.length > 0 && make("h3", {}, "Response times"),
        times.length > 0 && facts(times)),
    };
  }

  neighbours(title, edges, end, store) {
    const rows = edges.map((edge) => [edge, store.nodes.get(edge[end])]).filter(([, node]) => node);
    return rows.length > 0 && {
      name: title, of: rows.map(([edge, node]) => [edge.id, nodeTitle(node), edgeText(edge)]),
      build: () => make("section", {}, make("h3", {}, title), make("ul", {}, rows.map(([edge, node]) =>
        make("li", {}, this.link(nodeTitle(node), { type: "node", id: node.id }), " ",
          make("span", { class: "soft" }, edgeText(edge)))))),
    };
  }

  link(text, selection) {
    return make("button", { type: "button", class: "link", onclick: () => this.choose(selection) }, text);
  }

  // --- edges ------------------------------------------------------------------------------------

  ofEdge(edge, store) {
    const [source, target] = [edge.source, edge.target].map((id) => store.nodes.get(id) ?? {});
    const responses = [edge.traffic ?? []].flat().flatMap((one) => Object.entries(one.responses ?? {}));
    return [
      {
        name: "edge", of: [edge, nodeTitle(source), nodeTitle(target)],
        build: () => make("section", {},
          make("h2", {}, this.link(nodeTitle(source), { type: "node", id: edge.source }), " → ",
            this.link(nodeTitle(target), { type: "node", id: edge.target })),
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
      this.configs([configOf(edge)].filter(Boolean), store, store.clusterOf("edges", edge.id)),
    ];
  }

  // --- objects ----------------------------------------------------------------------------------

  // Other kinds than the mesh's own are not shown by the service.
  ofObject(object, cluster, store) {
    const key = keyOf(object);
    const about = (part) => [...store[part]].filter(([id, item]) =>
      keyOf(item.object) === key && store.clusterOf(part, id) === cluster).map(([, item]) => item);
    return [
      { name: "object", of: object, build: () => make("section", {}, make("h2", {}, objectName(object))) },
      this.notes("Findings", about("findings"), findingNote),
      this.notes("Drift", about("drift"), driftNote),
      this.configs([object].filter(isConfiguration), store, cluster, true),
    ];
  }

  notes(title, items, note) {
    return items.length > 0 && {
      name: title, of: items,
      build: () => make("section", {}, make("h3", {}, title), items.map((item) => note(item))),
    };
  }

  configs(objects, store, cluster, isOpen = false) {
    return objects.length > 0 && {
      name: "configs", of: [cluster, objects],
      build: () => make("section", {},
        make("h3", {}, store.at === null ? "Configuration" : "Configuration, as it is now"),
        objects.map((object) => yamlOf(cluster, object, isOpen))),
    };
  }
}

function headOf(node) {
  const { traffic, ...rest } = node;
  return rest;
}

function nodeHead(node) {
  const flags = Object.entries(FLAGS).filter(([flag]) => node[flag]).map(([, name]) => name);
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

function errorsIn(protocol, rates = {}) {
  const names = protocol === "grpc" ? ["grpcInErr", "grpcInNoResponse"]
    : ["httpIn4xx", "httpIn5xx", "httpInNoResponse"];
  const sum = names.reduce((all, name) => all + (Number.parseFloat(rates[name]) || 0), 0);
  return sum > 0 ? compact(sum) : "";
}

const shares = (told) => Object.entries(told ?? {}).map(([name, part]) => `${name} ${part} %`).join(", ");
const edgeText = (edge) => edgeTraffic(edge).map(rateText).join(", ") || configText(edge) || "idle";

// The text of a configuration object, fetched when it is opened.
function yamlOf(cluster, object, isOpen) {
  const text = make("pre", { tabindex: 0 }, "…");
  const load = async () => {
    const { namespace = "", name } = object;
    const query = new URLSearchParams({ cluster, kind: fullKind(object), namespace, name });
    const response = await fetch(`/api/object?${query}`);
    const told = await response.json();
    text.textContent = response.ok ? told.yaml : `${told.summary}\n${told.remedy}`;
  };
  const element = make("details", {}, make("summary", {}, objectName(object)), text);
  element.addEventListener("toggle", () => {
    if (element.open) load().catch((error) => { text.textContent = `not readable: ${error.message}`; });
  });
  element.open = isOpen;
  return element;
}

export function findingNote(finding) {
  return make("div", { class: "note", "data-level": finding.level },
    make("p", {}, make("b", {}, (finding.codes ?? [finding.code]).join(", ")), ` ${finding.message}`),
    finding.path && make("p", { class: "soft" }, finding.path),
    finding.cause && make("p", { class: "soft" }, `Cause: ${finding.cause}`),
    finding.remedy && make("p", { class: "soft" }, `Remedy: ${finding.remedy}`));
}

export function driftNote(drift) {
  const value = (tag, mark, told) => told !== undefined && told !== null
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

function aboutCluster(about) {
  return facts([
    ["State", about.state], ["", about.detail],
    ["Telemetry", about.telemetry && [about.telemetry.source, about.telemetry.state, about.telemetry.detail]
      .filter(Boolean).join(", ")],
    ...(about.telemetry?.tried ?? []).map((tried) => ["", tried]),
    ["Control plane", about.controlPlane && [about.controlPlane.state, about.controlPlane.detail]
      .filter(Boolean).join(", ")],
    ["Not readable", (about.refused ?? []).join(", ")],
    ["Watched since", about.since && dateAndClock(about.since)],
  ]);
}

