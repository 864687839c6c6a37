// Numbers and times as people read them: with their units, in the reader's zone.

const COUNT = new Intl.NumberFormat([], { maximumFractionDigits: 0 });
const FINE = new Intl.NumberFormat([], { maximumFractionDigits: 1 });
const CLOCK = new Intl.DateTimeFormat([], { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const DAY = new Intl.DateTimeFormat([], { day: "2-digit", month: "short" });
const WHOLE = new Intl.DateTimeFormat([], { dateStyle: "medium", timeStyle: "long", hourCycle: "h23" });

export const count = (value: number): string => COUNT.format(value);

export function rate(perSecond: number): string {
  if (perSecond >= 10_000) return `${FINE.format(perSecond / 1000)} k/s`;
  return `${perSecond >= 100 ? COUNT.format(perSecond) : FINE.format(perSecond)} /s`;
}

export function size(bytes: number): string {
  for (const [unit, factor] of [["GiB", 2 ** 30], ["MiB", 2 ** 20], ["KiB", 2 ** 10]] as const) {
    if (bytes >= factor) return `${FINE.format(bytes / factor)} ${unit}`;
  }
  return `${COUNT.format(bytes)} B`;
}

export function percent(value: number | null): string {
  if (value === null) return "–";
  const text = value > 0 && value < 0.1 ? "< 0.1" : value > 99.9 && value < 100 ? "> 99.9" : FINE.format(value);
  return `${text} %`;
}

// Today the clock, else the day before it.
export function moment(time: string): string {
  const at = new Date(time);
  if (Number.isNaN(at.getTime())) return "";
  const isToday = at.toDateString() === new Date().toDateString();
  return isToday ? CLOCK.format(at) : `${DAY.format(at)}, ${CLOCK.format(at)}`;
}

export function wholeMoment(time: string): string {
  const at = new Date(time);
  return Number.isNaN(at.getTime()) ? "" : WHOLE.format(at);
}

export function duration(seconds: number): string {
  if (seconds < 1) return `${Math.max(0, Math.round(seconds * 1000))} ms`;
  if (seconds < 10) return `${FINE.format(seconds)} s`;
  if (seconds < 120) return `${Math.round(seconds)} s`;
  if (seconds < 7200) return `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`;
  return `${Math.floor(seconds / 3600)} h ${Math.round((seconds % 3600) / 60)} min`;
}

export function plural(number: number, one: string, several = `${one}s`): string {
  return `${count(number)} ${number === 1 ? one : several}`;
}

// A time of an answer, with three digits.
export function millis(value: number | null | undefined): string {
  if (value === null || value === undefined) return "–";
  if (value >= 10_000) return `${FINE.format(value / 1000)} s`;
  return `${value >= 100 ? COUNT.format(value) : Number(value.toPrecision(3)).toString()} ms`;
}

// A share as a change: with its sign, and of shares themselves in points.
export function change(share: number, unit = "%"): string {
  const text = FINE.format(Math.abs(share) * 100);
  return `${text === "0" ? "" : share > 0 ? "+" : "−"}${text} ${unit}`;
}
