// The lists of all findings and all drift, each entry a way to its object.

import { keyOf, objectName } from "./describe.js";
import { make, renew } from "./dom.js";
import { driftNote, findingNote } from "./panel.js";

const ORDER = { error: 0, warning: 1, info: 2 };
const MOST = 300; // More entries than anybody reads make the page slow.

export class Lists {
  constructor({ findings, drift, counts, choose }) {
    this.containers = { findings, drift };
    this.counts = counts;
    this.choose = choose;
  }

  show(store) {
    const of = (part) => [...store[part]].map(([id, item]) => ({ ...item, cluster: store.clusterOf(part, id) }));
    const findings = of("findings").sort((a, b) =>
      (ORDER[a.level] ?? 3) - (ORDER[b.level] ?? 3) || a.code.localeCompare(b.code)
      || objectName(a.object).localeCompare(objectName(b.object)));
    const drift = of("drift").sort((a, b) =>
      String(b.detected ?? "").localeCompare(String(a.detected ?? "")));
    this.fill("findings", findings, findingNote, "Nothing is wrong that the analysis knows of.");
    this.fill("drift", drift, driftNote, "Everything that was applied is as it was applied.");
  }

  fill(part, items, note, nothing) {
    this.counts[part].textContent = String(items.length);
    const byObject = Map.groupBy(items.slice(0, MOST), (item) => `${item.cluster} ${keyOf(item.object)}`);
    const shown = [...byObject].map(([key, about]) => ({
      key: `${key} ${JSON.stringify(about)}`,
      build: () => make("article", {}, make("button", {
        type: "button", class: "link", onclick: () => this.choose(about[0].object, about[0].cluster),
      }, objectName(about[0].object)), about.map(note)),
    }));
    const rest = items.length - MOST;
    const last = items.length === 0 ? nothing : rest > 0 ? `and ${rest} more` : "";
    renew(this.containers[part], [...shown, {
      key: `last ${last}`, build: () => make("p", { class: "soft" }, last),
    }]);
  }
}
