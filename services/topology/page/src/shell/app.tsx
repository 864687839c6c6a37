// What is around every view: where one can go, how the connection is, the theme, help.

import { computed, effect, signal } from "@preact/signals";
import type { ComponentType } from "preact";
import { SignIn } from "../parts/dialogs";
import { Empty, Failed, Loading, Stale } from "../parts/states";
import { type View, type ViewProps, viewOf, VIEWS } from "../views/views";
import { Failure, get } from "./answers";
// Listens from the beginning on: what a view shows may be told before its code is here.
import "./fleet";
import "./troubles";
import { operations } from "./operations";
import { isOver, stateOf } from "./records";
import { path } from "./router";
import { isKnown, isSigningIn, load as loadSession, me, signOut } from "./session";
import { stream } from "./stream";
import { isDark, toggle } from "./theme";

// The service answers, and has no such file.
const OTHER = new Failure({
  code: "", summary: "This part of the console is not there any more",
  cause: "another version of the console is served now", remedy: "Load the page again.",
}, 404);

// A view's code, or why it is not here; null while it is on its way.
type Loaded = ComponentType<ViewProps> | Failure | null;

const loaded = signal<ReadonlyMap<View, Loaded>>(new Map());
const here = computed(() => viewOf(path.value));
const running = computed(() => [...operations.value.values()].filter((one) => !isOver(stateOf(one))).length);

effect(() => {
  const view = here.value?.view;
  document.title = view === undefined ? "Meshbus" : `${view.title} · Meshbus`;
  if (view !== undefined) need(view);
});

effect(() => {
  const view = here.value?.view;
  // The graph says itself which cluster it looks at, once its code is here.
  if (view !== undefined && (view.at !== "graph" || loaded.value.get(view) instanceof Failure)) stream.follow({ topics: view.topics });
});

// What could not be loaded may be there now.
effect(() => {
  const view = here.peek()?.view;
  if (stream.state.value === "live" && view !== undefined) need(view);
});

loadSession();

// Has the view's code loaded, unless it is here or on its way.
function need(view: View): void {
  const known = loaded.peek();
  if (known.has(view) && !(known.get(view) instanceof Failure)) return;
  put(view, null);
  void load(view).then((found) => put(view, found));
}

function put(view: View, found: Loaded): void {
  loaded.value = new Map(loaded.peek()).set(view, found);
}

// Twice, because the service may have come back between the two questions.
async function load(view: View): Promise<ComponentType<ViewProps> | Failure> {
  for (let attempt = 0; attempt < 2; attempt += 1) {
    try {
      return (await view.load()).default;
    } catch {
      // Why it failed is not told; whether the service answers at all is.
    }
    try {
      await get("/api/about");
    } catch (error) {
      if (error instanceof Failure) return error;
    }
  }
  return OTHER;
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
  const View = loaded.value.get(view) ?? null;
  if (View === null) return <Loading what={view.title.toLowerCase()} />;
  if (View === OTHER) return <Failed failure={OTHER} verb="Load the page again" again={() => location.reload()} />;
  if (View instanceof Failure) return <Failed failure={View} verb="Try again" again={() => need(view)} />;
  return <View key={view.at} id={id} />;
}

// To where the view begins: the graph itself, or the first heading's place.
function skip(event: Event): void {
  event.preventDefault();
  const place = document.querySelector<HTMLElement>("#view [data-main]") ?? document.getElementById("view");
  place?.focus();
}
