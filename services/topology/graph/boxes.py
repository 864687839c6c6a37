"""Boxes around the nodes of an app; there is one while the app has more than one node."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from services.topology.graph.ids import BOX, NodeKey, node_id


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
