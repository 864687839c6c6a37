// How something stands: a sign, a word, and a colour; never the colour alone.

import type { ComponentChildren } from "preact";
import type { State } from "../shell/records";
import { moment, wholeMoment } from "./figures";

export type Tone = "good" | "warn" | "bad" | "info" | "none";

const SIGNS: Record<Tone, string> = { good: "✓", warn: "▲", bad: "✕", info: "●", none: "○" };

export function Sign({ tone, children, title }: { tone: Tone; children: ComponentChildren; title?: string }) {
  return <span class="sign" data-tone={tone} title={title}><span aria-hidden="true">{SIGNS[tone]}</span> {children}</span>;
}

const TONES: Record<State, Tone> = {
  waiting: "none", running: "info", succeeded: "good", failed: "bad", cancelled: "warn",
};

export function StateSign({ state }: { state: State }) {
  return <Sign tone={TONES[state]}>{state}</Sign>;
}

// A moment, with the whole of it to be seen and read.
export function Moment({ time }: { time: string }) {
  return <time dateTime={time} title={wholeMoment(time)}>{moment(time)}</time>;
}
