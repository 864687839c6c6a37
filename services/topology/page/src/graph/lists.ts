// The lists of all findings and all drift, each entry a way to its object.

import type { Drift, Finding, Reference } from "../contract/graph";
import { keyOf, objectName } from "./describe";
import { make, renew } from "./dom";
import { driftNote, findingNote } from "./panel";
import type { Store } from "./store";

const ORDER: Record<string, number> = { error: 0, warning: 1, info: 2 };
const MOST = 300; // More entries than anybody reads make the page slow.

type Part = "findings" | "drift";
type Choose = (object: Reference, cluster: string) => void;

export class Lists {
  private readonly containers: Record<Part, HTMLElement>;
  private readonly counts: Record<Part, HTMLElement>;
  private readonly choose: Choose;

  constructor({ findings, drift, counts, choose }: Record<Part, HTMLElement> & { counts: Record<Part, HTMLElement>; choose: Choose }) {
    this.containers = { findings, drift };
    this.counts = counts;
    this.choose = choose;
  }

  show(store: Store): void {
    const of = <Item extends Finding | Drift>(part: Part, items: ReadonlyMap<string, Item>) =>
      [...items].map(([id, item]) => ({ ...item, cluster: store.clusterOf(part, id) }));
    const findings = of("findings", store.findings).sort((a, b) =>
      (ORDER[a.level] ?? 3) - (ORDER[b.level] ?? 3) || a.code.localeCompare(b.code)
      || objectName(a.object).localeCompare(objectName(b.object)));
    const drift = of("drift", store.drift).sort((a, b) =>
      String(b.detected ?? "").localeCompare(String(a.detected ?? "")));
    this.fill("findings", findings, findingNote, "Nothing is wrong that the analysis knows of.");
    this.fill("drift", drift, driftNote, "Everything that was applied is as it was applied.");
  }

  private fill<Item extends { object: Reference; cluster: string }>(
    part: Part, items: readonly Item[], note: (item: Item) => HTMLElement, nothing: string,
  ): void {
    this.counts[part].textContent = String(items.length);
    const byObject = Map.groupBy(items.slice(0, MOST), (item) => `${item.cluster} ${keyOf(item.object)}`);
    const shown = [...byObject].map(([key, about]) => ({
      key: `${key} ${JSON.stringify(about)}`,
      build: () => this.entry(about, note),
    }));
    const rest = items.length - MOST;
    const last = items.length === 0 ? nothing : rest > 0 ? `and ${rest} more` : "";
    renew(this.containers[part], [...shown, {
      key: `last ${last}`, build: () => make("p", { class: "soft" }, last),
    }]);
  }

  // All that is said of one object, with a way to it.
  private entry<Item extends { object: Reference; cluster: string }>(about: readonly Item[], note: (item: Item) => HTMLElement): HTMLElement {
    const [first] = about;
    return make("article", {}, first !== undefined && make("button", {
      type: "button", class: "link", onclick: () => this.choose(first.object, first.cluster),
    }, objectName(first.object)), about.map((one) => note(one)));
  }
}
