"""One view of the graph: its nodes, edges and boxes as published, and which of them are stale.

A box is around the nodes of an app; there is one while the app has more than one node.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeVar

import orjson
import structlog

from services.topology.feed.deltas import Item, View
from services.topology.graph.edges import IDLE, PROTOCOLS, ConfigEdges, EdgeMaker
from services.topology.graph.ids import BOX, SERVICE, EdgeKey, NodeKey, edge_id, node_id
from services.topology.graph.nodes import NodeMaker
from services.topology.graph.traffic import ViewTraffic


@dataclass(slots=True)
class Boxes:
    """Those of one view."""

    _members: dict[NodeKey, set[NodeKey]] = field(default_factory=dict)
    _box: dict[NodeKey, NodeKey] = field(default_factory=dict)

    def put(self, node: NodeKey, app: str) -> set[NodeKey]:
        """Sets the app of a node, "" takes it out; returns the nodes, boxes among them, that look
        different for it."""
        before = self._box.get(node)
        after = (BOX, node[1], node[2], app) if app else None
        if before == after:
            return set()
        changed = {node}
        if before is not None:
            members = self._members[before]
            members.discard(node)
            if len(members) == 1:
                changed |= {*members, before}
            if not members:
                del self._members[before]
            del self._box[node]
        if after is not None:
            members = self._members.setdefault(after, set())
            members.add(node)
            self._box[node] = after
            if len(members) == 2:
                changed |= {*members, after}
        return changed

    def parent(self, node: NodeKey) -> NodeKey | None:
        """The box that a node is shown in."""
        box = self._box.get(node)
        return box if box is not None and self.exists(box) else None

    def exists(self, box: NodeKey) -> bool:
        return len(self._members.get(box, ())) > 1


def box_data(box: NodeKey) -> dict[str, Any]:
    _, cluster, namespace, app = box
    return {
        "id": node_id(box),
        "nodeType": "box",
        "cluster": cluster,
        "namespace": namespace,
        "app": app,
        "healthData": None,
        "isBox": "app",
    }


log = structlog.get_logger(__name__)

K = TypeVar("K", NodeKey, EdgeKey)

_BOXED = (View.APP, View.VERSIONED_APP)


@dataclass(slots=True)
class ViewGraph:
    """One view."""

    view: View
    config_edges: ConfigEdges
    boxes: Boxes = field(default_factory=Boxes)
    nodes: dict[NodeKey, int] = field(default_factory=dict)
    """A hash of each item as it was published last."""
    edges: dict[EdgeKey, int] = field(default_factory=dict)
    stale_nodes: set[NodeKey] = field(default_factory=set)
    stale_edges: set[EdgeKey] = field(default_factory=set)

    def follow_traffic(self, in_view: ViewTraffic, touched: set[EdgeKey]) -> None:
        """From edges whose flows changed to all that shows it: their ends, the shares of the
        source's other edges, idle edges that come and go."""
        sources = set()
        for key in touched:
            sources.add(key[0])
            self.stale_nodes.update(key[:2])
            if key[0][0] == SERVICE:
                self.stale_edges.add((key[0], key[1], IDLE))
        self.stale_edges |= touched
        for source in sources:
            self.stale_edges |= in_view.outs.get(source, set())
        touched.clear()

    def node_changes(self, maker: NodeMaker) -> dict[str, Item | None]:
        view, stale = self.view, self.stale_nodes
        exists = {key: self._exists(maker, key) for key in stale}
        if view in _BOXED:
            for key, is_there in exists.items():
                stale |= self.boxes.put(key, maker.app(view, key) if is_there else "")
        changes: dict[str, Item | None] = {}
        for key in stale:
            item: Item | None = None
            if key[0] == BOX:
                item = box_data(key) if self.boxes.exists(key) else None
            elif exists.get(key, True):
                item = self._node(maker, key)
            if _is_news(self.nodes, key, item):
                changes[node_id(key) if item is None else item["id"]] = item
        stale.clear()
        return changes

    def _node(self, maker: NodeMaker, key: NodeKey) -> Item | None:
        try:
            return maker.data(self.view, key, self.boxes.parent(key))
        except Exception:
            # An object of an unforeseen form must not hide all others.
            log.exception("node_not_made", node=node_id(key), namespace=key[2])
            return None

    def _exists(self, maker: NodeMaker, key: NodeKey) -> bool:
        if maker.exists(self.view, key):
            return True
        return (
            self.view is View.SERVICE
            and key in self.config_edges.ends
            and bool(maker.workloads(self.view, key))
        )

    def edge_changes(self, maker: EdgeMaker) -> dict[str, Item | None]:
        changes: dict[str, Item | None] = {}
        for key in self.stale_edges:
            try:
                self._edge_change(maker, key, changes)
            except Exception:
                log.exception("edge_not_made", edge=edge_id(key))
        self.stale_edges.clear()
        return changes

    def _edge_change(self, maker: EdgeMaker, key: EdgeKey, changes: dict[str, Item | None]) -> None:
        known = self.edges
        if key[2] in PROTOCOLS:
            # The most by far, so no item is made before it is known to be news.
            traffic = maker.traffic(key)
            if traffic is None:
                if _is_news(known, key, None):
                    changes[edge_id(key)] = None
            elif _is_other(known, key, traffic.digest):
                item = traffic.data(key)
                changes[item["id"]] = item
            return
        found = maker.idle(key) if key[2] == IDLE else self.config_edges.data(key)
        if _is_news(known, key, found):
            changes[edge_id(key)] = found


def _is_news(known: dict[K, int], key: K, item: Item | None) -> bool:
    """Whether an item differs from the last published one; records it as published."""
    if item is None:
        return known.pop(key, None) is not None
    return _is_other(known, key, hash(orjson.dumps(item)))


def _is_other(known: dict[K, int], key: K, digest: int) -> bool:
    if known.get(key) == digest:
        return False
    known[key] = digest
    return True
