// What each view shows when it has nothing, not yet, not any more, or an error: always with what to
// do next. Every view uses these and no others.

import type { ComponentChildren } from "preact";
import type { Failure } from "../shell/answers";
import { stream } from "../shell/stream";
import { moment } from "./figures";

// `isPart`: beside other things, so that its heading is not the page's.
export function Empty({ title, isPart = false, children }: {
  title: string; isPart?: boolean; children?: ComponentChildren;
}) {
  return <section class="state"><Heading isPart={isPart}>{title}</Heading>{children}</section>;
}

function Heading({ isPart, children }: { isPart: boolean; children: ComponentChildren }) {
  return isPart ? <h2>{children}</h2> : <h1>{children}</h1>;
}

export function Loading({ what }: { what: string }) {
  return <section class="state" aria-busy="true"><p class="soft" role="status">Loading {what}…</p></section>;
}

export function Failed({ failure, isPart = false, verb = "Ask again", again }: {
  failure: Failure; isPart?: boolean; verb?: string; again?: () => void;
}) {
  const { code, summary, cause, remedy } = failure.problem;
  return (
    <section class="state note" data-level="error" role="alert">
      <Heading isPart={isPart}>{summary}</Heading>
      {cause && <p>{cause}</p>}
      {remedy && <p>{remedy}</p>}
      {code && <p class="soft">{code}</p>}
      {again && <button type="button" onClick={again}>{verb}</button>}
    </section>
  );
}

// Above what is shown while the connection is away: it is as old as that.
export function Stale() {
  if (stream.state.value !== "broken") return null;
  const since = new Date(stream.heardAt.value).toISOString();
  return <p class="stale" role="status">Connection lost; this is as it was at {moment(since)}. Trying again.</p>;
}
