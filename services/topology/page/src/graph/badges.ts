// Signs on a node for what its configuration does: small pictures above it, made of one SVG each.
// Their colours stand on light and dark alike, so a change of theme draws none of them again.

import type { Flags, GraphNode } from "../contract/graph";

export interface Picture {
  uri: string;
  width: number;
  height: number;
}

const SIZE = 12;
const STEP = SIZE + 1;
const MOST = 4;
const ROUTE = '<path d="M3 6h2.5L9 3.5M5.5 6 9 8.5"/>';
// Field of the item → [what it means, colour, drawing].
const BADGES: Partial<Record<keyof Flags, readonly [meaning: string, colour: string, drawing: string]>> = {
  isOutOfMesh: ["no sidecar", "#a86a00", '<circle cx="6" cy="6" r="3.2"/><path d="M3.8 8.2l4.4-4.4"/>'],
  hasFaultInjection: ["fault injection", "#c22f2f", '<path d="M6.8 2.5 4.3 6.4h3.4L5.2 9.6"/>'],
  hasCB: ["circuit breaker", "#5d4bb0", '<path d="M2.5 6.5h2L7.3 4M8 6.5h1.5"/>'],
  hasMirroring: ["mirroring", "#1f6f9f", '<path d="M6 2.5v7M4 4 2.5 6 4 8M8 4l1.5 2L8 8"/>'],
  hasTrafficShifting: ["traffic shifting", "#2257c4", ROUTE],
  hasTCPTrafficShifting: ["TCP shifting", "#2257c4", ROUTE],
  hasVS: ["virtual service", "#2257c4", '<path d="M3 6h5.5M6.5 3.8 8.8 6 6.5 8.2"/>'],
  hasRequestTimeout: ["timeouts", "#52616f", '<circle cx="6" cy="6" r="3.2"/><path d="M6 4.2V6l1.3.8"/>'],
};
const FIELDS = Object.keys(BADGES) as (keyof Flags)[];
const pictures = new Map<string, Picture>();

// The fields of a node that have a sign, as one text.
export function badgesOf(node: GraphNode): string {
  const found = FIELDS.filter((field) => node[field]);
  // Shifting says more than that there is a virtual service.
  const shifts = found.some((field) => field.endsWith("Shifting"));
  return found.filter((field) => field !== "hasVS" || !shifts).slice(0, MOST).join(" ");
}

// The signs of `badgesOf`.
export function badgePicture(names: string): Picture {
  const known = pictures.get(names) ?? picture(names.split(" ") as (keyof Flags)[]);
  pictures.set(names, known);
  return known;
}

function picture(fields: readonly (keyof Flags)[]): Picture {
  const width = fields.length * STEP;
  const signs = fields.map((field, index) => {
    const [, colour = "", drawing = ""] = BADGES[field] ?? [];
    return `<g transform="translate(${index * STEP} 0)"><circle cx="6" cy="6" r="6" fill="${colour}"/>`
      + `<g fill="none" stroke="#fff" stroke-width="1.3" stroke-linecap="round">${drawing}</g></g>`;
  });
  // Drawn four times as large, it stays sharp when zoomed.
  const svg = `<svg xmlns="http://www.w3.org/2000/svg" width="${4 * width}" height="${4 * SIZE}" `
    + `viewBox="0 0 ${width} ${SIZE}">${signs.join("")}</svg>`;
  return { uri: `data:image/svg+xml;utf8,${encodeURIComponent(svg)}`, width, height: SIZE };
}

// For the legend: [the sign's URI, what it means].
export function badgeLegend(): [uri: string, meaning: string][] {
  return Object.entries(BADGES).map(([field, [meaning]]) => [badgePicture(field).uri, meaning]);
}
