// What is shown in rows, and single figures with their names.

import type { ComponentChildren } from "preact";

// A table that scrolls by itself where it is too wide. A column without a head holds what can be done.
export function Rows({ label, heads, numbers = [], children }: {
  label: string; heads: readonly string[]; numbers?: readonly string[]; children: ComponentChildren;
}) {
  return (
    <div class="scroll" tabIndex={0} role="group" aria-label={label}>
      <table class="rows">
        <thead><tr>{heads.map((head) => head ? <th key={head} scope="col">{head}</th> : <td key={head} />)}
          {numbers.map((head) => <th key={head} scope="col" class="number">{head}</th>)}</tr></thead>
        <tbody>{children}</tbody>
      </table>
    </div>
  );
}

// Within a list of definitions.
export function Tile({ name, children }: { name: string; children: ComponentChildren }) {
  return <div><dt>{name}</dt><dd>{children}</dd></div>;
}
