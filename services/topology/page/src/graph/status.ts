// The line at the bottom, the legend, and what stands where there is no graph.

import type { About } from "../contract/graph";
import { badgeLegend } from "./badges";
import { clock, healthName } from "./describe";
import { byId, make } from "./dom";
import { HEALTHS } from "./looks";
import type { Store } from "./store";
import type { Connection } from "../shell/stream";

// When the last change was told, and how long it was on its way, in milliseconds.
export interface Heard {
  time: string;
  delay: number;
}

const STATES: Record<Connection, string> = { connecting: "connecting", live: "connected", broken: "connection lost, trying again",
  resting: "resting" };

export class Status {
  private readonly state = make("span", { "data-state": "connecting" }, STATES.connecting);
  // Numbers that change all the time are not read aloud.
  private readonly rest = make("span", { "aria-live": "off" });
  private readonly problem = make("b", {});

  constructor() {
    byId("status").replaceChildren(this.state, " · ", this.problem, " ", this.rest);
  }

  connection(state: Connection): void {
    if (this.state.dataset["state"] === state) return;
    this.state.dataset["state"] = state;
    this.state.textContent = STATES[state];
  }

  say(problem: string): void {
    this.problem.textContent = problem;
  }

  show(store: Store, heard: Heard | null): void {
    const about = store.about;
    const telemetry = about.telemetry ?? {};
    this.rest.textContent = [
      about.state && about.state !== "watching" ? `cluster ${about.state}: ${about.detail ?? ""}` : "",
      `${store.nodes.size} nodes, ${store.edges.size} edges`,
      telemetry.source || telemetry.state
        ? `traffic: ${[telemetry.source, telemetry.state].filter(Boolean).join(", ")}` : "no traffic known",
      heard ? `last change ${clock(heard.time)} (${Math.max(0, heard.delay)} ms)` : "no change yet",
    ].filter(Boolean).join(" · ");
  }
}

export function drawEmpty(clusters: readonly About[], store: Store, isLoaded: boolean): void {
  const empty = byId("empty");
  const isEmpty = isLoaded && store.nodes.size === 0 && store.at === null;
  empty.hidden = !isEmpty;
  if (!isEmpty) return;
  empty.replaceChildren(...(clusters.length === 0 ? noCluster() : nothingInIt(store.about)));
}

function noCluster(): HTMLElement[] {
  return [
    make("h2", {}, "No cluster is registered"),
    make("p", {}, "A cluster is registered by its first use: select it in Meshery and run any operation "
      + "of this adapter, such as an install or a check. Its graph appears here by itself."),
    make("p", {}, "What is registered: ", make("code", {}, "nats req mesh.gateway.clusters ''")),
  ];
}

function nothingInIt({ name, cluster, state, detail }: About): HTMLElement[] {
  const title = make("h2", {}, `${name ?? cluster ?? "The cluster"}: `
    + (state === "watching" ? "nothing to draw" : state ?? "not watched yet"));
  if (state === "watching") {
    return [title, make("p", {}, "The cluster is watched, but there is no service and no workload in it "
      + "yet. What is deployed appears here by itself.")];
  }
  return [title, make("p", {}, detail || "The first watch has not answered yet.")];
}

const SHAPES: Record<string, string> = { app: "▢", workload: "○", service: "△", gateway: "◇", waypoint: "⬠",
  "service entry": "▷", aggregate: "⬡", "unknown source": "☆" };

export function drawLegend(container: HTMLElement): void {
  container.replaceChildren(
    ...Object.entries(SHAPES).flatMap(([name, sign]) => [make("span", {}, sign), make("span", {}, name)]),
    ...HEALTHS.flatMap((level) =>
      [make("span", { "data-colour": level }, "◉"), make("span", {}, healthName(level))]),
    ...[["━", "healthy", "traffic, coloured by errors"], ["━", "tcp", "TCP"],
      ["╌", "config", "configuration only"], ["┈", "idle", "idle"]].flatMap(([sign, colour, text]) =>
      [make("span", { "data-colour": colour }, sign), make("span", {}, text)]),
    make("span", {}, "◌"), make("span", {}, "dashed border: no traffic"),
    make("span", { "data-colour": "degraded" }, "▒"), make("span", {}, "halo: findings"),
    make("span", { "data-colour": "notready" }, "●"), make("span", {}, "filled: drift"),
    ...badgeLegend().flatMap(([uri, text]) => [make("img", { src: uri, alt: "" }), make("span", {}, text)]),
  );
}
