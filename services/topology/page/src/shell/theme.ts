// Light or dark: as the system has it until somebody chooses.

import { effect, signal } from "@preact/signals";

const system = matchMedia("(prefers-color-scheme: dark)");
const chosen = signal(localStorage.getItem("theme") ?? "");
const systemIsDark = signal(system.matches);
export const isDark = signal(false);

system.addEventListener("change", () => { systemIsDark.value = system.matches; });

// Paper is light.
const paper = matchMedia("print");
const isPrinting = signal(paper.matches);
paper.addEventListener("change", () => { isPrinting.value = paper.matches; });

effect(() => {
  const dark = !isPrinting.value && (chosen.value === "" ? systemIsDark.value : chosen.value === "dark");
  document.documentElement.dataset["theme"] = dark ? "dark" : "light";
  isDark.value = dark;
});

export function toggle(): void {
  chosen.value = isDark.value ? "light" : "dark";
  localStorage.setItem("theme", chosen.value);
}
