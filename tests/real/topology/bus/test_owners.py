"""Who watches which cluster: nothing but its end may end the tending of one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import orjson
import pytest
from structlog.testing import capture_logs

from services.chassis.bus import records
from services.chassis.bus.connection import Bus
from services.chassis.bus.leases import Holder, Leases
from services.chassis.bus.records import Bucket, Records
from services.chassis.errors import ClusterUnreachable
from services.chassis.messages import ClusterRecord
from services.chassis.telemetry.metrics import Metrics
from services.topology.adapters import owners
from services.topology.adapters.feeds import Feed
from services.topology.adapters.forwarding import Forwarding
from services.topology.adapters.owners import Owners
from services.topology.adapters.replicas import Replicas
from services.topology.feed.deltas import INFO_PART, NODES, Delta
from services.topology.feed.views import Views
from services.topology.handlers import OwnerHandlers
from services.topology.observing import INFO_ID
from tests.testbed.buses import NatsServer
from tests.testbed.waiting import eventually

TTL = timedelta(seconds=1)


@dataclass(slots=True)
class Watcher:
    """One replica; `deed` is what becomes of its watching, by the number of the try."""

    bus: Bus
    name: str
    most: int = 100
    within: timedelta = timedelta(seconds=10)
    calm: timedelta = timedelta(0)
    leave_within: timedelta = timedelta(0)
    deed: Callable[[Feed, int], Awaitable[None]] | None = None
    tries: int = 0
    most_at_once: int = 0
    watched: set[str] = field(default_factory=set)
    begun: set[str] = field(default_factory=set)
    views: Views = field(default_factory=Views)

    async def observe(self, record: ClusterRecord, feed: Feed) -> None:
        self.watched.add(record.cluster)
        self.most_at_once = max(self.most_at_once, len(self.watched))
        try:
            self.tries += 1
            if self.deed is not None:
                await self.deed(feed, self.tries)
            if feed.is_beside:
                feed.fill({NODES: {"n": {"by": self.name}}})
                await feed.take_over()
            await feed.begin()
            self.begun.add(record.cluster)
            await asyncio.Event().wait()
        finally:
            self.watched.discard(record.cluster)

    async def fingerprint(self, cluster: str) -> str:
        return "same"

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Owners]:
        leases = Leases(Bucket(self.bus, "leases", self.within), self.name, TTL / 6, beats=True)
        handlers = OwnerHandlers()
        forwarding = Forwarding(bus=self.bus, handlers=handlers)
        made = Owners(
            bus=self.bus,
            views=self.views,
            leases=leases,
            replicas=Replicas(bus=self.bus, leases=leases, ttl=TTL, most=self.most),
            clusters=Records(Bucket(self.bus, "clusters"), ClusterRecord),
            observe=self.observe,
            fingerprint=self.fingerprint,
            ask=forwarding.ask,
            handing_over=handlers.handing_over,
            calm=self.calm,
            leave_within=self.leave_within,
            # The bed is slow at times, and no test here is about a fence.
            allowance=TTL * 10,
            most=self.most,
            metrics=Metrics(),
        )
        async with forwarding.answering():
            task = asyncio.create_task(made.run())
            try:
                yield made
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for pause in ("_AFTER_FAILURE_S", "_AFTER_DEFECT_S", "_LOOK_AGAIN_S"):
        monkeypatch.setattr(owners, pause, 0.05)


async def _registered(bus: Bus, *clusters: str) -> None:
    known = Records(Bucket(bus, "clusters"), ClusterRecord)
    for cluster in clusters:
        await known.put(cluster, ClusterRecord(cluster=cluster, name=cluster, server="https://x"))


async def test_no_more_clusters_are_watched_than_allowed(own_bus: Bus) -> None:
    await _registered(own_bus, "c1", "c2", "c3", "c4")
    first, second = Watcher(own_bus, "w1", most=2), Watcher(own_bus, "w2", most=2)
    async with first.running(), second.running():
        await eventually(lambda: len(first.watched | second.watched) == 4, what="all clusters")
    assert (first.most_at_once, second.most_at_once) == (2, 2)


async def test_every_replica_knows_the_labels_of_a_registration(own_bus: Bus) -> None:
    """Of a cluster that nobody watches as well, and as they are now."""
    await _registered(own_bus, "c1")
    watcher, other = Watcher(own_bus, "w1", most=0), Watcher(own_bus, "w2", most=0)
    known = Records(Bucket(own_bus, "clusters"), ClusterRecord)
    async with watcher.running(), other.running():
        for labels in ({"region": "eu"}, {"region": "us", "tier": "edge"}):
            record = ClusterRecord(cluster="c1", name="c1", server="https://x", labels=labels)
            await known.put("c1", record)
            for asked in (watcher, other):
                await eventually(
                    lambda asked=asked, labels=labels: asked.views.labels_of("c1") == labels,
                    what="the labels",
                )
        await known.bucket.delete("c1")
        await eventually(lambda: not watcher.views.labels_of("c1"), what="them to be forgotten")


async def test_clusters_that_were_never_reached_keep_no_other_out(own_bus: Bus) -> None:
    """Whoever registers what nobody reaches must not fill the places of those that are there."""

    async def deed(feed: Feed, number: int) -> None:
        if feed.view.cluster.startswith("gone"):
            raise ClusterUnreachable("cannot be reached")

    gone = [f"gone{number}" for number in range(3)]
    watcher = Watcher(own_bus, "w1", most=2, deed=deed)
    await _registered(own_bus, *gone)
    async with watcher.running():
        # All three have had their turns: whichever were tried first stay, and give way at once.
        await eventually(lambda: watcher.tries > 6, what="several tries of each")
        await _registered(own_bus, "c1", "c2")
        await eventually(lambda: {"c1", "c2"} <= watcher.begun, what="both that are there")
    assert watcher.most_at_once <= 3


async def test_a_cluster_that_finds_no_place_is_told_and_watched_later(own_bus: Bus) -> None:
    await _registered(own_bus, "c1")
    watcher, other = Watcher(own_bus, "w1", most=1), Watcher(own_bus, "w2", most=0)
    with capture_logs() as logs:
        async with watcher.running() as made, other.running():
            await eventually(lambda: watcher.begun, what="the first cluster")
            await _registered(own_bus, "c2")
            # By every replica, whoever is asked.
            for asked in (watcher, other):
                await eventually(
                    lambda asked=asked: _info(asked, "c2").get("state") == "unwatched",
                    what="the cluster to be told",
                )
            assert "MESHBUS_TOPOLOGY_MOST_CLUSTERS" in _info(other, "c2")["detail"]
            await eventually(
                lambda: b"meshbus_topology_clusters_unwatched 1.0" in made.metrics.exposition(),
                what="the metric",
            )
            await Bucket(own_bus, "clusters").delete("c1")
            await eventually(lambda: "c2" in watcher.begun, what="the second cluster")
            assert b"meshbus_topology_clusters_unwatched 0.0" in made.metrics.exposition()
    assert "cluster_left_unwatched" in [entry["event"] for entry in logs]


async def test_a_waiting_replica_outlives_an_outage(
    own_server: NatsServer, own_bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "_TRY_TIMEOUT_S", 0.1)
    await _registered(own_bus, "c1")
    held = b'{"operation":"other","worker":"other","attempt":1}'
    await Bucket(own_bus, "leases").put("watch.c1", held)
    watcher = Watcher(own_bus, "w1", within=timedelta(seconds=0.1))
    with capture_logs() as logs:
        async with watcher.running() as made:
            await eventually(lambda: "c1" in made._tasks, what="the cluster to be tended")
            await asyncio.to_thread(own_server.kill)
            await eventually(
                lambda: any(entry["event"] == "cluster_not_watched" for entry in logs),
                what="an outage that outlasts the patience",
            )
            await asyncio.to_thread(own_server.start)
            await eventually(lambda: watcher.watched, what="the lease to be taken", within_s=60.0)


async def test_a_defect_in_the_watching_is_told_and_gone_over(own_bus: Bus) -> None:
    await _registered(own_bus, "c1")
    states: list[str] = []

    async def deed(feed: Feed, number: int) -> None:
        if number == 1:
            feed.fill({NODES: {"left": {"id": "left"}}})
            raise KeyError("an object of a form that nobody foresaw")
        states.append(_info(watcher)["state"])

    watcher = Watcher(own_bus, "w1", deed=deed)
    async with watcher.running():
        await eventually(lambda: watcher.tries == 2 and watcher.watched, what="another try")
        assert states == ["unreachable"]
        await eventually(
            lambda: not watcher.views.clusters["c1"].parts, what="nothing of the first try"
        )


async def test_the_same_failure_is_told_again_after_a_success(own_bus: Bus) -> None:
    await _registered(own_bus, "c1")

    async def deed(feed: Feed, number: int) -> None:
        if number == 2:
            await feed.begin()
        if number <= 3:
            raise ClusterUnreachable("cannot be reached")
        states.append(_info(watcher).get("state", ""))

    states: list[str] = []
    watcher = Watcher(own_bus, "w1", deed=deed)
    async with watcher.running():
        await eventually(lambda: states, what="the fourth try")
    assert states == ["unreachable"]


async def test_clusters_are_shared_evenly_and_follow_the_replicas(own_bus: Bus) -> None:
    names = [f"c{number}" for number in range(9)]
    await _registered(own_bus, *names)
    told: list[Delta] = []
    one, two, three = (
        Watcher(own_bus, f"w{number}", leave_within=timedelta(seconds=30)) for number in range(3)
    )
    one.views.listen(told.append)
    async with one.running():
        await eventually(lambda: len(one.begun) == 9, what="all of one")
        async with two.running():
            await eventually(lambda: _loads(one, two) == [4, 5], what="two halves")
            with capture_logs() as logs:
                async with three.running():
                    await eventually(lambda: _loads(one, two, three) == [3, 3, 3], what="thirds")
            assert _handed_over(logs) >= 6, "three came, and were fetched before the end"
            await eventually(lambda: _loads(one, two) == [4, 5], what="two halves again")
        await eventually(lambda: _loads(one) == [9], what="all of one again")
    for name in names:
        epochs = [delta.epoch for delta in told if delta.cluster == name]
        assert epochs == sorted(epochs), "nobody spoke after a successor"
        assert len(epochs) == len(set(epochs)), "one checkpoint of each owner"


async def test_a_cluster_that_is_not_reached_from_here_stays_where_it_is(own_bus: Bus) -> None:
    async def deed(feed: Feed, number: int) -> None:
        tried.append(feed.view.cluster)
        raise ClusterUnreachable("cannot be reached from here")

    tried: list[str] = []
    await _registered(own_bus, "c1", "c2")
    one, two = Watcher(own_bus, "w1"), Watcher(own_bus, "w2", deed=deed)
    async with one.running():
        await eventually(lambda: len(one.begun) == 2, what="both")
        async with two.running():
            await eventually(lambda: tried, what="a try to fetch one")
            assert len(one.watched) == 2
            assert not _info(two, "c1")
            assert not _info(two, "c2")


async def test_a_replica_that_dies_is_succeeded_by_all_others(own_bus: Bus) -> None:
    names = [f"c{number}" for number in range(6)]
    dead = Holder(operation="w9", worker="w9", attempt=1, room=100)
    leases = Bucket(own_bus, "leases")
    await leases.put("watch.replica.7", dead.model_dump_json().encode())
    for name in names:
        await leases.put(f"watch.{name}", dead.model_dump_json().encode())
    await _registered(own_bus, *names)
    one, two = Watcher(own_bus, "w1"), Watcher(own_bus, "w2")
    async with one.running(), two.running():
        await eventually(lambda: _loads(one, two) == [3, 3], what="halves")


def _handed_over(logs: list[MutableMapping[str, Any]]) -> int:
    return sum(entry["event"] == "cluster_handed_over" for entry in logs)


def _loads(*watchers: Watcher) -> list[int]:
    return sorted(len(watcher.watched & watcher.begun) for watcher in watchers)


async def test_a_record_that_cannot_be_read_hides_no_other(own_bus: Bus) -> None:
    await Bucket(own_bus, "clusters").put("odd", b'{"schema_version": 9}')
    await _registered(own_bus, "c1")
    watcher = Watcher(own_bus, "w1")
    async with watcher.running():
        await eventually(lambda: watcher.watched == {"c1"}, what="the other cluster")


def _info(watcher: Watcher, cluster: str = "c1") -> dict[str, str]:
    view = watcher.views.view(cluster)
    text = view.items(INFO_PART).get(INFO_ID, b"{}") if view else b"{}"
    found: dict[str, str] = orjson.loads(text)
    return found
