// Builds elements. All foreign text becomes text nodes; nothing here or elsewhere parses HTML.

export type Child = Node | string | number | null | undefined | false;
export type Children = Child | readonly Children[];
// A listener for `on…`; of the rest true is an attribute without a value, and false none.
type Attribute = string | number | boolean | null | undefined | ((event: Event) => void);

export function make<Tag extends keyof HTMLElementTagNameMap>(
  tag: Tag, attributes: Record<string, Attribute> = {}, ...children: Children[]
): HTMLElementTagNameMap[Tag] {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (typeof value === "function") element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...flat(children));
  return element;
}

function* flat(children: readonly Children[]): Generator<Node | string> {
  for (const child of children) {
    if (Array.isArray(child)) yield* flat(child);
    else if (child !== null && child !== undefined && child !== false) {
      yield child instanceof Node ? child : String(child);
    }
  }
}

// An element that the view has laid out.
export function byId<Found extends HTMLElement = HTMLElement>(id: string): Found {
  return document.getElementById(id) as Found;
}

// A column of names and values; rows without a value are left out.
export function facts(rows: readonly (readonly [name: string, value: Child])[]): HTMLElement {
  const found = rows.filter(([, value]) => value !== undefined && value !== null && value !== "");
  return make("dl", {}, found.map(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]));
}

export function table(head: readonly string[], rows: readonly (readonly Child[])[]): HTMLElement {
  return make("table", {},
    make("thead", {}, make("tr", {}, head.map((name) => make("th", { scope: "col" }, name)))),
    make("tbody", {}, rows.map((row) => make("tr", {}, row.map((cell) => make("td", {}, cell))))));
}

export interface Section {
  key: string;
  build: () => HTMLElement;
}

// Replaces a container's sections, but leaves those alone whose key is the same: what a reader has
// opened, marked or scrolled to stays as it is while numbers elsewhere change.
export function renew(container: HTMLElement, sections: readonly Section[]): void {
  const shown = [...container.children] as HTMLElement[];
  const old = new Map(shown.map((child) => [child.dataset["key"], child]));
  const wanted = sections.map(({ key, build }) => {
    const kept = old.get(key);
    if (kept !== undefined) return kept;
    const element = build();
    element.dataset["key"] = key;
    return element;
  });
  for (const child of shown) if (!wanted.includes(child)) child.remove();
  wanted.forEach((element, index) => {
    if (container.children[index] !== element) {
      container.insertBefore(element, container.children[index] ?? null);
    }
  });
}
