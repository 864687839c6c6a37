// One operation: where it stands on each cluster, and every event of it, as they come.

import { useEffect, useMemo, useState } from "preact/hooks";
import { duration } from "../parts/figures";
import { Action } from "../parts/dialogs";
import { Progress } from "../parts/progress";
import { Moment, StateSign, type Tone, Sign } from "../parts/signs";
import { Failed, Loading } from "../parts/states";
import type { Described, Event, EventsTold } from "../contract/console";
import { ask, Failure } from "../shell/answers";
import { clusterName } from "../shell/fleet";
import { lastEvents, operations } from "../shell/operations";
import { isOver, type Part, stateOf, withEvents, withRecords } from "../shell/records";
import { ANEW, stream } from "../shell/stream";
import { traces } from "../shell/about";
import { Steering, useRollout } from "./rollout";

export function OneOperation({ id }: { id: string }) {
  const { record, events, leftOut, failure, again } = useOperation(id);
  const one = useMemo(() => {
    const told = withEvents(record === null ? new Map() : withRecords(new Map(), [record]), events);
    return told.get(id) ?? operations.value.get(id);
  }, [record, events, id, operations.value]);
  const { told: rollout, again: askRollout } = useRollout(id, one?.kind ?? "");
  if (one === undefined) {
    return failure === null ? <Loading what="the operation" /> : <Failed failure={failure} again={again} />;
  }
  const state = stateOf(one);
  const isSteered = rollout !== null && rollout.ended === "";
  const last = Math.max(...[...one.parts.values()].map((part) => Date.parse(part.updated)));
  return (
    <div class="page" data-operation={id}>
      <p><a href="/operations">Operations</a></p>
      <h1>{one.kind} <StateSign state={state} /></h1>
      <dl class="facts">
        <dt>Asked</dt><dd><Moment time={one.accepted} />{one.identity && ` by ${one.identity}`}</dd>
        <dt>Id</dt><dd><code>{one.id}</code></dd>
        {isOver(state) && <><dt>Took</dt><dd>{duration((last - Date.parse(one.accepted)) / 1000)}</dd></>}
      </dl>
      <p class="hidden-label" role="status">{`${one.kind}: ${state}`}</p>
      <p class="buttons links">
        {record !== null && isOver(state) && <a class="button" href={repeating(record)}>Repeat</a>}
        {traces.value && <a href={traces.value.replace("{operation}", encodeURIComponent(id))} target="_blank" rel="noreferrer">Its trace</a>}
      </p>
      {rollout !== null && <Steering of={rollout} kind={one.kind} again={askRollout} />}
      {[...one.parts.values()].map((part) => (
        <OnCluster key={part.cluster} id={id} part={part} isSteered={isSteered} record={record?.parts[part.cluster] ?? null}
          events={events.filter((event) => event.cluster === part.cluster)} />
      ))}
      {leftOut > 0 && <p class="soft">{`${leftOut} earlier events are left out here; `}
        <code>{`nats req mesh.gateway.events '{"operation": "${id}"}'`}</code></p>}
      {failure !== null && failure.status !== 404 && <Failed failure={failure} again={again} isPart />}
    </div>
  );
}

// The form with what the request had, but for its body.
function repeating({ request }: Described): string {
  const { kind, clusters, verb, namespace, version, has_body: hasBody } = request;
  const fields = { kind, clusters: clusters.join(","), verb, namespace, version, body: hasBody ? "yes" : "" };
  return `/start?${new URLSearchParams(Object.entries(fields).filter(([, value]) => value))}`;
}

function OnCluster({ id, part, isSteered, record, events }: {
  id: string; part: Part; isSteered: boolean; record: Described["parts"][string]; events: Event[];
}) {
  const name = part.name === part.cluster ? clusterName(part.cluster) : part.name;
  const error = [...events].reverse().find((event) => event.error !== null)?.error ?? record?.error ?? null;
  return (
    <section class="on-cluster" aria-label={`On ${name}`}>
      <h2><a href={`/graph?cluster=${encodeURIComponent(part.cluster)}`}>{name}</a> <StateSign state={part.state} />
        {part.attempt > 1 && <span class="soft"> attempt {part.attempt}</span>}</h2>
      <Progress part={part} />
      {!isOver(part.state) && !isSteered && <p><Action verb="Cancel" name="lifecycle.cancel"
        question={{ operation: id, cluster: part.cluster }}>
        <p>The operation ends on {name} at its next step. What it has applied until then stays, and is told in its last event.</p>
      </Action></p>}
      {error !== null && part.state !== "succeeded" && (
        <div class="note" data-level="error">
          <p><b>{error.code}</b> {error.summary}</p>
          {error.subject && <p class="soft">{error.subject}</p>}
          {error.cause && <p><b>Cause</b> {error.cause}</p>}
          {error.remedy && <p><b>Remedy</b> {error.remedy}</p>}
        </div>
      )}
      {events.length === 0 && <p class="soft">
        {isOver(part.state) ? "Its events are not kept any more." : "No worker has begun it yet."} {part.summary}</p>}
      <ol class="events">{events.map((event) => <Line key={`${event.attempt}.${event.sequence}.${event.service}`} of={event} />)}</ol>
    </section>
  );
}

function Line({ of: event }: { of: Event }) {
  return (
    <li data-phase={event.phase} data-severity={event.severity}>
      <Moment time={event.time} />
      <Sign tone={toneOf(event)}>{event.phase}</Sign>
      <div class="what">
        {event.details
          ? <details><summary>{event.summary}</summary><p class="details">{event.details}</p></details>
          : <span>{event.summary}</span>}
      </div>
      <span class="soft">{event.service}</span>
    </li>
  );
}

function toneOf(event: Event): Tone {
  if (event.severity === "error") return "bad";
  if (event.severity === "warn") return "warn";
  if (event.phase === "done" || event.phase === "ready") return "good";
  return event.phase === "waiting" ? "none" : "info";
}

// The record and the events as they were stored, and every event that comes while it is shown.
function useOperation(id: string) {
  const [record, setRecord] = useState<Described | null>(null);
  const [events, setEvents] = useState<Event[]>([]);
  const [leftOut, setLeftOut] = useState(0);
  const [failure, setFailure] = useState<Failure | null>(null);
  const load = async (signal?: AbortSignal) => {
    const [described, told] = await Promise.allSettled([
      ask<Described>("gateway.operations", { operation: id }, signal),
      ask<EventsTold>("gateway.events", { operation: id }, signal),
    ]);
    if (described.status === "fulfilled") setRecord(described.value);
    if (told.status === "fulfilled") {
      setEvents((known) => added(known, told.value.events));
      setLeftOut(told.value.left_out);
    }
    const failed = [told, described].find((one) => one.status === "rejected");
    const isShown = described.status === "fulfilled" || (told.status === "fulfilled" && told.value.events.length > 0);
    setFailure(!isShown && failed?.reason instanceof Failure ? failed.reason : null);
  };
  useEffect(() => {
    const leaving = new AbortController();
    void load(leaving.signal);
    // What was told while the connection was away, and is not kept for it, is read again.
    const anew = stream.on(ANEW, () => { void load(leaving.signal); });
    return () => {
      leaving.abort();
      anew();
    };
  }, [id]);
  useEffect(() => lastEvents.subscribe((told) => {
    const about = told.filter((event) => event.operation === id);
    if (about.length > 0) setEvents((known) => added(known, about));
  }), [id]);
  return { record, events, leftOut, failure, again: () => { void load(); } };
}

const keyOf = (event: Event): string => `${event.cluster} ${event.attempt} ${event.sequence} ${event.service} ${event.time}`;

// Each event once, in the order in which they happened.
export function added(known: readonly Event[], told: readonly Event[]): Event[] {
  const all = new Map(known.map((event) => [keyOf(event), event]));
  for (const event of told) all.set(keyOf(event), event);
  return [...all.values()].sort((a, b) => Date.parse(a.time) - Date.parse(b.time) || a.sequence - b.sequence);
}
