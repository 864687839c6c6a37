// Operations as this tab knows them: the newest ones, and those that it was told of since.

import { batch, signal } from "@preact/signals";
import type { Event, OperationsPage } from "../contract/console";
import { ask, Failure } from "./answers";
import { type Operation, withEvents, withRecords } from "./records";
import { ANEW, stream } from "./stream";

export const operations = signal<ReadonlyMap<string, Operation>>(new Map());
export const problem = signal<Failure | null>(null);
export const isLoaded = signal(false);
// Each event, for whoever shows one operation.
export const lastEvents = signal<readonly Event[]>([]);

let waiting: Event[] = [];
stream.on<Event>("operation", (event) => {
  if (waiting.push(event) === 1) requestAnimationFrame(take);
});
stream.on(ANEW, () => { void load(); });

function take(): void {
  const events = waiting;
  waiting = [];
  batch(() => {
    operations.value = withEvents(operations.value, events);
    lastEvents.value = events;
  });
}

async function load(): Promise<void> {
  try {
    const page = await ask<OperationsPage>("gateway.operations", { limit: 50 });
    batch(() => {
      operations.value = withRecords(operations.value, page.operations);
      problem.value = null;
      isLoaded.value = true;
    });
  } catch (error) {
    if (error instanceof Failure) problem.value = error;
  }
}
