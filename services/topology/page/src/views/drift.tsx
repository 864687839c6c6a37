// What moved away from what was applied, on all clusters: which fields, by whom, and what happens to it.

import { useMemo } from "preact/hooks";
import { TroubleFilter } from "../parts/choices";
import { Action } from "../parts/dialogs";
import { plural } from "../parts/figures";
import { Moment, Sign } from "../parts/signs";
import { Empty, Loading } from "../parts/states";
import { clusterName } from "../shell/fleet";
import { query } from "../shell/router";
import { type Drift, named, troubles } from "../shell/troubles";

const MOST = 300;
const MODES: Record<string, string> = { report: "told only", heal: "put back by itself" };

interface Row extends Drift {
  cluster: string;
}

export default function Drifts() {
  const cluster = query.value.get("cluster") ?? "", text = query.value.get("q") ?? "", by = query.value.get("by") ?? "namespace";
  const rows = useMemo(() => found(cluster, text), [troubles.value, cluster, text]);
  if (troubles.value === null) return <Loading what="drift" />;
  const groups = [...Map.groupBy(rows.slice(0, MOST), (row) => by === "who" ? row.manager || "somebody unknown"
    : by === "kind" ? row.kind : row.object.namespace || "no namespace")];
  return (
    <div class="page">
      <h1>Drift</h1>
      <TroubleFilter view="drift" words="object, field, who" by={by} groups={["namespace", "kind", "who"]} />
      <p class="soft" role="status">{plural(rows.length, "object")}{rows.length > MOST && `, the first ${MOST} are shown`}</p>
      {rows.length === 0 && (cluster || text ? <Empty title="Nothing like this has drifted" isPart />
        : <Empty title="Everything that was applied is as it was applied" isPart />)}
      {groups.map(([name, items]) => (
        <section class="group" key={name} aria-label={name}>
          <h2>{name} <span class="soft">{items.length > 1 ? items.length : ""}</span></h2>
          <ul>{items.map((row) => <One key={`${row.cluster} ${row.id}`} of={row} />)}</ul>
        </section>
      ))}
    </div>
  );
}

function found(cluster: string, text: string): Row[] {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  return [...troubles.value ?? []].filter(([name]) => !cluster || name === cluster)
    .flatMap(([name, { drift }]) => [...drift.values()].map((item): Row => ({ ...item, cluster: name })))
    .filter((row) => words.every((word) => [named(row.object), row.kind, row.manager, ...row.changes.map(({ path }) => path)]
      .join(" ").toLowerCase().includes(word)))
    .sort((a, b) => b.detected.localeCompare(a.detected) || a.id.localeCompare(b.id));
}

function One({ of: row }: { of: Row }) {
  return (
    <li class="note" data-level="drift">
      <p><Sign tone="warn">{row.kind}</Sign> <a href={`/graph?cluster=${encodeURIComponent(row.cluster)}&tab=drift`}>{named(row.object)}</a>
        {" "}<span class="soft">on {clusterName(row.cluster)}{row.manager && `, by ${row.manager}`}, <Moment time={row.time || row.detected} /></span></p>
      <Changes of={row} />
      <p class="soft">{row.healing ? `Healing: ${row.healing}` : MODES[row.mode] ?? row.mode}
        {row.intent?.kind && ` · applied by ${row.intent.kind}`}{row.intent?.when && <> at <Moment time={row.intent.when} /></>}</p>
      <p><Action verb="Heal" name="topology.heal" question={{ cluster: row.cluster, drift: row.id }}>
        <p><b>{named(row.object)}</b> on {clusterName(row.cluster)} is put back as it was applied{row.kind === "deleted" ? ", anew" : ""}:</p>
        <Changes of={row} />
        <p>Fields that nobody applied through Meshbus stay as they are.</p>
      </Action></p>
    </li>
  );
}

function Changes({ of: row }: { of: Row }) {
  if (row.changes.length === 0) return null;
  return (
    <table class="changes">
      <thead><tr><th scope="col">Field</th><th scope="col">Applied</th><th scope="col">Found</th></tr></thead>
      <tbody>
        {row.changes.map(({ path, wanted, found }) => (
          <tr key={path}><td><code>{path}</code></td><td><ins>{told(wanted)}</ins></td><td><del>{told(found)}</del></td></tr>))}
        {row.more > 0 && <tr><td colSpan={3} class="soft">and {row.more} more fields</td></tr>}
      </tbody>
    </table>
  );
}

const told = (value: unknown): string => value === undefined || value === null ? "nothing"
  : typeof value === "string" ? value : JSON.stringify(value);
