// How far an operation is on a cluster: objects of its plan that are applied.

import { count } from "./figures";
import { isOver, type Part } from "../shell/records";

export function Progress({ part }: { part: Part }) {
  if (isOver(part.state) || part.planned === 0) return null;
  const done = Math.min(part.done, part.planned);
  const text = `${count(done)} of ${count(part.planned)} objects`;
  return (
    <span class="progress">
      <progress max={part.planned} value={done} aria-label={`${part.name}: ${text}`} /> <span class="soft">{text}</span>
    </span>
  );
}
