"""Answers of the service API that come from the views."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import orjson

from services.chassis.policy import OPEN
from services.topology.feed.deltas import EDGES, NODES, View, part_of
from services.topology.feed.views import ClusterView, Views
from services.topology.handlers import Handlers


def _handlers() -> Handlers:
    async def ask(_cluster: str, _verb: str, _asked: dict[str, Any]) -> Any:
        raise AssertionError("the views have it all")

    async def past(_cluster: str, _moment: datetime) -> ClusterView:
        raise AssertionError("only of now")

    async def moments(_cluster: str) -> list[datetime]:
        return []

    return Handlers(
        views=Views(), ask=ask, past=past, moments=moments, policy=lambda: OPEN, window_s=90
    )


async def test_a_graph_of_some_namespaces_has_its_edges_to_others() -> None:
    handlers, view = _handlers(), ClusterView("c1")
    for name, space in (("a", "shop"), ("b", "bank"), ("c", "bank")):
        view.put(part_of(View.APP, NODES), name, {"id": name, "namespace": space})
    for source, target in (("a", "b"), ("b", "c")):
        edge = {"id": source + target, "source": source, "target": target}
        view.put(part_of(View.APP, EDGES), edge["id"], edge)
    handlers.views.replace(view)
    asked = {"graphType": "app", "namespaces": ["shop"]}
    answer = orjson.loads(orjson.dumps(await handlers.graph(asked)))
    assert answer["duration"] == 90
    nodes = {node["data"]["id"]: node["data"] for node in answer["elements"]["nodes"]}
    assert sorted(nodes) == ["a", "b"]
    assert nodes["b"]["isOutside"]
    assert [edge["data"]["id"] for edge in answer["elements"]["edges"]] == ["ab"]
