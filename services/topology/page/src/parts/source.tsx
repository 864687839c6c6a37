// An object of the mesh's configuration as YAML, with the line marked that something is about.

import { useEffect, useRef, useState } from "preact/hooks";
import { Failure, get } from "../shell/answers";
import { fullKind, type Reference } from "../shell/troubles";
import { lineOf } from "./lines";

export function Source({ cluster, object, path }: { cluster: string; object: Reference; path: string }) {
  const [text, setText] = useState<string | null>(null);
  const [failure, setFailure] = useState<Failure | null>(null);
  const marked = useRef<HTMLElement>(null);
  useEffect(() => {
    const leaving = new AbortController();
    const { namespace, name } = object;
    const asked = new URLSearchParams({ cluster, kind: fullKind(object), namespace, name });
    get<{ yaml: string }>(`/api/object?${asked}`, leaving.signal).then(
      (told) => setText(told.yaml), (error) => { if (error instanceof Failure) setFailure(error); });
    return () => leaving.abort();
  }, [cluster, fullKind(object), object.namespace, object.name]);
  useEffect(() => { marked.current?.scrollIntoView({ block: "nearest" }); }, [text]);
  if (failure !== null) return <p class="soft">{failure.problem.summary}. {failure.problem.remedy}</p>;
  if (text === null) return <p class="soft" role="status">Loading the object…</p>;
  const at = lineOf(text, path);
  return (
    <pre class="source" tabIndex={0} aria-label="The object as YAML"><code>
      {text.trimEnd().split("\n").map((line, index) => index === at
        ? <mark key={index} ref={marked}>{line}{"\n"}</mark> : <span key={index}>{line}{"\n"}</span>)}
    </code></pre>
  );
}
