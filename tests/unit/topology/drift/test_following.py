"""When topology asks for a source to be translated again, and when it does not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timezone
from typing import Any

from structlog.testing import capture_logs

from services.chassis.errors import BusUnavailable
from services.chassis.messages import Fact, Followed, FollowMode, SignedGrant, WorkloadFact
from services.chassis.messages.following import (
    account_fact,
    mesh_fact,
    service_fact,
    versions_fact,
)
from services.chassis.telemetry.metrics import Metrics
from services.topology.cluster.objects import Config, Key, Namespace, Object, Pod, Service, Workload
from services.topology.cluster.objects import Port as PortOf
from services.topology.cluster.state import State
from services.topology.drift import following
from services.topology.drift.following import Followings

VIRTUAL_SERVICE = "networking.istio.io/VirtualService"
SOURCE = "TrafficSplit.split.smi-spec.io shop/canary"
HTTP = (PortOf(number=80, name="http"),)


def record(*facts: Fact, **fields: Any) -> Followed:
    known = {
        "source": SOURCE,
        "mode": FollowMode.APPLY,
        "facts": list(facts),
        "objects": [],
        "cluster": "c1",
        "operation": "op",
        "grant": SignedGrant(text="{}", signature=""),
        "command": "",
        "since": datetime.now(timezone.utc),
    }
    return Followed(**{**known, **fields})


def service(name: str) -> Service:
    return Service(key=Key("/Service", "shop", name), ports=HTTP)


def workload(name: str, account: str, **labels: str) -> Workload:
    key = Key("apps/Deployment", "shop", name)
    return Workload(key=key, account=account, pod_labels=labels, selector=labels)


def absent(*names: str) -> list[Fact]:
    return [service_fact("shop", name, None) for name in names]


class World:
    """A cluster's state, and what is asked of the translator."""

    def __init__(self, *facts: Fact) -> None:
        self.state = State("c1")
        self.asked: list[tuple[int, str, int]] = []
        """Revision, view and attempt."""
        self.served: dict[str, list[str]] = {VIRTUAL_SERVICE: ["v1"]}
        self.failures = 0
        self.record = record(*facts)
        self.news = asyncio.Event()
        self.followings = Followings(
            state=self.state, sources=self, metrics=Metrics(), settle_s=0.05, attempts=3
        )
        self.put(Namespace(key=Key("/Namespace", "", "shop")))

    async def versions(self, kind: str) -> Sequence[str]:
        return self.served.get(kind, [])

    async def follow(
        self, record: Followed, *, revision: int, view: str, attempt: int, attempts: int
    ) -> str:
        assert attempts == 3
        if self.failures:
            self.failures -= 1
            raise BusUnavailable("away")
        self.asked.append((revision, view, attempt))
        self.news.set()
        return "id"

    def put(self, *objects: Object) -> None:
        changes = [change for obj in objects if (change := self.state.put(obj)) is not None]
        self.followings.changed(changes)

    def drop(self, key: Key) -> None:
        change = self.state.drop(key)
        self.followings.changed([change] if change else [])

    async def until_asked(self, times: int) -> None:
        async with asyncio.timeout(20):
            while len(self.asked) < times:
                self.news.clear()
                await self.news.wait()

    async def is_idle(self) -> None:
        """Until all that was due has been looked at: a source that comes last is asked for last."""
        before = len(self.asked)
        last = record(service_fact("shop", "last", None), source=f"{SOURCE}-last")
        self.followings.kept(last, 99)
        self.put(service("last"))
        async with asyncio.timeout(20):
            while not any(revision == 99 for revision, _, _ in self.asked[before:]):
                self.news.clear()
                await self.news.wait()
        self.asked = [one for one in self.asked if one[0] != 99]
        self.followings.ended(f"{SOURCE}-last")
        self.drop(Key("/Service", "shop", "last"))


@asynccontextmanager
async def running(*facts: Fact) -> AsyncIterator[World]:
    world = World(*facts)
    task = asyncio.create_task(world.followings.run())
    world.followings.kept(world.record, 7)
    yield world
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_burst_of_services_is_asked_for_once() -> None:
    names = [f"web-{number}" for number in range(100)]
    async with running(*absent(*names)) as world:
        for name in names:
            world.put(service(name))
            await asyncio.sleep(0)
        await world.until_asked(1)
        await world.is_idle()
        assert [(revision, attempt) for revision, _, attempt in world.asked] == [(7, 1)]


async def test_only_what_the_translation_used_counts() -> None:
    async with running(*absent("web")) as world:
        world.put(service("another"), workload("web", "web", app="web"))
        await world.is_idle()
        assert world.asked == []


async def test_what_changed_before_the_record_came_counts_too() -> None:
    """The Service came between the translation and its record, or while no topology ran."""
    world = World(*absent("web"))
    world.put(service("web"))
    task = asyncio.create_task(world.followings.run())
    world.followings.kept(world.record, 7)
    await world.until_asked(1)
    task.cancel()


async def test_one_request_at_a_time_and_the_next_by_the_renewed_record() -> None:
    async with running(*absent("a", "b")) as world:
        world.put(service("a"))
        await world.until_asked(1)
        world.put(service("b"))
        await world.is_idle()
        assert len(world.asked) == 1
        facts = [service_fact("shop", "a", following._service(service("a")))]
        world.followings.kept(record(*facts, *absent("b")), 8)
        await world.until_asked(2)
        assert world.asked[1][0] == 8


async def test_what_is_read_otherwise_from_here_is_not_followed_for_ever() -> None:
    async with running(*absent("a")) as world:
        world.put(service("a"))
        await world.until_asked(1)
        world.followings.kept(world.record, 8)
        await world.is_idle()
        world.put(service("unrelated"))
        await world.is_idle()
        assert len(world.asked) == 1


async def test_what_came_went_and_came_again_is_followed() -> None:
    async with running(*absent("a")) as world:
        world.put(service("a"))
        await world.until_asked(1)
        world.drop(Key("/Service", "shop", "a"))
        world.followings.kept(world.record, 8)
        await world.is_idle()
        world.put(service("a"))
        await world.until_asked(2)


async def test_a_failure_is_tried_again_and_given_up(monkeypatch: Any) -> None:
    monkeypatch.setattr(following, "_FIRST_BACKOFF_S", 0.01)
    with capture_logs() as logs:
        async with running(*absent("a", "b")) as world:
            world.failures = 1
            monkeypatch.setattr(following, "_AGAIN_S", 0.01)
            world.put(service("a"))
            await world.until_asked(3)
            await world.is_idle()
            async with asyncio.timeout(20):
                while not any(line["event"] == "following_given_up" for line in logs):
                    await asyncio.sleep(0)
            assert [attempt for _, _, attempt in world.asked] == [1, 2, 3]
            # Something else changes: it is tried again.
            world.put(service("b"))
            await world.until_asked(4)
            assert world.asked[3][2] == 1
            assert world.asked[3][1] != world.asked[0][1]


async def test_a_namespace_that_goes_is_left_alone() -> None:
    async with running(*absent("a")) as world:
        world.put(Namespace(key=Key("/Namespace", "", "shop"), is_terminating=True))
        world.put(service("a"))
        world.put(service("a2"))
        await asyncio.sleep(0.2)
        assert world.asked == []


async def test_versions_that_go_wait_until_they_are_back() -> None:
    facts = versions_fact(VIRTUAL_SERVICE, {VIRTUAL_SERVICE: ["v1"]})
    async with running(facts) as world:
        world.served = {}
        world.followings.redefined()
        await world.is_idle()
        assert world.asked == []
        world.served = {VIRTUAL_SERVICE: ["v2", "v1"]}
        world.followings.redefined()
        await world.until_asked(1)


async def test_workloads_count_by_their_account_and_labels() -> None:
    known = WorkloadFact(
        namespace="shop", kind="Deployment", name="api", service_account="api", labels={"app": "a"}
    )
    pod = Pod(
        key=Key("/Pod", "shop", "api-1"),
        account="api",
        labels={"app": "a", "pod-template-hash": "1"},
        pod_labels={"app": "a", "pod-template-hash": "1"},
        owner=Key("apps/Deployment", "shop", "api"),
    )
    async with running(account_fact("shop", "api", [known])) as world:
        world.put(workload("api", "api", app="a"))
        world.put(pod)
        world.put(workload("other", "other", app="b"))
        await world.is_idle()
        assert world.asked == []
        # Pods of another account that the same labels select.
        world.put(workload("thief", "thief", app="a"))
        await world.until_asked(1)


async def test_settings_of_the_mesh_count() -> None:
    facts = mesh_fact(root_namespace="istio-system", trust_domain="cluster.local")
    async with running(facts) as world:
        key = Key("/ConfigMap", "istio-system", "istio")
        world.put(Config(key=key, spec={"mesh": {"trustDomain": "cluster.local"}}))
        await world.is_idle()
        assert world.asked == []
        world.put(Config(key=key, spec={"mesh": {"trustDomain": "corp"}}))
        await world.until_asked(1)


async def test_a_change_that_all_depend_on_is_followed_some_at_a_time() -> None:
    """And each in its turn: an answer, or an end, makes room for the next."""
    facts = [mesh_fact(root_namespace="istio-system", trust_domain="another")]
    async with running(*facts) as world:
        for number in range(1, 40):
            world.followings.kept(record(*facts, source=f"{SOURCE}-{number}"), 100 + number)
        await world.until_asked(following._MOST_UNDER_WAY)
        answered = 0
        while len(world.asked) < 40:
            before = len(world.asked)
            assert before - answered <= following._MOST_UNDER_WAY
            revision = world.asked[answered][0]
            answered += 1
            number = revision - 100
            world.followings.ended(SOURCE if revision == 7 else f"{SOURCE}-{number}")
            await world.until_asked(min(40, following._MOST_UNDER_WAY + answered))
        assert sorted(revision for revision, _, _ in world.asked) == [7, *range(101, 140)]
