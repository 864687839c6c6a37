// Where a rollout stands, or a mesh of several clusters that is being made, and what steers it.

import type { ComponentChildren } from "preact";
import { Action } from "../parts/dialogs";
import { plural } from "../parts/figures";
import { Moment, Sign, type Tone } from "../parts/signs";
import { Rows } from "../parts/tables";
import type { Rollout, RolloutCluster } from "../contract/rollouts";
import { type Asked, useAsked } from "../shell/asked";
import { clusterName } from "../shell/fleet";

const EVERY_MS = 5_000;
const ROLLOUT = "istio-rollout", MESH = "istio-multicluster";

// Without an answer for what is no rollout, and for one of which nothing is kept.
export function useRollout(id: string, kind: string): Asked<Rollout> {
  const isMesh = kind === MESH;
  const question = isMesh ? { operation: id } : { rollout: id };
  return useAsked<Rollout>(isMesh ? "lifecycle.multicluster" : "lifecycle.rollout",
    isMesh || kind === ROLLOUT ? question : null, {
      // Its first word may come later than the operation's.
      service: "lifecycle", everyMs: (known) => known !== null && known.ended === "" ? EVERY_MS : 0,
    });
}

export function Steering({ of: rollout, kind, again }: { of: Rollout; kind: string; again: () => void }) {
  const isMesh = kind === MESH;
  const { waves = [], wave = 0 } = rollout;
  const isOver = rollout.ended !== "";
  const back = rollout.clusters.filter((one) => one.may_go_back);
  return (
    <section aria-labelledby="rollout" class="steering">
      <h2 id="rollout">{isMesh ? rollout.title : `Rollout of ${rollout.title}`} <RolloutSign of={rollout} /></h2>
      <dl class="facts">
        {waves.length > 0 && <><dt>Wave</dt><dd>{`${wave} of ${waves.length}`}</dd></>}
        {!isOver && <><dt>Now</dt><dd>{STAGES[rollout.stage] ?? rollout.stage} <span class="soft">since <Moment time={rollout.since} /></span></dd></>}
        {!isOver && JUDGED.includes(rollout.stage) && <><dt>Gate</dt><dd>{rollout.broken_since
          ? <><Sign tone="bad">does not hold</Sign> <span class="soft">since <Moment time={rollout.broken_since} /></span></>
          : <Sign tone="good">holds so far</Sign>}</dd></>}
        {!isOver && rollout.expires && <><dt>Goes back by itself</dt><dd>what is not over before <Moment time={rollout.expires} /></dd></>}
      </dl>
      {rollout.reason !== null && (
        <div class="note" data-level="error">
          <p><b>{rollout.reason.code}</b> {rollout.reason.summary}</p>
          {rollout.reason.remedy && <p><b>Remedy</b> {rollout.reason.remedy}</p>}
        </div>
      )}
      {!isOver && <Buttons of={rollout} isMesh={isMesh} back={back} again={again} />}
      <Rows label="Clusters of the rollout" heads={[...(waves.length > 0 ? ["Wave"] : []), "Cluster", "State", "Step", ""]}>
        {rollout.clusters.map((one) => (
          <tr key={one.cluster} data-cluster={one.cluster}>
            {waves.length > 0 && <td>{one.wave || "–"}</td>}
            <td>{nameOf(one)}</td>
            <td><Sign tone={TONES[one.state] ?? "none"}>{one.state}</Sign>{one.reason && <span class="soft"> {one.reason.code} {one.reason.summary}</span>}</td>
            <td>{one.state === "under way" && (STAGES[one.step] ?? one.step)}{one.tries > 1 && <span class="soft"> try {one.tries}</span>}</td>
            <td>{one.may_go_back && (
              <Steer verb="Roll back" about={nameOf(one)} name="rolloutback" rollout={rollout} cluster={one.cluster} again={again}>
                <p>{nameOf(one)} goes back to the revision that it had: {one.namespaces.length > 0
                  ? `${plural(one.namespaces.length, "namespace")} move back by restarts (${named(one.namespaces)})` : "no namespace has moved yet"}.
                  The other clusters go on.</p>
              </Steer>)}</td>
          </tr>
        ))}
      </Rows>
    </section>
  );
}

function Buttons({ of: rollout, isMesh, back, again }: {
  of: Rollout; isMesh: boolean; back: readonly RolloutCluster[]; again: () => void;
}) {
  const { waves = [], wave = 0 } = rollout;
  const isStopped = rollout.state === "rolling back";
  const open = rollout.clusters.filter((one) => one.wave === wave && wave > 0);
  return (
    <p class="buttons">
      {rollout.state === "running" && (
        <Steer verb="Pause" name="rolloutpause" rollout={rollout} again={again}>
          <p>Steps that are under way come to their end, and no other begins until it is resumed. A pause is no part of a
            window or a soak; it counts towards the time that the operation has.</p>
        </Steer>)}
      {rollout.state === "paused" && (
        <Steer verb="Resume" name="rolloutresume" rollout={rollout} again={again}>
          <p>It goes on where it was: {STAGES[rollout.stage] ?? rollout.stage}{waves.length > 0 && `, wave ${wave} of ${waves.length}`}.</p>
        </Steer>)}
      {!isStopped && (
        <Steer verb="Abort" name="rolloutabort" rollout={rollout} again={again}>
          {isMesh ? <p>No cluster takes a further step. What was done stays, and is good for the next try.</p> : (
            <p>{open.length > 0 ? `Clusters of the open wave go back: ${named(open.map(nameOf))}. ` : "No wave is open yet. "}
              Waves that are done stay; those that have not begun are left as they are.</p>)}
        </Steer>)}
      {!isMesh && back.length > 0 && (
        <Steer verb="Roll back all" name="rolloutback" rollout={rollout} cluster="*" again={again}>
          <p>The rollout stops, and {plural(back.length, "cluster")} go back to the revision that they had: {named(back.map(nameOf))}.
            Clusters whose old revision is gone stay.</p>
        </Steer>)}
    </p>
  );
}

function Steer({ verb, about, name, rollout, cluster, again, children }: {
  verb: string; about?: string; name: string; rollout: Rollout; cluster?: string; again: () => void; children: ComponentChildren;
}) {
  return (
    <Action verb={verb} about={about} name={`lifecycle.${name}`}
      question={{ rollout: rollout.rollout, ...(cluster !== undefined && { cluster }) }} done={again}>{children}</Action>
  );
}

const nameOf = (one: RolloutCluster): string => one.name || clusterName(one.cluster);

const MOST_NAMED = 8;
const named = (names: readonly string[]): string => names.slice(0, MOST_NAMED).join(", ")
  + (names.length > MOST_NAMED ? ` and ${names.length - MOST_NAMED} more` : "");

function RolloutSign({ of: { state } }: { of: Rollout }) {
  return <Sign tone={STATES[state] ?? "none"}>{state}</Sign>;
}

const STATES: Record<string, Tone> = { running: "info", paused: "warn", "rolling back": "warn", stopped: "bad", done: "good" };
const TONES: Record<string, Tone> = {
  "under way": "info", done: "good", failed: "bad", "rolled back": "warn", "left as it was": "none", waiting: "none",
};
const JUDGED = ["gate", "soak"];

// Stages of a wave, and steps of a cluster: those of both have one name.
const STAGES: Record<string, string> = {
  gathering: "all clusters are waited for", precheck: "prechecks", baseline: "load tests before the change",
  canary: "the new revision comes up", move: "namespaces move", apply: "objects are applied", prove: "load tests with the change",
  gate: "the gate looks", switch: "tags and gateways move", soak: "soak", remove: "the old revision goes",
  compare: "clusters are compared", trust: "trust", plane: "control plane", remote: "remote clusters", account: "accounts", link: "links",
  cross: "requests between networks", check: "istiod is asked", retire: "what is not needed any more goes", unlink: "links go",
  leave: "clusters leave", back: "the way back", end: "its end", over: "over",
};
