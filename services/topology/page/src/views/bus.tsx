// What the bus holds: streams, what waits for workers, and commands that nobody could carry out.

import { useEffect, useState } from "preact/hooks";
import { Action } from "../parts/dialogs";
import { count, size } from "../parts/figures";
import { Moment, Sign } from "../parts/signs";
import { Empty, Failed, Loading } from "../parts/states";
import { Rows } from "../parts/tables";
import { ask, Failure } from "../shell/answers";
import { clusterName } from "../shell/fleet";
import { go } from "../shell/router";
import { ANEW, stream } from "../shell/stream";

const EVERY_MS = 5_000;

interface Stream {
  name: string;
  description: string;
  messages: number;
  bytes: number;
  most_bytes: number;
  oldest: string;
  newest: string;
  consumers: number;
}

interface Consumer {
  stream: string;
  name: string;
  waiting: number;
  in_hand: number;
  delivered_again: number;
  workers: number;
}

interface Letter {
  letter: number;
  at: string;
  service: string;
  subject: string;
  cluster: string;
  operation: string;
  kind: string;
  verb: string;
  code: string;
  reason: string;
}

interface Told {
  streams: Stream[];
  consumers: Consumer[];
  letters: Letter[];
}

export default function Bus() {
  const { told, failure, again } = useBus();
  if (told === null) return failure === null ? <Loading what="the bus" /> : <Failed failure={failure} again={again} />;
  return (
    <div class="page">
      <h1>Bus</h1>
      {failure !== null && <Failed failure={failure} again={again} isPart />}
      <section aria-labelledby="letters"><h2 id="letters">Dead letters</h2><Letters of={told.letters} again={again} /></section>
      <section aria-labelledby="consumers"><h2 id="consumers">What waits for workers</h2>
        <Rows label="Consumers" heads={["Consumer", "Stream"]} numbers={["Waiting", "In hand", "Delivered again", "Workers that ask"]}>
          {told.consumers.map((one) => (
            <tr key={`${one.stream} ${one.name}`}><td>{one.name}</td><td>{one.stream}</td>
              <td class="number">{count(one.waiting)}</td><td class="number">{count(one.in_hand)}</td>
              <td class="number">{count(one.delivered_again)}</td>
              <td class="number">{one.workers > 0 ? count(one.workers) : <Sign tone={one.in_hand > 0 ? "info" : "warn"}>none</Sign>}</td></tr>
          ))}
        </Rows>
      </section>
      <section aria-labelledby="streams"><h2 id="streams">Streams</h2>
        <Rows label="Streams" heads={["Stream", "Holds", "Newest"]} numbers={["Messages", "Size", "At most"]}>
          {told.streams.map((one) => (
            <tr key={one.name}><td>{one.name}</td><td><span class="clip" title={one.description}>{one.description}</span></td>
              <td>{one.newest && <Moment time={one.newest} />}</td><td class="number">{count(one.messages)}</td>
              <td class="number">{size(one.bytes)}</td><td class="number">{one.most_bytes > 0 ? size(one.most_bytes) : "–"}</td></tr>
          ))}
        </Rows>
      </section>
    </div>
  );
}

function Letters({ of, again }: { of: Letter[]; again: () => void }) {
  if (of.length === 0) return <Empty title="No command was given up in the last 30 days" isPart />;
  return (
    <Rows label="Dead letters" heads={["Command", "Reason", "Cluster", "At", ""]}>
      {of.map((one) => (
        <tr key={one.letter} data-letter={one.letter}>
          <td>{one.operation ? <a href={`/operations/${encodeURIComponent(one.operation)}`}>{one.verb} {one.kind}</a> : one.subject}
            <span class="soft clip">{one.service}</span></td>
          <td><b>{one.code}</b> {one.reason}</td>
          <td>{one.cluster && clusterName(one.cluster)}</td>
          <td><Moment time={one.at} /></td>
          <td>{one.service === "lifecycle" && (
            <Action verb="Retry" name="lifecycle.retry" question={{ letter: one.letter }}
              done={() => { again(); if (one.operation) go(`/operations/${encodeURIComponent(one.operation)}`); }}>
              <p>The command <b>{one.verb} {one.kind}</b> for {clusterName(one.cluster)} goes back into lifecycle's queue, as it was sent,
                and is tried anew. It was given up because: {one.reason}</p>
            </Action>)}</td>
        </tr>
      ))}
    </Rows>
  );
}

// Asks again every few seconds while somebody looks, and when the connection is back.
function useBus() {
  const [told, setTold] = useState<Told | null>(null);
  const [failure, setFailure] = useState<Failure | null>(null);
  const load = () => {
    ask<Told>("bus.state").then((answer) => {
      setTold(answer);
      setFailure(null);
    }, (error) => { if (error instanceof Failure) setFailure(error); });
  };
  useEffect(() => {
    load();
    const timer = setInterval(() => { if (!document.hidden) load(); }, EVERY_MS);
    const anew = stream.on(ANEW, load);
    return () => {
      clearInterval(timer);
      anew();
    };
  }, []);
  return { told, failure, again: load };
}
