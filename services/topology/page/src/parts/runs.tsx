// Runs of performance tests, as every view of them tells them.

import type { RunRecord } from "../contract/performance";
import type { State } from "../shell/records";
import { count, millis, percent, rate } from "./figures";
import { Sign } from "./signs";

const STATES: Record<string, State> = {
  queued: "waiting", waiting: "waiting", running: "running", done: "succeeded", failed: "failed", cancelled: "cancelled",
};

export const runState = (run: RunRecord): State => STATES[run.state] ?? "waiting";
export const isRunning = (run: RunRecord): boolean => ["queued", "waiting", "running"].includes(run.state);

// A gate has runs of its own, whose ids end like this.
const OF_GATE = /-(before|after)-\d+$/;
export const isOfGate = (run: RunRecord): boolean => run.kind === "performance-gate" && OF_GATE.test(run.run);
export const isGate = (run: RunRecord): boolean => run.kind === "performance-gate" && !OF_GATE.test(run.run);
export const runTitle = (run: { name: string; run: string }): string => run.name || run.run;
export const runAddress = (id: string): string => `/performance/${encodeURIComponent(id)}`;

export function RunProgress({ of: run }: { of: RunRecord }) {
  if (run.state !== "running" || run.duration_s <= 0) return null;
  const done = Math.min(run.elapsed_s, run.duration_s);
  const text = `${count(done)} of ${count(run.duration_s)} s`;
  return (
    <span class="progress">
      <progress max={run.duration_s} value={done} aria-label={`${runTitle(run)}: ${text}`} /> <span class="soft">{text}</span>
    </span>
  );
}

export function failedShare(failed: number, requests: number): string {
  return requests === 0 ? "–" : `${count(failed)} (${percent(100 * failed / requests)})`;
}

export function FailedSign({ failed, requests }: { failed: number; requests: number }) {
  return failed === 0 ? <Sign tone="good">none</Sign> : <Sign tone="bad">{failedShare(failed, requests)}</Sign>;
}

export const rateOf = (value: number | null): string => value === null ? "–" : rate(value);
export const p99Of = (run: RunRecord): string => millis(run.p99_ms);

// What a gate decided, in a word and a sign.
export function Decision({ of: run }: { of: RunRecord }) {
  if (isRunning(run)) return <Sign tone="info">measuring</Sign>;
  if (run.state === "done") return <Sign tone="good">the change stays</Sign>;
  if (run.state === "cancelled") return <Sign tone="warn">cancelled</Sign>;
  return <Sign tone="bad">{run.error?.remedy.startsWith("the change was rolled back") ? "rolled back" : "failed"}</Sign>;
}
