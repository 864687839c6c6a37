// Who is at this browser. Without being signed in one only sees; what somebody may do is the gateway's
// to say, and is asked of it here so that the page offers nothing else.

import { signal } from "@preact/signals";
import { Failure, get, post } from "./answers";

export interface Advertised {
  name: string;
  description: string;
  category: number;
  slot: string;
  stays_in_namespace: boolean;
}

export interface Me {
  identity: string | null;
  groups?: string[];
  // Questions that change something, as `<service>.<verb>`.
  may?: string[];
  operations?: Advertised[];
  versions?: string[];
  signIn?: { issuer: boolean; token: boolean };
  // A proxy in front says who it is, so signing out is up to it.
  proxied?: boolean;
  // Why a token that was there is not taken any more.
  ended?: string;
}

export const me = signal<Me | null>(null);
export const isSigningIn = signal(false);
export const problem = signal<Failure | null>(null);

export const isKnown = (): boolean => Boolean(me.value?.identity);
export const may = (question: string): boolean => me.value?.may?.includes(question) ?? false;

const AGAIN_MS = 5_000;
let again: ReturnType<typeof setTimeout> | undefined;
let knowing: Promise<void> = Promise.resolve();

// Done once it is known who is here. What somebody does sooner waits for it: the answer may be on its way.
export const known = (): Promise<void> => knowing;

export function load(): void {
  knowing = begin();
}

async function begin(): Promise<void> {
  const fromLink = /^#token=([\w.-]+)$/.exec(location.hash)?.[1];
  if (fromLink !== undefined) {
    // Neither in the history nor to be sent on by mistake.
    history.replaceState(null, "", location.pathname + location.search);
  }
  await refresh();
  // A link that somebody else has made must not put his name in place of another's.
  if (fromLink !== undefined && !isKnown()) await signIn(fromLink);
}

export async function signIn(token: string): Promise<boolean> {
  try {
    await post("/api/session", { token });
  } catch (error) {
    problem.value = error instanceof Failure ? error : null;
    isSigningIn.value = true;
    return false;
  }
  problem.value = null;
  isSigningIn.value = false;
  await refresh();
  return true;
}

export async function signOut(): Promise<void> {
  await post("/api/session/end", {});
  await refresh();
}

// Has something done, under the name of whoever is signed in.
export async function write<T>(name: string, question: object): Promise<T> {
  try {
    return await post<T>("/api/write", { name, question });
  } catch (error) {
    // The token may have ended meanwhile.
    if (error instanceof Failure && error.status === 401) void refresh();
    throw error;
  }
}

async function refresh(): Promise<void> {
  clearTimeout(again);
  try {
    me.value = await get<Me>("/api/me");
  } catch {
    // Without an answer nothing is known of anybody, and nothing is offered until there is one.
    me.value = null;
    again = setTimeout(() => { void refresh(); }, AGAIN_MS);
  }
}
