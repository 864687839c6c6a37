// Starts an operation from a form. Everything in it stands in the address too, but for the body, so a
// prepared form can be sent to somebody; an operation that is repeated comes here the same way.

import { useEffect, useState } from "preact/hooks";
import { Action } from "../parts/dialogs";
import { Empty, Failed, Loading } from "../parts/states";
import type { ClusterRecord } from "../contract/console";
import { Failure } from "../shell/answers";
import { useAsked } from "../shell/asked";
import { go, query } from "../shell/router";
import { isKnown, isSigningIn, may, me, write } from "../shell/session";

interface Translated {
  objects?: unknown[];
  report?: { summary?: string; level?: string; text?: string }[] | string;
  findings?: { summary?: string; message?: string; line?: number }[];
}

export default function Start() {
  if (me.value === null) return <Loading what="what you may start" />;
  if (!isKnown()) {
    return (
      <Empty title="Who is signed in may start operations">
        <p><button type="button" onClick={() => { isSigningIn.value = true; }}>Sign in</button></p>
      </Empty>
    );
  }
  const operations = me.value.operations ?? [];
  if (!may("gateway.apply") || operations.length === 0) {
    return (
      <Empty title={`${me.value.identity} may start no operation`}>
        <p>The gateway's policy has a rule for nothing of it: see <code>docs/how-to/identities.md</code>.</p>
      </Empty>
    );
  }
  return <Form />;
}

function Form() {
  const { operations = [], versions = [] } = me.value ?? {};
  const { told, failure, again } = useAsked<{ clusters: ClusterRecord[] }>("gateway.clusters", {});
  const [kind, setKind] = useState(query.value.get("kind") ?? "");
  const [chosen, setChosen] = useState(new Set((query.value.get("clusters") ?? "").split(",").filter(Boolean)));
  const [verb, setVerb] = useState(query.value.get("verb") === "delete" ? "delete" : "apply");
  const [namespace, setNamespace] = useState(query.value.get("namespace") ?? "");
  const [version, setVersion] = useState(query.value.get("version") ?? "");
  const [body, setBody] = useState("");
  if (told === null) return failure === null ? <Loading what="clusters" /> : <Failed failure={failure} again={again} />;
  const { clusters } = told;
  const toggle = (cluster: string) => setChosen((before) => {
    const after = new Set(before);
    if (!after.delete(cluster)) after.add(cluster);
    return after;
  });
  const about = operations.find((one) => one.name === kind);
  const names = clusters.filter((one) => chosen.has(one.cluster)).map((one) => one.name || one.cluster);
  const question = {
    kind, clusters: [...chosen], verb, ...(namespace && { namespace }), ...(version && { version }), ...(body && { body }),
  };
  return (
    <div class="page">
      <h1>Start an operation</h1>
      {query.value.get("body") === "yes" && <p class="note" data-level="info">
        The operation that this repeats had a body. Bodies are not kept, since they may hold secrets: give it again.</p>}
      <form class="form" onSubmit={(event) => event.preventDefault()}>
        <label>Operation <select id="kind" value={kind} onChange={(event) => setKind(event.currentTarget.value)} required>
          <option value="">choose one</option>
          {operations.map((one) => <option key={one.name} value={one.name}>{one.name} – {one.description}</option>)}
        </select></label>
        <fieldset class="checks"><legend>Clusters</legend>
          {clusters.length === 0 && <p class="soft">None is registered.</p>}
          {clusters.map((one) => (
            <label key={one.cluster}><input type="checkbox" checked={chosen.has(one.cluster)}
              onChange={() => toggle(one.cluster)} /> {one.name || one.cluster}</label>
          ))}
        </fieldset>
        <fieldset class="checks"><legend>What</legend>
          {["apply", "delete"].map((one) => (
            <label key={one}><input type="radio" name="verb" checked={verb === one} onChange={() => setVerb(one)} /> {one}</label>
          ))}
        </fieldset>
        <label>Namespace <input type="text" value={namespace} onInput={(event) => setNamespace(event.currentTarget.value)}
          placeholder="default" spellcheck={false} /></label>
        {versions.length > 0 && <label>Version of Istio <input type="text" value={version} list="versions"
          onInput={(event) => setVersion(event.currentTarget.value)} placeholder="the newest" />
          <datalist id="versions">{versions.map((one) => <option key={one} value={one} />)}</datalist></label>}
        <label>Body, as YAML <textarea id="body" rows={12} value={body} spellcheck={false}
          onInput={(event) => setBody(event.currentTarget.value)} /></label>
        <p class="buttons">
          {kind && chosen.size > 0
            ? <Action verb="Start" name="gateway.apply" question={question}
              done={(told) => go(`/operations/${encodeURIComponent((told as { operation: string }).operation)}`)}>
              <p><b>{verb} {kind}</b> on {names.join(", ")}{namespace && `, namespace ${namespace}`}{version && `, Istio ${version}`}.</p>
              {about && <p class="soft">{about.description}</p>}
              {about?.slot === "mesh" && <p>It changes the mesh itself: until it has ended, no other one of its kind begins there.</p>}
              {verb === "delete" && <p>What it made is removed.</p>}
              {kind === "custom" && body && verb === "apply" && may("translator.translate") && <Plan body={body} cluster={[...chosen][0] ?? ""} namespace={namespace} />}
            </Action>
            : <button type="button" disabled>Start</button>}
        </p>
      </form>
    </div>
  );
}

// What a manifest becomes, as the translator says for the first of the clusters.
function Plan({ body, cluster, namespace }: { body: string; cluster: string; namespace: string }) {
  const [told, setTold] = useState<Translated | null>(null);
  const [failure, setFailure] = useState<Failure | null>(null);
  useEffect(() => {
    write<Translated>("translator.translate", { manifest: body, cluster, ...(namespace && { namespace }) }).then(
      setTold, (error) => setFailure(error instanceof Failure ? error : null));
  }, []);
  if (failure !== null) return <Failed failure={failure} isPart />;
  if (told === null) return <p class="soft" role="status">Asking what becomes of it…</p>;
  const objects = (told.objects ?? []) as { kind?: string; metadata?: { name?: string; namespace?: string } }[];
  return (
    <section aria-label="The plan">
      <p>{objects.length} objects will be applied:</p>
      <ul class="plan">{objects.map(({ kind = "", metadata = {} }, index) => (
        <li key={index}>{kind} {metadata.namespace ? `${metadata.namespace}/` : ""}{metadata.name}</li>))}</ul>
      {(told.findings ?? []).map((one, index) => <p key={index} class="note" data-level="warning">{one.summary ?? one.message}</p>)}
    </section>
  );
}
