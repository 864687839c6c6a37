"""Answers about a cluster as JSON texts: the graph in the vendor's shape, snapshots, lists.

Items are texts in the views already; an answer puts them together and decodes none, except when it
has to leave some out.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Set

import orjson

from services.topology.feed.deltas import (
    DRIFT_PART,
    EDGES,
    FINDINGS_PART,
    INFO_PART,
    NODES,
    Item,
    View,
    part_of,
)
from services.topology.feed.views import ClusterView, Views


def parts_of(view: View) -> dict[str, str]:
    """The parts that a client of one view gets: name in its events → part."""
    return {
        "nodes": part_of(view, NODES),
        "edges": part_of(view, EDGES),
        "findings": FINDINGS_PART,
        "drift": DRIFT_PART,
        "info": INFO_PART,
    }


def head(cluster: str, view: View, *, position: tuple[int, int]) -> bytes:
    """The fields that every event begins with, without braces."""
    return b'"cluster":%b,"graphType":"%b","epoch":%d,"number":%d' % (
        orjson.dumps(cluster),
        view.encode(),
        *position,
    )


def snapshot(view: ClusterView, graph_type: View, *, position: tuple[int, int]) -> bytes:
    """Everything of one view: nodes and edges as lists (each knows its id), the rest by id."""
    return _whole(head(view.cluster, graph_type, position=position), view, graph_type)


def past(view: ClusterView, graph_type: View, *, moment: str) -> bytes:
    """A snapshot of the past: the same shape, with its moment for the position."""
    head = b'"cluster":%b,"graphType":"%b","at":%b' % (
        orjson.dumps(view.cluster),
        graph_type.encode(),
        orjson.dumps(moment),
    )
    return _whole(head, view, graph_type)


def _whole(head: bytes, view: ClusterView, graph_type: View) -> bytes:
    parts = parts_of(graph_type)
    return b'{%b,"nodes":%b,"edges":%b,"findings":%b,"drift":%b,"info":%b}' % (
        head,
        _list(view.items(parts["nodes"]).values()),
        _list(view.items(parts["edges"]).values()),
        by_id(view.items(FINDINGS_PART)),
        by_id(view.items(DRIFT_PART)),
        by_id(view.items(INFO_PART)),
    )


def graph(
    view: ClusterView,
    graph_type: View,
    *,
    window_s: int,
    namespaces: Set[str] = frozenset(),
    now_s: float | None = None,
) -> bytes:
    """The vendor's shape; of some namespaces only, with the neighbours that lie outside of them."""
    parts = parts_of(graph_type)
    nodes: Iterable[bytes] = view.items(parts["nodes"]).values()
    edges: Iterable[bytes] = view.items(parts["edges"]).values()
    if namespaces:
        nodes, edges = _within(namespaces, nodes, edges)
    return b'{"timestamp":%d,"duration":%d,"graphType":"%b","elements":{"nodes":%b,"edges":%b}}' % (
        int(time.time() if now_s is None else now_s),
        window_s,
        graph_type.encode(),
        _list(b'{"data":%b}' % text for text in nodes),
        _list(b'{"data":%b}' % text for text in edges),
    )


def items(view: ClusterView, part: str) -> bytes:
    """One part as a list, with where it stands."""
    return b'{"cluster":%b,"epoch":%d,"number":%d,"items":%b}' % (
        orjson.dumps(view.cluster),
        view.epoch,
        view.number,
        _list(view.items(part).values()),
    )


def decoded(text: bytes) -> Item:
    """An item of a view as a value."""
    item: Item = orjson.loads(text)
    return item


def info(view: ClusterView) -> Item:
    """The item of the cluster itself."""
    found = next(view.decoded(INFO_PART), {})
    return {"cluster": view.cluster, **found}


def clusters(views: Views) -> bytes:
    """All clusters, by name."""
    found = [info(view) for view in views.clusters.values()]
    return orjson.dumps(sorted(found, key=lambda one: str(one.get("name") or one["cluster"])))


def _list(texts: Iterable[bytes]) -> bytes:
    return b"[%b]" % b",".join(texts)


def by_id(texts: Mapping[str, bytes]) -> bytes:
    """Items as a mapping."""
    return b"{%b}" % b",".join(b"%b:%b" % (orjson.dumps(key), texts[key]) for key in texts)


def _within(
    namespaces: Set[str], nodes: Iterable[bytes], edges: Iterable[bytes]
) -> tuple[list[bytes], list[bytes]]:
    by_id: dict[str, Item] = {node["id"]: node for node in map(orjson.loads, nodes)}
    inside = {ident for ident, node in by_id.items() if node.get("namespace") in namespaces}
    kept_edges, kept = [], set(inside)
    for text in edges:
        edge = orjson.loads(text)
        ends = {edge["source"], edge["target"]}
        if ends & inside:
            kept |= ends
            kept_edges.append(text)
    for ident in list(kept):
        kept |= _boxes_around(ident, by_id)
    chosen = []
    for ident, node in by_id.items():
        if ident in kept:
            is_outside = ident not in inside and not node.get("isBox")
            chosen.append(orjson.dumps({**node, "isOutside": True} if is_outside else node))
    return chosen, kept_edges


def _boxes_around(ident: str, by_id: Mapping[str, Item]) -> set[str]:
    """Ids of the boxes that a node lies in."""
    found: set[str] = set()
    while (parent := str(by_id.get(ident, {}).get("parent", ""))) in by_id and parent not in found:
        found.add(parent)
        ident = parent
    return found
