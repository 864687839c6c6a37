// Operations: what runs now, what there was, and one of them with everything about it.

import { useEffect, useMemo, useState } from "preact/hooks";
import { duration } from "../parts/figures";
import { Progress } from "../parts/progress";
import { Moment, StateSign } from "../parts/signs";
import { Empty, Failed, Loading } from "../parts/states";
import type { OperationsPage } from "../contract/console";
import { ask, Failure } from "../shell/answers";
import { clusters } from "../shell/fleet";
import { isLoaded, operations } from "../shell/operations";
import { described, isOver, type Operation, type State, stateOf } from "../shell/records";
import { query, setQuery } from "../shell/router";
import { stream } from "../shell/stream";
import { OneOperation } from "./operation";
import type { ViewProps } from "./views";

const PAGE = 50;
const TYPING_MS = 250;

export default function Operations({ id }: ViewProps) {
  return id ? <OneOperation key={id} id={id} /> : <List />;
}

interface Wanted {
  search: string;
  cluster: string;
  state: string;
}

function List() {
  const wanted: Wanted = {
    search: query.value.get("q") ?? "", cluster: query.value.get("cluster") ?? "", state: query.value.get("state") ?? "",
  };
  const { found, isMore, failure, older } = useHistory(wanted);
  const shown = useMemo(() => merged(found, wanted), [found, operations.value, wanted.search, wanted.cluster, wanted.state]);
  const running = shown.filter((one) => !isOver(stateOf(one)));
  const over = shown.filter((one) => isOver(stateOf(one)));
  if (failure !== null && shown.length === 0) return <Failed failure={failure} again={older} />;
  if (found === null && !isLoaded.value) return <Loading what="operations" />;
  const isFiltered = Object.values(wanted).some((text) => text !== "");
  return (
    <div class="page">
      <h1>Operations</h1>
      <Filter wanted={wanted} />
      {shown.length === 0 ? <Nothing isFiltered={isFiltered} /> : null}
      {running.length > 0 && <section aria-labelledby="now"><h2 id="now">Running now</h2><Table of={running} /></section>}
      {over.length > 0 && <section aria-labelledby="past"><h2 id="past">History</h2><Table of={over} /></section>}
      {isMore && <p><button type="button" onClick={older}>Older operations</button></p>}
      {failure !== null && <Failed failure={failure} again={older} isPart />}
    </div>
  );
}

function Nothing({ isFiltered }: { isFiltered: boolean }) {
  if (isFiltered) {
    return (
      <Empty title="No operation is like this" isPart>
        <p><button type="button" onClick={() => setQuery({ q: "", cluster: "", state: "" })}>Show all</button></p>
      </Empty>
    );
  }
  return (
    <Empty title="No operation yet" isPart>
      <p>Whatever is asked of Meshbus appears here: by Meshery, by <code>make apply</code>, or from this console.</p>
    </Empty>
  );
}

function Filter({ wanted }: { wanted: Wanted }) {
  const typed = (event: Event) => setQuery({ q: (event.target as HTMLInputElement).value });
  const chosen = (name: string) => (event: Event) => setQuery({ [name]: (event.target as HTMLSelectElement).value });
  return (
    <form class="filter" role="search" onSubmit={(event) => event.preventDefault()}>
      <label>Search <input id="operations-search" type="search" value={wanted.search} onInput={typed}
        placeholder="kind, id, person, cluster" autocomplete="off" spellcheck={false} /></label>
      <label>Cluster <select value={wanted.cluster} onChange={chosen("cluster")}>
        <option value="">all</option>
        {(clusters.value ?? []).map((one) => <option key={one.cluster} value={one.cluster}>{one.name || one.cluster}</option>)}
      </select></label>
      <label>State <select value={wanted.state} onChange={chosen("state")}>
        <option value="">any</option>
        {["running", "succeeded", "failed", "cancelled"].map((state) => <option key={state} value={state}>{state}</option>)}
      </select></label>
    </form>
  );
}

function Table({ of }: { of: Operation[] }) {
  return (
    <div class="scroll" tabIndex={0} role="group" aria-label="Operations">
      <table class="rows">
        <thead><tr><th scope="col">Operation</th><th scope="col">State</th><th scope="col">Cluster</th>
          <th scope="col">By</th><th scope="col">Begun</th><th scope="col" class="number">Took</th></tr></thead>
        <tbody>{of.map((one) => <Row key={one.id} of={one} />)}</tbody>
      </table>
    </div>
  );
}

function Row({ of: one }: { of: Operation }) {
  const state = stateOf(one), parts = [...one.parts.values()];
  const told = parts.find((part) => part.state === state) ?? parts[0];
  return (
    <tr>
      <td><a href={`/operations/${encodeURIComponent(one.id)}`}>{one.kind}</a>
        <span class="soft clip">{told?.summary}</span></td>
      <td><StateSign state={state} />{told?.code && <span class="soft"> {told.code}</span>}
        {told && <Progress part={told} />}</td>
      <td>{parts.map((part) => part.name).join(", ")}</td>
      <td>{one.identity}</td>
      <td><Moment time={one.accepted} /></td>
      <td class="number">{took(one, state)}</td>
    </tr>
  );
}

export function took(one: Operation, state: State): string {
  if (!isOver(state)) return "";
  const last = Math.max(...[...one.parts.values()].map((part) => Date.parse(part.updated)));
  return duration((last - Date.parse(one.accepted)) / 1000);
}

// --- what there was --------------------------------------------------------------------------------

function useHistory(wanted: Wanted) {
  const [found, setFound] = useState<Operation[] | null>(null);
  const [isMore, setMore] = useState(false);
  const [failure, setFailure] = useState<Failure | null>(null);
  const { search, cluster, state } = wanted;
  const load = async (before: readonly Operation[], signal?: AbortSignal) => {
    const oldest = before.at(-1)?.accepted;
    const asked = { limit: PAGE, search, cluster, ...(state && { state }), ...(oldest && { before: oldest }) };
    try {
      const page = await ask<OperationsPage>("gateway.operations", asked, signal);
      setFound([...before, ...page.operations.map(described)]);
      setMore(page.more);
      setFailure(null);
    } catch (error) {
      if (error instanceof Failure) setFailure(error);
    }
  };
  useEffect(() => {
    const leaving = new AbortController();
    const timer = setTimeout(() => { void load([], leaving.signal); }, found === null ? 0 : TYPING_MS);
    return () => {
      clearTimeout(timer);
      leaving.abort();
    };
  }, [search, cluster, state]);
  useEffect(() => stream.on("back", () => { if (failure !== null) void load(found ?? []); }));
  return { found, isMore, failure, older: () => { void load(found ?? []); } };
}

// What was found, as far as it is known how it goes on, and what was told of since.
export function merged(found: readonly Operation[] | null, wanted: Wanted): Operation[] {
  const all = new Map((found ?? []).filter((one) => isLike(operations.value.get(one.id) ?? one, wanted)).map((one) => [one.id, one]));
  const oldest = Date.parse(found?.at(-1)?.accepted ?? "") || 0;
  for (const one of operations.value.values()) {
    const isKnown = all.has(one.id);
    if (isKnown || (Date.parse(one.accepted) >= oldest && isLike(one, wanted))) all.set(one.id, one);
  }
  return [...all.values()].sort((a, b) => Date.parse(b.accepted) - Date.parse(a.accepted));
}

function isLike(one: Operation, { search, cluster, state }: Wanted): boolean {
  const parts = [...one.parts.values()];
  if (cluster && !one.parts.has(cluster)) return false;
  const states: string[] = parts.map((part) => part.state === "waiting" ? "running" : part.state);
  if (state && !states.includes(state)) return false;
  const text = [one.id, one.kind, one.identity, ...parts.flatMap((part) => [part.name, part.cluster])].join(" ").toLowerCase();
  return search.toLowerCase().split(/\s+/).every((word) => text.includes(word));
}
