// Time travel: a slider over the moments at which something changed. Its right end is now.

import type { Snapshot } from "../contract/graph";
import type { Problem } from "../contract/console";
import { byId } from "./dom";

const PAUSE_MS = 120; // A dragged slider asks when it rests.
const MOST_MOMENTS = 5_000;

interface Travelled {
  past: (state: Snapshot, at: string) => void;
  // At the way back.
  live: () => void;
  failed: (text: string) => void;
}

export class Travel {
  moments: string[] = [];
  isPast = false;
  private isEnded = false;
  private at = "";
  private query = { cluster: "", graphType: "" };
  private timer: ReturnType<typeof setTimeout> | undefined;
  private readonly slider = byId<HTMLInputElement>("moment");
  private readonly text = byId("moment-text");

  constructor(private readonly on: Travelled) {
    this.slider.addEventListener("input", () => this.moved());
    byId("back-to-live").addEventListener("click", () => this.back());
    this.draw();
  }

  // With `at` that moment is shown, once it is known what there was.
  async open(cluster: string, graphType: string, at = ""): Promise<void> {
    this.query = { cluster, graphType };
    this.moments = [];
    this.back();
    if (!cluster) return;
    const response = await fetch(`/api/moments?${new URLSearchParams({ cluster })}`);
    if (!response.ok || this.query.cluster !== cluster) return;
    const { moments } = await response.json() as { moments: string[] };
    if (this.isEnded) return;
    this.moments = [...moments, ...this.moments];
    this.draw();
    if (at) this.go(at);
  }

  private go(at: string): void {
    this.isPast = true;
    this.at = at;
    this.slider.value = String(this.moments.findLastIndex((one) => one <= at));
    this.draw();
    void this.load(at);
  }

  // Something changed just now.
  add(time: string): void {
    this.moments.push(time);
    if (this.moments.length > MOST_MOMENTS) this.thin();
    this.draw();
  }

  // Forgets every second moment, but not the one that is looked at.
  private thin(): void {
    this.moments = this.moments.filter((at, index) => index % 2 === 1 || (this.isPast && at === this.at));
    if (this.isPast) this.slider.value = String(this.moments.indexOf(this.at));
  }

  private draw(): void {
    const last = this.moments.length;
    // Without a past, now still stands at the right.
    this.slider.max = String(last || 1);
    if (!this.isPast) this.slider.value = this.slider.max;
    this.slider.disabled = last === 0;
    const text = this.isPast ? new Date(this.at).toLocaleString([], { hour12: false }) : "live";
    this.text.textContent = text;
    this.slider.setAttribute("aria-valuetext", text);
    byId("back-to-live").hidden = !this.isPast;
    document.body.dataset["time"] = this.isPast ? "past" : "live";
  }

  private moved(): void {
    const at = this.moments[Number(this.slider.value)];
    if (at === undefined) {
      this.back();
      return;
    }
    this.isPast = true;
    this.at = at;
    this.draw();
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.load(at), PAUSE_MS);
  }

  private async load(at: string): Promise<void> {
    try {
      const response = await fetch(`/api/history?${new URLSearchParams({ ...this.query, at })}`);
      const told = await response.json() as Snapshot & Problem;
      if (!this.isPast || this.at !== at) return;
      if (response.ok) this.on.past(told, at);
      else this.on.failed(`${told.summary}: ${told.remedy}`);
    } catch (error) {
      if (!this.isEnded) this.on.failed(`the past cannot be read: ${error instanceof Error ? error.message : String(error)}`);
    }
  }

  end(): void {
    clearTimeout(this.timer);
    this.isPast = false;
    this.isEnded = true;
  }

  back(): void {
    clearTimeout(this.timer);
    const was = this.isPast;
    this.isPast = false;
    this.draw();
    if (was) this.on.live();
  }
}
