// Where in a YAML text, as the service writes objects, a path leads: `spec.http[0].route[1].weight`.
// Lists stand below their key at the same depth, mappings two deeper. Pure.

type Segment = string | number;

export function segments(path: string): Segment[] {
  const found: Segment[] = [];
  for (const match of path.matchAll(/\[(\d+)\]|\["?([^\]"]+)"?\]|([^.[\]]+)/g)) {
    if (match[1] !== undefined) found.push(Number(match[1]));
    else found.push(match[2] ?? match[3] ?? "");
  }
  return found;
}

// The line's index, of as much of the path as is there; -1 for none of it.
export function lineOf(text: string, path: string): number {
  const lines = text.split("\n");
  let at = -1, from = 0, to = lines.length, depth = 0;
  for (const segment of segments(path)) {
    const found = typeof segment === "number"
      ? itemAt(lines, { from, to, depth }, segment) : keyAt(lines, { from, to, depth }, segment);
    if (found === null) return at;
    ({ at, from, to, depth } = found);
  }
  return at;
}

interface Place {
  from: number;
  to: number;
  depth: number;
}

// `- ` before a key counts as depth.
const depthOf = (line: string): number => /^[ ]*(?:- )*/.exec(line)![0].length;
const spaces = (line: string): number => line.length - line.trimStart().length;

function keyAt(lines: string[], { from, to, depth }: Place, key: string): (Place & { at: number }) | null {
  for (let index = from; index < to; index += 1) {
    const line = lines[index]!;
    if (depthOf(line) !== depth) continue;
    const rest = line.slice(depth);
    if (!rest.startsWith(`${key}:`) && !rest.startsWith(`'${key}':`) && !rest.startsWith(`"${key}":`)) continue;
    let end = index + 1;
    while (end < to && (spaces(lines[end]!) > depth || (spaces(lines[end]!) === depth && lines[end]!.startsWith("- ", depth)))) end += 1;
    const next = lines[index + 1] ?? "";
    const isList = index + 1 < end && next.startsWith("- ", spaces(next));
    return { at: index, from: index + 1, to: end, depth: isList ? spaces(next) : depth + 2 };
  }
  return null;
}

function itemAt(lines: string[], { from, to, depth }: Place, wanted: number): (Place & { at: number }) | null {
  let count = -1;
  for (let index = from; index < to; index += 1) {
    const line = lines[index]!;
    if (spaces(line) !== depth || !line.startsWith("- ", depth)) continue;
    count += 1;
    if (count !== wanted) continue;
    let end = index + 1;
    while (end < to && spaces(lines[end]!) > depth) end += 1;
    return { at: index, from: index, to: end, depth: depth + 2 };
  }
  return null;
}
