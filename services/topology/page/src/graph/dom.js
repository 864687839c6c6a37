// Builds elements. All foreign text becomes text nodes; nothing here or elsewhere parses HTML.

export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else element.setAttribute(name, String(value));
  }
  element.append(...children.flat(3).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

export const byId = (id) => document.getElementById(id);

// A column of names and values; rows without a value are left out.
export function facts(rows) {
  const found = rows.filter(([, value]) => value !== undefined && value !== null && value !== "");
  return make("dl", {}, found.map(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]));
}

export function table(head, rows) {
  return make("table", {},
    make("thead", {}, make("tr", {}, head.map((name) => make("th", { scope: "col" }, name)))),
    make("tbody", {}, rows.map((row) => make("tr", {}, row.map((cell) => make("td", {}, cell))))));
}

// Replaces a container's sections, but leaves those alone whose key is the same: what a reader has
// opened, marked or scrolled to stays as it is while numbers elsewhere change.
export function renew(container, sections) {
  const old = new Map([...container.children].map((child) => [child.dataset.key, child]));
  const wanted = sections.map(({ key, build }) => {
    const kept = old.get(key);
    if (kept !== undefined) return kept;
    const element = build();
    element.dataset.key = key;
    return element;
  });
  for (const child of [...container.children]) if (!wanted.includes(child)) child.remove();
  wanted.forEach((element, index) => {
    if (container.children[index] !== element) {
      container.insertBefore(element, container.children[index] ?? null);
    }
  });
}
