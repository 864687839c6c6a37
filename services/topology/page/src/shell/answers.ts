// Asks the server, and the service API through it. What is not answered is a `Failure`.

import type { Problem } from "../contract/console";

export class Failure extends Error {
  constructor(readonly problem: Problem, readonly status: number) {
    super(problem.summary);
  }
}

// The answer of `mesh.<service>.<verb>`, by way of the topology service.
export function ask<T>(name: string, question: object = {}, signal?: AbortSignal): Promise<T> {
  const query = new URLSearchParams({ name, question: JSON.stringify(question) });
  return get<T>(`/api/ask?${query}`, signal);
}

export async function get<T>(address: string, signal?: AbortSignal): Promise<T> {
  return answered<T>(await reached(address, { signal: signal ?? null }));
}

// Sends JSON to what changes something.
export async function post<T>(address: string, body: object): Promise<T> {
  const headers = { "Content-Type": "application/json" };
  return answered<T>(await reached(address, { method: "POST", headers, body: JSON.stringify(body) }));
}

async function reached(address: string, options: RequestInit): Promise<Response> {
  try {
    return await fetch(address, options);
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw new Failure({
      code: "", summary: "The console's service does not answer",
      cause: "it is away, or the network between is", remedy: "It is asked again when the connection is back.",
    }, 0);
  }
}

async function answered<T>(response: Response): Promise<T> {
  const told: unknown = await response.json().catch((error: unknown) => {
    // Whoever asked has left while the answer came.
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    return null;
  });
  if (response.ok && told !== null) return told as T;
  const problem = told as Partial<Problem> | null;
  throw new Failure({
    code: problem?.code ?? "", summary: problem?.summary ??
      (response.ok ? "The answer broke off" : `The service answered with ${response.status}`),
    cause: problem?.cause ?? "", remedy: problem?.remedy ?? "",
  }, response.status);
}
