// What is around every view: where one can go, how the connection is, the theme, help.

import { computed, effect, signal } from "@preact/signals";
import type { ComponentType } from "preact";
import { SignIn } from "../parts/dialogs";
import { Empty, Failed, Loading, Stale } from "../parts/states";
import { type View, type ViewProps, viewOf, VIEWS } from "../views/views";
import { Failure } from "./answers";
// Listens from the beginning on: what a view shows may be told before its code is here.
import "./fleet";
import "./troubles";
import { operations } from "./operations";
import { isOver, stateOf } from "./records";
import { path } from "./router";
import { isKnown, isSigningIn, load as loadSession, me, signOut } from "./session";
import { stream } from "./stream";
import { isDark, toggle } from "./theme";

const loaded = signal<ReadonlyMap<View, ComponentType<ViewProps> | Failure>>(new Map());
const here = computed(() => viewOf(path.value));
const running = computed(() => [...operations.value.values()].filter((one) => !isOver(stateOf(one))).length);

effect(() => {
  const view = here.value?.view;
  document.title = view === undefined ? "Meshbus" : `${view.title} · Meshbus`;
  if (view === undefined || loaded.peek().has(view)) return;
  load(view);
});

effect(() => {
  const view = here.value?.view;
  // The graph says itself which cluster it looks at.
  if (view !== undefined && view.at !== "graph") stream.follow({ topics: view.topics });
});

loadSession();

function load(view: View): void {
  view.load().then(({ default: component }) => {
    loaded.value = new Map(loaded.value).set(view, component);
  }, () => {
    loaded.value = new Map(loaded.value).set(view, new Failure({
      code: "", summary: "This part of the console could not be loaded",
      cause: "the service is away, or another version of it is there now", remedy: "Load the page again.",
    }, 0));
  });
}

const STATES = { connecting: "connecting", live: "live", broken: "connection lost, trying again", resting: "resting" };

export function App() {
  return (
    <>
      <a class="skip" href="#view" onClick={skip}>Skip to the content</a>
      <header id="bar">
        <a class="brand" href="/">Meshbus</a>
        <nav aria-label="Views">
          {VIEWS.filter((view) => view.isListed).map((view) => <Link key={view.at} view={view} />)}
        </nav>
        <span class="grow" />
        <span id="connection" data-state={stream.state.value} role="status">{STATES[stream.state.value]}</span>
        <Who />
        <button id="theme" type="button" onClick={toggle} title="Light or dark"
          aria-label={isDark.value ? "To the light colours" : "To the dark colours"}>{isDark.value ? "☀" : "☾"}</button>
      </header>
      <main id="view" tabIndex={-1} data-view={here.value?.view.at || "fleet"}><Stale /><Shown /></main>
      <SignIn />
    </>
  );
}

function Who() {
  if (me.value === null) return null;
  if (!isKnown()) return <button id="sign-in" type="button" onClick={() => { isSigningIn.value = true; }}>Sign in</button>;
  const { identity, groups = [], proxied = false } = me.value;
  return (
    <details id="who"><summary>{identity}</summary><div>
      {groups.length > 0 && <p class="soft">{groups.join(", ")}</p>}
      <p><a href="/start">Start an operation</a></p>
      {proxied ? <p class="soft">Signed in by the proxy in front.</p>
        : <button type="button" onClick={() => { void signOut(); }}>Sign out</button>}
    </div></details>
  );
}

function Link({ view }: { view: View }) {
  const isHere = here.value?.view === view;
  return (
    <a href={`/${view.at}`} aria-current={isHere ? "page" : undefined}>
      {view.title}
      {view.at === "operations" && running.value > 0
        && <span class="count" title="running now"> {running.value}</span>}
    </a>
  );
}

function Shown() {
  if (here.value === null) {
    return <Empty title="There is no such page"><p><a href="/">To the fleet</a></p></Empty>;
  }
  const { view, id } = here.value;
  const component = loaded.value.get(view);
  if (component === undefined) return <Loading what={view.title.toLowerCase()} />;
  if (component instanceof Failure) return <Failed failure={component} again={() => location.reload()} />;
  const View = component;
  return <View key={view.at} id={id} />;
}

// To where the view begins: the graph itself, or the first heading's place.
function skip(event: Event): void {
  event.preventDefault();
  const place = document.querySelector<HTMLElement>("#view [data-main]") ?? document.getElementById("view");
  place?.focus();
}
