// The lines of a chart on common places. Pure.

export interface Line {
  name: string;
  points: readonly (readonly [at: number, value: number | null])[];
}

export type Aligned = { places: number[]; values: (number | null | undefined)[][] };

// The places of all lines together. A line has no value (`undefined`) where only others have a place,
// and a gap (null) where it says so.
export function aligned(lines: readonly Line[]): Aligned {
  const places = [...new Set(lines.flatMap(({ points }) => points.map(([at]) => at)))].sort((a, b) => a - b);
  const values = lines.map(({ points }) => {
    const known = new Map(points);
    return places.map((place) => known.get(place));
  });
  return { places, values };
}
