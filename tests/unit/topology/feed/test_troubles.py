"""Findings and drift of all clusters, as a browser that lists them gets them."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson

from services.topology.feed.deltas import Delta, Parts
from services.topology.feed.troubles import Troubles
from services.topology.feed.views import ClusterView, Views
from tests.real.topology.samples import drift, finding, node, parts


def told(frames: bytes) -> list[dict[str, Any]]:
    found = []
    for frame in filter(None, frames.decode().split("\n\n")):
        name, data = frame.split("\n")
        assert name == "event: troubles"
        found.append(orjson.loads(data.removeprefix("data: ")))
    return found


async def test_all_of_it_once_and_then_what_changes() -> None:
    views = Views()
    troubles = Troubles(views=views)
    troubles.start()
    view = ClusterView("c1", epoch=1)
    for part, items in parts([node("web")], findings=[finding()], drifts=[drift()]).items():
        for ident, item in items.items():
            view.put(part, ident, item)
    views.replace(view)
    [whole] = told(troubles.whole())
    [cluster] = whole["clusters"]
    assert (whole["whole"], cluster["cluster"], cluster["whole"]) == (True, "c1", True)
    assert list(cluster["findings"]) == ["IST0101/cart"]
    assert list(cluster["drift"]) == [drift()["id"]]

    listener = troubles.topic.listen(asyncio.Event())
    changes: tuple[Parts, ...] = (
        parts([node("pay")]),
        {"findings": {"IST0101/cart": None, "X/y": finding("y", code="X")}},
        {"drift": {drift()["id"]: None}},
    )
    for number, changed in enumerate(changes, start=1):
        delta = Delta(cluster="c1", epoch=1, number=number, parts=changed)
        view.apply(delta)
        views.notify(delta)
    views.forget("c1")
    frames = [one["clusters"] for one in told(troubles.topic.take(listener))]
    assert [sorted(cluster) for [cluster] in frames] == [
        ["cluster", "findings"],
        ["cluster", "drift"],
        ["cluster", "gone"],
    ]
    assert frames[0][0]["findings"]["IST0101/cart"] is None
    assert told(troubles.whole()) == [{"whole": True, "clusters": []}]
    troubles.close()
