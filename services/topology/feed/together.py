"""The graphs of several clusters as one.

A node that several tell of is taken from its own cluster. Of an edge the cluster of its source
tells the traffic, since the source knows how long the client waited, and that of its target the
mutual TLS, which a source does not know. The console does the same with what it follows
(`page/src/graph/store.ts`).
"""

from __future__ import annotations

from collections.abc import Mapping

from services.topology.feed.deltas import EDGES, NODES, Item, View, part_of
from services.topology.feed.rendering import decoded
from services.topology.feed.views import ClusterView

SECURED = ("isMTLS", "sourcePrincipal", "destPrincipal")
"""Fields of an edge that its target knows."""
MOST_PLACES = 20
"""Other clusters that are named for a service."""


def joined(
    clusters: Mapping[str, ClusterView], kind: View, *, meshes: Mapping[str, str]
) -> ClusterView:
    """One view with the nodes and edges of all, which keep their ids. `meshes` has the id of each
    cluster's mesh; one without is no part of another's."""
    view = ClusterView("")
    nodes, owners = _nodes({c: one.items(part_of(kind, NODES)) for c, one in clusters.items()})
    edges = _edges({c: one.items(part_of(kind, EDGES)) for c, one in clusters.items()}, owners)
    _note_places(nodes, {ident: meshes.get(cluster, "") for ident, cluster in owners.items()})
    for part, items in ((NODES, nodes), (EDGES, edges)):
        for ident, item in items.items():
            view.put(part_of(kind, part), ident, item)
    return view


def _nodes(clusters: Mapping[str, Mapping[str, bytes]]) -> tuple[dict[str, Item], dict[str, str]]:
    """The nodes, and of which cluster each is."""
    found: dict[str, Item] = {}
    owners: dict[str, str] = {}
    for cluster, items in clusters.items():
        for ident, text in items.items():
            item = decoded(text)
            if ident not in found or (found[ident].get("isOutside") and not item.get("isOutside")):
                found[ident], owners[ident] = item, cluster
    return found, owners


def _edges(
    clusters: Mapping[str, Mapping[str, bytes]], owners: Mapping[str, str]
) -> dict[str, Item]:
    told: dict[str, dict[str, Item]] = {}
    busy: set[tuple[str, str]] = set()
    for cluster, items in clusters.items():
        for ident, text in items.items():
            item = decoded(text)
            told.setdefault(ident, {})[cluster] = item
            if "traffic" in item:
                busy.add((item["source"], item["target"]))
    found: dict[str, Item] = {}
    for ident, by in told.items():
        item = one_of(by, owners)
        # What one cluster sees idle may be busy with what another one sends.
        is_idle = "traffic" not in item and "config" not in item
        if not is_idle or (item["source"], item["target"]) not in busy:
            found[ident] = item
    return found


def one_of(by: Mapping[str, Item], owners: Mapping[str, str]) -> Item:
    """One edge of what several clusters tell of it."""
    first = next(iter(by.values()))
    item = by.get(owners.get(first["source"], ""), first)
    of_target = by.get(owners.get(first["target"], ""))
    if of_target is None or of_target is item:
        return item
    known = {name: of_target[name] for name in SECURED if name in of_target}
    return {**item, **known}


def _note_places(nodes: Mapping[str, Item], meshes: Mapping[str, str]) -> None:
    """Where else a service is that several clusters of a mesh have: requests to it may go there.
    Where they do go is an edge with traffic."""
    places: dict[tuple[str, str, str], list[Item]] = {}
    for ident, node in nodes.items():
        is_own = not node.get("isOutside") and not node.get("isServiceEntry")
        if node.get("nodeType") == "service" and is_own and meshes[ident]:
            key = (meshes[ident], node["namespace"], node["service"])
            places.setdefault(key, []).append(node)
    for found in places.values():
        names = sorted({str(node["cluster"]) for node in found})
        for node in found if len(names) > 1 else ():
            others = [name for name in names if name != node["cluster"]]
            node["possibleIn"] = others[:MOST_PLACES]
