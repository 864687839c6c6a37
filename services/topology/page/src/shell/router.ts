// Which view is shown: the address says all of it, so that each state can be sent to somebody.

import { batch, signal } from "@preact/signals";

export const path = signal(location.pathname);
export const query = signal(new URLSearchParams(location.search));

// Goes to an address of the console; with `replace` the one before is not kept.
export function go(address: string, { replace = false } = {}): void {
  const url = new URL(address, location.href);
  if (url.href === location.href) return;
  history[replace ? "replaceState" : "pushState"](null, "", url);
  read();
  if (!replace) scrollTo(0, 0);
}

// Changes some fields of the query; "" takes one out.
export function setQuery(fields: Record<string, string>): void {
  const changed = new URLSearchParams(query.value);
  for (const [name, value] of Object.entries(fields)) {
    if (value === "") changed.delete(name);
    else changed.set(name, value);
  }
  const text = changed.toString();
  go(`${path.value}${text ? `?${text}` : ""}`, { replace: true });
}

function read(): void {
  batch(() => {
    path.value = location.pathname;
    query.value = new URLSearchParams(location.search);
  });
}

addEventListener("popstate", read);
document.addEventListener("click", (event) => {
  if (event.defaultPrevented || event.button !== 0) return;
  if (event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
  const link = event.target instanceof Element ? event.target.closest("a") : null;
  if (link === null || link.origin !== location.origin || link.target !== "") return;
  if (link.hasAttribute("download") || link.dataset["leaves"] !== undefined) return;
  if (link.getAttribute("href")?.startsWith("#")) return;
  event.preventDefault();
  go(link.href);
});
