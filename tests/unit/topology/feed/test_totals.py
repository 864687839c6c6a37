"""The figures of the fleet: kept up with every change, as if they were counted anew."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest

from services.topology.feed import totals
from services.topology.feed.deltas import Delta, View, part_of
from services.topology.feed.totals import Fleet, Totals
from services.topology.feed.views import ClusterView, Views
from tests.real.topology.samples import Shop, drift, edge, finding, info, node, parts

NOW = 1_000_000.0


class Watched:
    """A fleet of one cluster, as its feed fills it."""

    def __init__(self) -> None:
        self.views = Views()
        self.now = NOW
        self.fleet = Fleet(views=self.views, clock=lambda: self.now)
        self.fleet.start()
        self.view = ClusterView("c1", epoch=1)

    def begin(self, found: dict[str, dict[str, Any]]) -> None:
        self.view = ClusterView("c1", epoch=self.view.epoch + 1)
        for part, items in found.items():
            for ident, item in items.items():
                self.view.put(part, ident, item)
        self.views.replace(self.view)

    def change(self, found: dict[str, dict[str, Any]]) -> None:
        delta = Delta(cluster="c1", epoch=self.view.epoch, number=self.view.number + 1, parts=found)
        self.view.apply(delta)
        self.views.notify(delta)

    def told(self) -> dict[str, Any]:
        [cluster] = read(self.fleet.whole())
        assert cluster.pop("samples") is not None
        anew = Totals.of(self.view).told(NOW)
        assert cluster == orjson.loads(orjson.dumps(anew)), "the sums have gone astray"
        return cluster


def read(frame: bytes) -> list[dict[str, Any]]:
    name, data = frame.decode().strip().split("\n")
    assert name == "event: fleet"
    clusters: list[dict[str, Any]] = orjson.loads(data.removeprefix("data: "))["clusters"]
    return clusters


async def test_sums_follow_every_change() -> None:
    watched = Watched()
    watched.begin(Shop.parts())
    told = watched.told()
    assert (told["workloads"], told["inMesh"], told["services"]) == (5, 5, 1)
    assert (told["rate"], told["errors"]) == (12.5, 4.0)
    assert told["mtls"] == pytest.approx(97.8, abs=0.05)
    assert (told["findings"], told["drift"]) == ({"error": 1}, {"changed": 1})
    assert told["health"] == {"Healthy": 1, "Degraded": 1}
    busy = node("pay", "money", traffic=[{"protocol": "grpc", "rates": {"grpcIn": "7.5"}}])
    outside = node("legacy", isOutOfMesh=True)
    clear = {**Shop.into_pay, "traffic": {"protocol": "http", "rates": {"http": "53.7"}}}
    more = [finding("x", code="KIA1101", level="warning"), finding("y")]
    watched.change(parts([busy, outside], [clear], findings=more, drifts=[drift("b")]))
    told = watched.told()
    assert (told["workloads"], told["inMesh"], told["rate"], told["errors"]) == (6, 5, 20.0, 2.5)
    assert told["mtls"] == pytest.approx(49.4, abs=0.1)
    assert told["findings"] == {"error": 2, "warning": 1}
    gone: dict[str, dict[str, Any]] = {
        part_of(View.VERSIONED_APP, "nodes"): {busy["id"]: None, outside["id"]: None},
        part_of(View.VERSIONED_APP, "edges"): {one["id"]: None for one in Shop.edges},
        "findings": dict.fromkeys(["IST0101/cart", "KIA1101/x", "IST0101/y"]),
    }
    watched.change(gone)
    told = watched.told()
    assert (told["workloads"], told["mtls"], told["findings"]) == (4, None, {})
    watched.begin(parts([node("alone")], about=info(name="anew")))
    assert (watched.told()["workloads"], watched.told()["name"]) == (1, "anew")


async def test_what_is_no_number_counts_nothing() -> None:
    watched = Watched()
    odd = node("odd", traffic=[{"protocol": "http", "rates": {"httpIn": "many"}}, {}])
    watched.begin(parts([odd], [edge(Shop.web, Shop.cart, traffic=[{"protocol": "http"}])]))
    assert (watched.told()["rate"], watched.told()["mtls"]) == (0.0, None)


async def test_followers_get_what_changed_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(totals, "_EVERY_S", 0.01)
    watched = Watched()
    watched.begin(Shop.parts())
    bell = asyncio.Event()
    watched.fleet.listen(bell)
    for count in range(20):
        watched.change(parts([], about=info(nodes=count)))
    await asyncio.wait_for(bell.wait(), 30)
    bell.clear()
    [told] = read(watched.fleet.take(bell))
    assert told["cluster"] == "c1"
    assert watched.fleet.take(bell) == b""
    watched.change({"app.nodes": {"x": {"id": "x"}}})
    assert watched.fleet._timer is None, "a part that is not counted wakes nobody"
    watched.views.forget("c1")
    await asyncio.wait_for(bell.wait(), 30)
    assert read(watched.fleet.take(bell)) == [{"cluster": "c1", "gone": True}]
    watched.fleet.leave(bell)
    watched.fleet.close()
