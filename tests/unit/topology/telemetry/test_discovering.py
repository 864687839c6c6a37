"""Which of several sources tells the traffic, and what becomes of those that do not."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from services.chassis.errors import TelemetryUnavailable
from services.chassis.prometheus import Metrics, MetricsError, Sample
from services.topology.telemetry import discovering
from services.topology.telemetry.discovering import Discovered, MetricsDenied
from services.topology.telemetry.envoy import EnvoyTelemetry, Readings
from services.topology.telemetry.places import Place, Places
from services.topology.telemetry.traffic import Flows
from tests.unit.topology.telemetry.told import AT, Told, request

FIRST, SECOND = Place("istio-system", "prometheus", 9090), Place("monitoring", "prometheus", 9090)
WINDOW_S = 60.0
TRAFFIC = {"requests": [request(2.0)], "known": [Sample({"__name__": "istio_requests_total"}, 1)]}


class NoProxies:
    """A mesh without pods, or one that cannot be read."""

    def __init__(self) -> None:
        self.missing: list[str] = []

    async def readings(self) -> Readings:
        return Readings([], self.missing)


class World:
    """The sources of one cluster, and a clock that the test moves."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.told = {SECOND: Told(), FIRST: Told()}
        self.places = Places((FIRST, SECOND))
        self.proxies = NoProxies()
        self.discovered = Discovered(
            places=lambda: self.places,
            reach=self._reach,
            otherwise=EnvoyTelemetry(self.proxies),
            clock=lambda: self.now_s,
        )

    def _reach(self, place: Place) -> Metrics:
        return self.told[replace(place, labels=())]

    async def flows(self) -> Flows:
        return await self.discovered.flows(at=AT, window_s=WINDOW_S)

    async def source(self) -> str:
        """After one more round."""
        await self.flows()
        return self.discovered.name

    def tried(self, place: Place) -> str:
        [told] = [text for text in self.discovered.tried if text.startswith(f"{place}: ")]
        return told.removeprefix(f"{place}: ")


@pytest.fixture
def world() -> World:
    world = World()
    for told in world.told.values():
        told.answers.update(TRAFFIC)
    return world


async def test_the_first_that_knows_the_mesh_is_asked(world: World) -> None:
    assert await world.source() == "Prometheus istio-system/prometheus (found)"
    assert world.tried(SECOND) == (
        "not asked, Prometheus istio-system/prometheus (found) comes first"
    )
    assert world.discovered.metrics is world.told[FIRST]
    # While none is in use, all are asked whether they know the mesh, and nothing else.
    assert len(world.told[SECOND].asked) == 1
    # One that is in use is not asked any more whether it knows the mesh.
    before = len(world.told[FIRST].asked)
    assert await world.flows() != {}
    assert len(world.told[FIRST].asked) - before == 9


async def test_one_that_knows_no_mesh_is_passed_over_until_it_does(world: World) -> None:
    del world.told[FIRST].answers["known"]
    assert await world.source() == str(SECOND)
    assert "no metric of the mesh" in world.tried(FIRST)
    world.told[FIRST].answers.update(TRAFFIC)
    assert await world.source() == str(FIRST)


async def test_without_any_the_proxies_are_asked(world: World) -> None:
    world.places = Places((), notes=("Service a/b: it has no port 1",))
    assert await world.source() == "Envoy"
    assert world.discovered.tried == ("Service a/b: it has no port 1",)
    assert world.discovered.metrics is None


async def test_a_source_that_is_gone_is_left_at_once(world: World) -> None:
    assert await world.source() == str(FIRST)
    world.places = Places((SECOND,))
    assert await world.source() == str(SECOND)
    world.places = Places(())
    assert await world.source() == "Envoy"
    world.places = Places((FIRST, SECOND))
    assert await world.source() == str(FIRST)


async def test_one_that_fails_is_kept_for_a_window_and_then_left(world: World) -> None:
    assert await world.source() == str(FIRST)
    world.told[FIRST].failing.update(requests="it is away", known="it is away")
    world.now_s += WINDOW_S
    with pytest.raises(TelemetryUnavailable):
        await world.flows()
    assert world.discovered.name == str(FIRST)
    world.now_s += 1
    assert await world.source() == str(SECOND)
    assert world.tried(FIRST) == "it is away"
    world.told[FIRST].failing.clear()
    assert await world.source() == str(FIRST)


async def test_one_that_has_never_answered_holds_up_nobody(world: World) -> None:
    world.told[FIRST].failing["known"] = "Prometheus did not answer within 10 s"
    assert await world.source() == str(SECOND)
    assert world.tried(FIRST) == "Prometheus did not answer within 10 s"


async def test_those_that_say_nothing_hold_up_a_round_together(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(discovering, "_KNOWS_WITHIN_S", 0.05)
    waiting = asyncio.Barrier(2)

    async def says_nothing(_text: str, **_: object) -> list[Sample]:
        await waiting.wait()
        await asyncio.Event().wait()
        return []

    for told in world.told.values():
        monkeypatch.setattr(told, "query", says_nothing)
    assert await world.source() == "Envoy"
    assert world.tried(FIRST) == world.tried(SECOND) == "Prometheus did not answer within 0.05 s"
    assert waiting.n_waiting == 0


async def test_one_that_lost_all_it_knew_is_left(world: World) -> None:
    assert await world.source() == str(FIRST)
    world.told[FIRST].answers.clear()
    assert await world.source() == str(SECOND)


async def test_a_mesh_without_traffic_is_no_reason_to_leave(world: World) -> None:
    assert await world.source() == str(FIRST)
    del world.told[FIRST].answers["requests"]
    assert await world.flows() == {}
    assert world.discovered.name == str(FIRST)


async def test_a_missing_right_is_told_and_seldom_tried_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    async def denied(text: str, **_: object) -> list[Sample]:
        asked.append(text)
        raise MetricsDenied("the account may not")

    monkeypatch.setattr(world.told[FIRST], "query", denied)
    monkeypatch.setattr(world.told[SECOND], "query", denied)
    for _ in range(3):
        assert await world.source() == "Envoy"
    assert world.tried(FIRST) == world.tried(SECOND) == "the account may not"
    assert len(asked) == 2
    monkeypatch.undo()
    world.now_s += 61
    assert await world.source() == str(FIRST)


async def test_what_nobody_tells_is_an_error_that_names_all(world: World) -> None:
    for told in world.told.values():
        told.failing["known"] = "it is away"
    world.proxies.missing = ["the proxy of shop/page does not answer in time"]
    with pytest.raises(TelemetryUnavailable):
        await world.flows()
    assert world.discovered.name == "Envoy"
    assert world.tried(FIRST) == world.tried(SECOND) == "it is away"


async def test_only_some_are_asked(world: World) -> None:
    many = [Place("a", f"p{number}", 1) for number in range(6)]
    for place in many:
        world.told[place] = Told()
        world.told[place].failing["known"] = "it is away"
    world.places = Places(tuple(many))
    assert await world.source() == "Envoy"
    assert [len(world.told[place].asked) for place in many] == [1, 1, 1, 1, 0, 0]
    assert world.tried(many[5]) == "not asked, 5 others come first"


async def test_labels_cut_every_query_down(world: World) -> None:
    world.places = Places((replace(FIRST, labels=(("cluster", "blue"),)),))
    await world.flows()
    asked = world.told[FIRST].asked
    assert len(asked) == 10
    assert all('cluster="blue"' in text for text in asked)
    metrics = world.discovered.metrics
    assert metrics is not None
    with pytest.raises(MetricsError, match="cut down"):
        await metrics.query("info(up)", at=AT)
