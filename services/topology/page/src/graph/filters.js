// What is shown of all there is. Pure, but for the form.

import { edgeKind, health, healthName } from "./describe.js";
import { make } from "./dom.js";
import { HEALTHS } from "./looks.js";

export class Filters {
  constructor() {
    this.hiddenNamespaces = new Set();
    this.hiddenEdges = new Set(); // "traffic", "config", "idle".
    this.hiddenHealths = new Set();
    this.onlyFindings = false;
    this.onlyDrift = false;
  }

  get count() {
    return this.hiddenNamespaces.size + this.hiddenEdges.size + this.hiddenHealths.size
      + Number(this.onlyFindings) + Number(this.onlyDrift);
  }

  showsNode(node, marks) {
    if (this.hiddenNamespaces.has(node.namespace ?? "")) return false;
    if (this.hiddenHealths.has(health(node))) return false;
    if (this.onlyFindings && !marks.findings.has(node.id)) return false;
    return !this.onlyDrift || marks.drift.has(node.id);
  }

  showsEdge(edge) {
    return !this.hiddenEdges.has(edgeKind(edge));
  }
}

// Draws the form anew; `changed` is called after each choice.
export function drawForm(form, filters, namespaces, changed) {
  const group = (title, set, values) => make("fieldset", {}, make("legend", {}, title),
    values.map(([value, name]) => box(name, !set.has(value), (isOn) => {
      if (isOn) set.delete(value);
      else set.add(value);
      changed();
    })));
  const box = (name, isOn, choose) => make("label", {}, make("input", {
    type: "checkbox", checked: isOn, onchange: (event) => choose(event.target.checked),
  }), ` ${name}`);
  form.replaceChildren(
    group("Namespaces", filters.hiddenNamespaces, namespaces.map((name) => [name, name || "none"])),
    group("Edges", filters.hiddenEdges,
      [["traffic", "with traffic"], ["config", "configuration only"], ["idle", "idle"]]),
    group("Health", filters.hiddenHealths, HEALTHS.map((level) => [level, healthName(level)])),
    make("fieldset", {}, make("legend", {}, "Only nodes with"),
      box("findings", filters.onlyFindings, (isOn) => { filters.onlyFindings = isOn; changed(); }),
      box("drift", filters.onlyDrift, (isOn) => { filters.onlyDrift = isOn; changed(); })),
    make("button", {
      type: "button",
      onclick: () => {
        Object.assign(filters, new Filters());
        drawForm(form, filters, namespaces, changed);
        changed();
      },
    }, "Show all"),
  );
}
