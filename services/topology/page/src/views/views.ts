// The views: where each one is, what it is called, and what it listens to. A view's code is loaded
// when it is first opened.

import type { ComponentType } from "preact";
import type { Look } from "../shell/stream";

export interface ViewProps {
  // What the address says after the view's own part: the id of one operation.
  id: string;
}

export interface View {
  // The first part of the address.
  at: string;
  title: string;
  isListed: boolean;
  topics: readonly string[];
  load: () => Promise<{ default: ComponentType<ViewProps> }>;
}

export const VIEWS: readonly View[] = [
  { at: "", title: "Fleet", isListed: true, topics: ["fleet", "operations"], load: () => import("./fleet") },
  { at: "operations", title: "Operations", isListed: true, topics: ["operations"], load: () => import("./operations") },
  { at: "start", title: "Start", isListed: false, topics: ["operations"], load: () => import("./start") },
  { at: "graph", title: "Graph", isListed: true, topics: ["operations"], load: () => import("./graph") },
  { at: "findings", title: "Findings", isListed: true, topics: ["operations", "troubles"], load: () => import("./findings") },
  { at: "drift", title: "Drift", isListed: true, topics: ["operations", "troubles"], load: () => import("./drift") },
  { at: "bus", title: "Bus", isListed: true, topics: ["operations"], load: () => import("./bus") },
  { at: "performance", title: "Performance", isListed: true, topics: ["operations"], load: () => import("./performance") },
  { at: "compliance", title: "Compliance", isListed: true, topics: ["operations"], load: () => import("./compliance") },
];

// The view of an address; null for an address that has none.
export function viewOf(path: string): { view: View; id: string } | null {
  const [, at = "", id = ""] = path.split("/");
  const view = VIEWS.find((one) => one.at === at);
  return view === undefined ? null : { view, id: decoded(id) };
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

export type { Look };
