// What the server says of itself, once.

import { signal } from "@preact/signals";
import { get } from "./answers";

// Where an operation's trace is found, with `{operation}`; "" where nobody said.
export const traces = signal("");

get<{ version: string; traces: string }>("/api/about").then((told) => { traces.value = told.traces; }, () => undefined);
