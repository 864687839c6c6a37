// Starts a load test from its text, pasted or saved as a file. The text is not kept here: it may hold secrets.

import { useMemo, useState } from "preact/hooks";
import { Action } from "../parts/dialogs";
import { runAddress } from "../parts/runs";
import { Empty, Loading } from "../parts/states";
import { clusters } from "../shell/fleet";
import { go, query, setQuery } from "../shell/router";
import { isKnown, isSigningIn, me } from "../shell/session";

export function NewTest() {
  const [text, setText] = useState("");
  const cluster = query.value.get("cluster") ?? "";
  // Sent again after an answer that was lost, the same test is the same run.
  const run = useMemo(fresh, [text, cluster]);
  if (me.value === null) return <Loading what="what you may start" />;
  if (!isKnown()) {
    return (
      <Empty title="Who is signed in may start a test">
        <p><button type="button" onClick={() => { isSigningIn.value = true; }}>Sign in</button></p>
      </Empty>
    );
  }
  const opened = async (file: File | undefined) => { if (file !== undefined) setText(await file.text()); };
  const targets = [...new Set(text.match(/\b[a-z]+:\/\/[^\s"',}\]]+/g))];
  const where = clusters.value?.find((one) => one.cluster === cluster)?.name || cluster;
  return (
    <div class="page">
      <p><a href="/performance">Performance</a></p>
      <h1>Start a test</h1>
      <form class="form" onSubmit={(event) => event.preventDefault()}>
        <label>Saved test <input type="file" accept=".yaml,.yml,.json" onChange={(event) => { void opened(event.currentTarget.files?.[0]); }} /></label>
        <label>The test, as YAML <textarea id="test" rows={16} value={text} spellcheck={false}
          onInput={(event) => setText(event.currentTarget.value)} /></label>
        <label>Cluster <select value={cluster} onChange={(event) => setQuery({ cluster: event.currentTarget.value })}>
          <option value="">none</option>
          {(clusters.value ?? []).map((one) => <option key={one.cluster} value={one.cluster}>{one.name || one.cluster}</option>)}
        </select></label>
        <p class="buttons">{text.trim() === "" ? <button type="button" disabled>Start</button> : (
          <Action verb="Start" name="perf.run" question={{ run, test: text, ...(cluster && { cluster }) }}
            done={(told) => go(runAddress((told as { run: string }).run))}>
            <p>Workers send load as the test says{where && `, and what ${where} measures is told beside it`}{targets.length > 0 && ", to"}:</p>
            {targets.length > 0 && <ul class="plan">{targets.map((one) => <li key={one}>{one}</li>)}</ul>}
            <pre class="source" tabIndex={0} aria-label="The test">{text}</pre>
          </Action>
        )}</p>
      </form>
    </div>
  );
}

function fresh(): string {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
