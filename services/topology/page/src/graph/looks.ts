// How the graph looks: Cytoscape's style sheet, in the colours of style.css.

import type { NodeSingular, StylesheetJson } from "cytoscape";
import { badgePicture, type Picture } from "./badges";

export const SHAPES = {
  app: "round-rectangle",
  workload: "ellipse",
  service: "round-triangle",
  gateway: "diamond",
  waypoint: "pentagon",
  external: "round-tag",
  aggregate: "hexagon",
  unknown: "star",
};
export const HEALTHS = ["healthy", "degraded", "failure", "notready", "na"];

export function looks(isLarge: boolean): StylesheetJson {
  const computed = getComputedStyle(document.documentElement);
  const colour = (name: string) => computed.getPropertyValue(`--${name}`).trim();
  const style = [
    {
      selector: "node",
      style: {
        label: "data(label)", color: colour("ink"), "background-color": colour("node"),
        "border-width": 2.5, "border-color": colour("na"), width: 30, height: 30,
        "font-size": 12, "min-zoomed-font-size": 7, "text-valign": "bottom", "text-margin-y": 3,
        "text-wrap": "wrap", "text-max-width": 130, "underlay-shape": "ellipse",
        "overlay-shape": "ellipse",
      },
    },
    ...Object.entries(SHAPES).map(([kind, shape]) => ({
      selector: `node[kind = "${kind}"]`, style: { shape },
    })),
    ...HEALTHS.map((health) => ({
      selector: `node[health = "${health}"]`, style: { "border-color": colour(health) },
    })),
    { selector: "node[?idle]", style: { "border-style": "dashed" } },
    { selector: "node[?dead]", style: { opacity: 0.55 } },
    { selector: "node[?outside]", style: { "background-color": colour("box") } },
    {
      selector: "node[?drift]",
      style: { "background-color": colour("notready"), "background-opacity": 0.35 },
    },
    {
      selector: 'node[level = "error"], node[level = "warning"]',
      style: { "underlay-color": colour("failure"), "underlay-opacity": 0.25, "underlay-padding": 5 },
    },
    { selector: 'node[level = "warning"]', style: { "underlay-color": colour("degraded") } },
    ...isLarge ? [] : [badges],
    {
      selector: "node[?box]",
      style: {
        shape: "round-rectangle", "background-color": colour("box"), "background-opacity": 0.6,
        "border-width": 1, "border-color": colour("line"), "border-style": "solid", padding: 14,
        "font-size": 14, "text-valign": "top", "text-margin-y": -2, color: colour("soft"),
        "min-zoomed-font-size": 6,
      },
    },
    {
      selector: "edge",
      style: {
        width: "mapData(weight, 0, 1, 1.5, 6)", "line-color": colour("healthy"),
        // Straight lines: a curve costs twice as much to draw and to hit.
        "curve-style": isLarge ? "straight" : "bezier", "target-arrow-shape": "triangle",
        "target-arrow-color": colour("healthy"), "arrow-scale": 0.8,
        label: "data(label)", color: colour("soft"), "font-size": 10, "min-zoomed-font-size": 7,
        "text-wrap": "wrap", "text-max-width": 90,
        "text-background-color": colour("back"), "text-background-opacity": 0.85,
        "text-background-padding": 2,
      },
    },
    ...["degraded", "failure", "tcp", "config", "idle"].map((state) => ({
      selector: `edge[state = "${state}"]`,
      style: { "line-color": colour(state), "target-arrow-color": colour(state) },
    })),
    { selector: 'edge[state = "config"]', style: { "line-style": "dashed" } },
    { selector: 'edge[state = "idle"]', style: { "line-style": "dotted" } },
    { selector: "edge[?covered]", style: { display: "none" } },
    { selector: ".faded", style: { opacity: 0.15 } },
    {
      selector: "node.found",
      style: { "border-color": colour("found"), "border-width": 5, opacity: 1 },
    },
    {
      selector: "node:selected",
      style: { "overlay-color": colour("accent"), "overlay-opacity": 0.25, "overlay-padding": 6 },
    },
    {
      selector: "edge:selected",
      style: { "overlay-color": colour("accent"), "overlay-opacity": 0.3, "overlay-padding": 3 },
    },
    { selector: ".hidden", style: { display: "none" } },
  ];
  // Its types know neither all fields nor functions of the data.
  return style as unknown as StylesheetJson;
}

// Above the node, where no label is.
const pictureOf = (node: NodeSingular): Picture => badgePicture(String(node.data("badges")));
const badges = {
  selector: "node[badges][badges != '']",
  style: {
    "background-image": (node: NodeSingular) => pictureOf(node).uri,
    "background-width": (node: NodeSingular) => pictureOf(node).width,
    "background-height": (node: NodeSingular) => pictureOf(node).height,
    "background-fit": "none", "background-clip": "none", "background-image-containment": "over",
    "background-position-x": "50%", "background-offset-y": -14, "background-position-y": 0,
    "background-image-opacity": 1, "bounds-expansion": 14,
  },
};
