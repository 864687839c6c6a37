// The one event stream of this tab. Views say what they look at; everything comes by it, and goes on
// where it was after the service, NATS or the network were away. A tab that nobody sees closes it.

import { signal } from "@preact/signals";

const SILENCE_MS = 40_000; // The server says something every 15 s.
const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 10_000;
const HIDDEN_MS = 15_000;

export interface Look {
  cluster?: string;
  graphType?: string;
  topics: readonly string[];
}

export type Connection = "connecting" | "live" | "broken" | "resting";

type Heard = (data: never, id: string) => void;

const NAMES = ["snapshot", "delta", "clusters", "gone", "fleet", "operation", "begin", "missed", "troubles"] as const;
// What the server says, and "back": the connection was away, and is here again.
export type Name = (typeof NAMES)[number] | "back";
// After these, what was asked beside the stream has failed or may be old.
export const ANEW: readonly Name[] = ["begin", "back", "missed"];

export class Stream {
  readonly state = signal<Connection>("connecting");
  // When the last thing of any kind came: what is on the screen is as old as that.
  readonly heardAt = signal(Date.now());
  private look: Look | null = null;
  private source: EventSource | null = null;
  private graphAt = "";
  private operationsAt = "";
  private wait = FIRST_WAIT_MS;
  private isAway = false;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private hiding: ReturnType<typeof setTimeout> | undefined;
  private readonly listeners = new Map<Name, Set<Heard>>();

  constructor() {
    document.addEventListener("visibilitychange", () => this.seen());
    addEventListener("online", () => { if (this.state.value === "broken") this.connect(); });
  }

  // Calls `heard` for each event of these names until the function is called that this returns.
  on<T>(names: Name | readonly Name[], heard: (data: T, id: string) => void): () => void {
    const all = (typeof names === "string" ? [names] : names).map((name) => {
      const known = this.listeners.get(name) ?? new Set();
      this.listeners.set(name, known.add(heard as Heard));
      return known;
    });
    return () => { for (const one of all) one.delete(heard as Heard); };
  }

  // What the view needs from here on. The same again does nothing.
  follow(look: Look): void {
    const before = this.look;
    if (before !== null && same(before, look)) return;
    if (before?.cluster !== look.cluster || before?.graphType !== look.graphType) this.graphAt = "";
    if (!look.topics.includes("operations")) this.operationsAt = "";
    this.look = look;
    this.wait = FIRST_WAIT_MS;
    if (!document.hidden || this.state.value !== "resting") this.connect();
  }

  private connect(): void {
    this.close();
    if (this.look === null) return;
    this.state.value = "connecting";
    const { cluster, graphType, topics } = this.look;
    const query = new URLSearchParams();
    if (cluster) query.set("cluster", cluster);
    if (graphType) query.set("graphType", graphType);
    if (topics.length > 0) query.set("topics", topics.join(","));
    const after = this.graphAt + (this.operationsAt ? `~${this.operationsAt}` : "");
    if (after) query.set("after", after);
    const source = new EventSource(`/api/events?${query}`);
    this.source = source;
    source.onopen = () => {
      this.wait = FIRST_WAIT_MS;
      this.heard("");
      this.state.value = "live";
      if (!this.isAway) return;
      this.isAway = false;
      this.tell("back", null, "");
    };
    source.onerror = () => this.failed();
    for (const name of NAMES) {
      source.addEventListener(name, (event: MessageEvent<string>) => {
        this.heard(event.lastEventId);
        this.tell(name, JSON.parse(event.data), event.lastEventId);
      });
    }
    source.addEventListener("ping", (event: MessageEvent<string>) => this.heard(event.lastEventId));
    this.watch();
  }

  private tell(name: Name, data: unknown, id: string): void {
    for (const heard of this.listeners.get(name) ?? []) heard(data as never, id);
  }

  private close(): void {
    clearTimeout(this.timer);
    this.source?.close();
    this.source = null;
  }

  private heard(id: string): void {
    const [graph, operations] = id.split("~");
    // Of all clusters together there is no one position: that begins anew.
    if (graph && this.look?.cluster !== "*") this.graphAt = graph;
    if (operations) this.operationsAt = operations;
    this.heardAt.value = Date.now();
    this.watch();
  }

  private watch(): void {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => {
      this.isAway = true;
      this.connect();
    }, SILENCE_MS);
  }

  // The browser would try again with the position of one topic alone, so this does.
  private failed(): void {
    this.close();
    this.isAway = true;
    this.state.value = "broken";
    this.timer = setTimeout(() => this.connect(), this.wait);
    this.wait = Math.min(2 * this.wait, LONGEST_WAIT_MS);
  }

  private seen(): void {
    clearTimeout(this.hiding);
    if (!document.hidden) {
      if (this.state.value === "resting") this.connect();
      return;
    }
    this.hiding = setTimeout(() => {
      this.close();
      this.isAway = true;
      this.state.value = "resting";
    }, HIDDEN_MS);
  }
}

function same(one: Look, other: Look): boolean {
  return one.cluster === other.cluster && one.graphType === other.graphType
    && one.topics.join() === other.topics.join();
}

export const stream = new Stream();
