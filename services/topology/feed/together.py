"""The graphs of several clusters as one.

A node that several tell of is taken from its own cluster. Of an edge the cluster of its source
tells the traffic, since the source knows how long the client waited, and that of its target the
mutual TLS, which a source does not know. The console does the same with what it follows
(`page/src/graph/store.ts`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from services.topology.feed.deltas import EDGES, NODES, Item, View, part_of
from services.topology.feed.rendering import decoded
from services.topology.feed.views import ClusterView, dumped

SECURED = ("isMTLS", "sourcePrincipal", "destPrincipal")
"""Fields of an edge that its target knows."""
MOST_PLACES = 20
"""Other clusters that are named for a service."""


def joined(
    clusters: Mapping[str, ClusterView], kind: View, *, meshes: Mapping[str, str]
) -> ClusterView:
    """One view with the nodes and edges of all, which keep their ids. `meshes` has the id of each
    cluster's mesh; one without is no part of another's.

    It reads every item once: a fleet's take a second, and are read beside the loop (`still`).
    """
    view = ClusterView("")
    nodes, owners = _nodes({c: one.items(part_of(kind, NODES)) for c, one in clusters.items()})
    edges = _edges({c: one.items(part_of(kind, EDGES)) for c, one in clusters.items()}, owners)
    _note_places(nodes, {ident: meshes.get(cluster, "") for ident, cluster in owners.items()})
    for part, found in ((NODES, nodes), (EDGES, edges)):
        texts = {ident: one.text or dumped(one.item) for ident, one in found.items()}
        view.parts[part_of(kind, part)] = texts
    return view


def still(view: ClusterView, kind: View) -> ClusterView:
    """The nodes and edges of a view as they are now, whatever becomes of it."""
    parts = (part_of(kind, NODES), part_of(kind, EDGES))
    return ClusterView(view.cluster, parts={part: dict(view.items(part)) for part in parts})


@dataclass(slots=True)
class _Told:
    item: Item
    text: bytes
    """Its JSON; b"" when the item is another one by now."""


_Texts = Mapping[str, Mapping[str, bytes]]
"""Items by cluster and id."""


def _nodes(clusters: _Texts) -> tuple[dict[str, _Told], dict[str, str]]:
    """The nodes, and of which cluster each is."""
    found: dict[str, _Told] = {}
    owners: dict[str, str] = {}
    for cluster, items in clusters.items():
        for ident, text in items.items():
            item = decoded(text)
            known = found.get(ident)
            if known is None or (known.item.get("isOutside") and not item.get("isOutside")):
                found[ident], owners[ident] = _Told(item, text), cluster
    return found, owners


def _edges(clusters: _Texts, owners: Mapping[str, str]) -> dict[str, _Told]:
    told: dict[str, dict[str, _Told]] = {}
    busy: set[tuple[str, str]] = set()
    for cluster, items in clusters.items():
        for ident, text in items.items():
            item = decoded(text)
            told.setdefault(ident, {})[cluster] = _Told(item, text)
            if "traffic" in item:
                busy.add((item["source"], item["target"]))
    found: dict[str, _Told] = {}
    for ident, by in told.items():
        one = _one_of(by, owners)
        # What one cluster sees idle may be busy with what another one sends.
        is_idle = "traffic" not in one.item and "config" not in one.item
        if not is_idle or (one.item["source"], one.item["target"]) not in busy:
            found[ident] = one
    return found


def _one_of(by: Mapping[str, _Told], owners: Mapping[str, str]) -> _Told:
    """One edge of what several clusters tell of it."""
    first = next(iter(by.values()))
    if len(by) == 1:
        return first
    one = by.get(owners.get(first.item["source"], ""), first)
    of_target = by.get(owners.get(first.item["target"], ""))
    if of_target is None or of_target is one:
        return one
    known = {name: of_target.item[name] for name in SECURED if name in of_target.item}
    return _Told({**one.item, **known}, b"")


def _note_places(nodes: Mapping[str, _Told], meshes: Mapping[str, str]) -> None:
    """Where else a service is that several clusters of a mesh have: requests to it may go there.
    Where they do go is an edge with traffic."""
    places: dict[tuple[str, str, str], list[_Told]] = {}
    for ident, one in nodes.items():
        node = one.item
        is_own = not node.get("isOutside") and not node.get("isServiceEntry")
        if node.get("nodeType") == "service" and is_own and meshes[ident]:
            key = (meshes[ident], node["namespace"], node["service"])
            places.setdefault(key, []).append(one)
    for found in places.values():
        names = sorted({str(one.item["cluster"]) for one in found})
        for one in found if len(names) > 1 else ():
            others = [name for name in names if name != one.item["cluster"]]
            one.item["possibleIn"], one.text = others[:MOST_PLACES], b""
