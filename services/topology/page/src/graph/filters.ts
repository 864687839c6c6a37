// What is shown of all there is. Pure, but for the form.

import type { GraphEdge, GraphNode } from "../contract/graph";
import { edgeKind, health, healthName } from "./describe";
import { make } from "./dom";
import { HEALTHS } from "./looks";
import type { Marks } from "./marks";

export class Filters {
  readonly hiddenNamespaces = new Set<string>();
  readonly hiddenEdges = new Set<string>();
  readonly hiddenHealths = new Set<string>();
  onlyFindings = false;
  onlyDrift = false;

  get count(): number {
    return this.hiddenNamespaces.size + this.hiddenEdges.size + this.hiddenHealths.size
      + Number(this.onlyFindings) + Number(this.onlyDrift);
  }

  // As an address has it: `namespace:shop,edge:idle,only:drift`.
  get text(): string {
    const hidden = Object.entries(this.sets).flatMap(([name, set]) => [...set].map((one) => `${name}:${one}`));
    return [...hidden, ...this.onlyFindings ? ["only:findings"] : [], ...this.onlyDrift ? ["only:drift"] : []].join();
  }

  read(text: string): void {
    this.clear();
    for (const part of text.split(",")) {
      const [name = "", one = ""] = part.split(":");
      this.sets[name]?.add(one);
      if (part === "only:findings") this.onlyFindings = true;
      if (part === "only:drift") this.onlyDrift = true;
    }
  }

  private get sets(): Record<string, Set<string>> {
    return { namespace: this.hiddenNamespaces, edge: this.hiddenEdges, health: this.hiddenHealths };
  }

  // Shows everything again.
  clear(): void {
    for (const hidden of [this.hiddenNamespaces, this.hiddenEdges, this.hiddenHealths]) hidden.clear();
    this.onlyFindings = this.onlyDrift = false;
  }

  showsNode(node: GraphNode, marks: Marks): boolean {
    if (this.hiddenNamespaces.has(node.namespace ?? "")) return false;
    if (this.hiddenHealths.has(health(node))) return false;
    if (this.onlyFindings && !marks.findings.has(node.id)) return false;
    return !this.onlyDrift || marks.drift.has(node.id);
  }

  showsEdge(edge: GraphEdge): boolean {
    return !this.hiddenEdges.has(edgeKind(edge));
  }
}

// Draws the form anew; `changed` is called after each choice.
export function drawForm(form: HTMLFormElement, filters: Filters, namespaces: readonly string[], changed: () => void): void {
  const group = (title: string, set: Set<string>, values: readonly (readonly [value: string, name: string])[]) => make("fieldset", {}, make("legend", {}, title),
    values.map(([value, name]) => box(name, !set.has(value), (isOn) => {
      if (isOn) set.delete(value);
      else set.add(value);
      changed();
    })));
  const box = (name: string, isOn: boolean, choose: (isOn: boolean) => void) => make("label", {}, make("input", {
    type: "checkbox", checked: isOn, onchange: (event) => choose((event.target as HTMLInputElement).checked),
  }), ` ${name}`);
  form.replaceChildren(
    group("Namespaces", filters.hiddenNamespaces, namespaces.map((name) => [name, name || "none"] as const)),
    group("Edges", filters.hiddenEdges,
      [["traffic", "with traffic"], ["config", "configuration only"], ["idle", "idle"]]),
    group("Health", filters.hiddenHealths, HEALTHS.map((level) => [level, healthName(level)] as const)),
    make("fieldset", {}, make("legend", {}, "Only nodes with"),
      box("findings", filters.onlyFindings, (isOn) => { filters.onlyFindings = isOn; changed(); }),
      box("drift", filters.onlyDrift, (isOn) => { filters.onlyDrift = isOn; changed(); })),
    make("button", {
      type: "button",
      onclick: () => {
        filters.clear();
        drawForm(form, filters, namespaces, changed);
        changed();
      },
    }, "Show all"),
  );
}
