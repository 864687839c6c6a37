// What the service API answers, kept while a view shows it: asked again when something happened,
// each second while something runs, and not at all in a tab that nobody sees.

import { useEffect, useState } from "preact/hooks";
import { ask, Failure, get } from "./answers";
import { lastEvents } from "./operations";
import { ANEW, stream } from "./stream";

// An answer holds for a second at the server: what is asked at once may be older than the event that
// it is asked for, so it is asked again after that.
const SOON_MS = [200, 1_200];

export interface Asked<T> {
  // null until something was answered; what was answered last stays while a later answer fails.
  told: T | null;
  failure: Failure | null;
  // Asks now, and once more when the answer that the server holds is gone.
  again: () => void;
}

interface Options<T> {
  // Asks again after so long, as long as this says so; 0 for never.
  everyMs?: (told: T | null) => number;
  // Asks again when one of this service's operations went on.
  service?: string;
}

// The answer to `question`, or what an address of the server has; without a question nothing is asked.
export function useAsked<T>(name: string, question: object | null, { everyMs, service = "" }: Options<T> = {}): Asked<T> {
  const key = question === null ? "" : JSON.stringify(question);
  const [answer, setAnswer] = useState<{ key: string; told: T | null; failure: Failure | null }>({ key: "", told: null, failure: null });
  const [round, setRound] = useState(0);
  const again = () => setRound((known) => known + 1);
  const isMine = answer.key === `${name} ${key}`;
  const told = isMine ? answer.told : null;
  useEffect(() => {
    if (key === "") return undefined;
    const leaving = new AbortController(), mine = `${name} ${key}`;
    const asked = name.startsWith("/") ? get<T>(name, leaving.signal) : ask<T>(name, JSON.parse(key) as object, leaving.signal);
    asked.then(
      (found) => setAnswer({ key: mine, told: found, failure: null }),
      (error: unknown) => {
        if (!(error instanceof Failure)) return;
        setAnswer((known) => ({ key: mine, told: known.key === mine ? known.told : null, failure: error }));
      },
    );
    return () => leaving.abort();
  }, [name, key, round]);
  useEffect(() => {
    if (key === "") return undefined;
    const every = everyMs?.(told) ?? 0;
    if (every === 0) return undefined;
    const timer = setTimeout(() => {
      if (document.hidden) addEventListener("visibilitychange", again, { once: true });
      else again();
    }, every);
    return () => {
      clearTimeout(timer);
      removeEventListener("visibilitychange", again);
    };
  }, [name, key, answer]);
  useEffect(() => {
    if (key === "") return undefined;
    let soon: ReturnType<typeof setTimeout>[] = [];
    const forget = () => { soon.forEach(clearTimeout); };
    const later = () => {
      forget();
      soon = SOON_MS.map((wait) => setTimeout(again, wait));
    };
    const told = lastEvents.subscribe((events) => {
      if (service !== "" && events.some((event) => event.service === service)) later();
    });
    // What happened while the connection was away may have changed it.
    const anew = stream.on(ANEW, later);
    return () => {
      forget();
      told();
      anew();
    };
  }, [name, key, service]);
  return { told, failure: isMine ? answer.failure : null, again: () => { SOON_MS.forEach((wait) => setTimeout(again, wait)); } };
}
