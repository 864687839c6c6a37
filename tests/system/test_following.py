"""Translations that follow the cluster: SMI is level-triggered, so what comes later counts too."""

from __future__ import annotations

import asyncio
import secrets
import statistics
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from services.chassis.bus.connection import connect
from services.chassis.bus.records import Bucket
from services.chassis.kube.kubeconfigs import parse_kubeconfig
from services.chassis.messages.following import following_key
from tests.testbed import smi
from tests.testbed.bodies import config_map
from tests.testbed.clusters import Cluster
from tests.testbed.meshery import Meshery, Received
from tests.testbed.shops import (
    DENY,
    SHOP,
    done,
    istio_defined,
    manifest,
    policies,
    remove_denial,
    service,
    workload,
)
from tests.testbed.stack import Stack
from tests.testbed.waiting import eventually

_SERVICES = f"/api/v1/namespaces/{SHOP}/services"
_ROUTES = f"/apis/networking.istio.io/v1/namespaces/{SHOP}/virtualservices"
GOAL_S = 0.2
MEASURED = 20


@pytest.fixture(scope="module")
def defined(cluster: Cluster) -> Iterator[Cluster]:
    """The shared cluster with Istio's definitions."""
    with istio_defined(cluster):
        yield cluster


@pytest.fixture
async def following(stack: Stack, meshery: Meshery, defined: Cluster) -> AsyncIterator[Following]:
    """A split with a root of its own, and the cluster registered and watched."""
    found = Following(stack, meshery, defined, f"t{secrets.token_hex(4)}")
    await found.is_watched()
    yield found
    await found.removed()


@dataclass(slots=True)
class Following:
    """One split, the Services that it names, and what became of it."""

    stack: Stack
    meshery: Meshery
    cluster: Cluster
    name: str
    body: str = ""
    made: list[str] = field(default_factory=list)

    @property
    def token(self) -> str:
        return parse_kubeconfig(self.cluster.kubeconfig_text).cluster

    @property
    def source(self) -> str:
        return f"TrafficSplit.split.smi-spec.io {SHOP}/{self.name}"

    async def is_watched(self) -> None:
        await self.meshery.run("custom", body=config_map(self.name))
        await self.meshery.run("custom", body=config_map(self.name), delete=True)

        async def is_told() -> bool:
            answer = await asyncio.to_thread(
                self.stack.nats_cli, "req", "--raw", "mesh.topology.clusters", "{}"
            )
            return f'"{self.token}"' in answer and '"watching"' in answer

        await eventually(is_told, what="topology to watch the cluster", within_s=90.0)

    async def split(self, backends: dict[str, int], *, follow: str = "") -> str:
        """Applies the split; returns the operation's id."""
        obj = smi.split(
            SHOP, {f"{self.name}-{one}": w for one, w in backends.items()}, service=self.name
        )
        obj["metadata"]["name"] = self.name
        if follow:
            obj["metadata"]["annotations"] = {"meshbus.io/follow": follow}
        self.body = manifest(obj)
        operation = await self.meshery.apply("custom", body=self.body, namespace=SHOP)
        [final] = await self.meshery.finals(operation)
        assert not final.failed, final.event
        return operation

    def add(self, *suffixes: str) -> None:
        """Creates Services, side by side."""
        names = [f"{self.name}-{suffix}" if suffix else self.name for suffix in suffixes]
        self.made += names
        with ThreadPoolExecutor(16) as threads:
            bodies = [service(name, SHOP, 80) for name in names]
            list(threads.map(lambda b: self.cluster.api.request("POST", _SERVICES, b), bodies))

    def remove(self, suffix: str) -> None:
        self.made.remove(f"{self.name}-{suffix}")
        self.cluster.api.request("DELETE", f"{_SERVICES}/{self.name}-{suffix}")

    def shares(self) -> dict[str, int | None]:
        """Hosts of the split's first route, by their first label, with their weights; none while
        there is no route, since only the root is there."""
        routes = self.cluster.api.request("GET", _ROUTES)["items"]
        made = [one for one in routes if one["metadata"]["name"] == f"{self.name}-split"]
        if not made:
            return {}
        return {
            one["destination"]["host"].partition(".")[0].removeprefix(f"{self.name}-"): one.get(
                "weight"
            )
            for one in made[0]["spec"]["http"][0]["route"]
        }

    def events(self, operation: str) -> list[Received]:
        """Of the operations that followed one."""
        start = f"{operation}-follow-"
        return [r for r in self.meshery.events if r.event.operation_id.startswith(start)]

    def followings(self, operation: str) -> list[Received]:
        """The ends of the followings that were applied."""
        return [
            r for r in self.events(operation) if "translated again and deployed" in r.event.summary
        ]

    async def applied(self, operation: str, *, count: int = 1) -> list[Received]:
        await self.meshery.until(lambda: len(self.followings(operation)) >= count, within_s=90.0)
        return self.followings(operation)

    async def is_kept(self) -> bool:
        """Whether the source is followed."""
        async with self.bucket() as bucket:
            return await bucket.get(following_key(self.token, self.source)) is not None

    @asynccontextmanager
    async def bucket(self) -> AsyncIterator[Bucket]:
        bus = await connect(self.stack.settings("admin"), service="admin")
        try:
            yield Bucket(bus, "following")
        finally:
            await bus.close()

    async def removed(self) -> None:
        """Deletes the split and its Services."""
        if self.body:
            await done(self.meshery, self.body, namespace=SHOP, delete=True)
            assert not await self.is_kept()
        for name in self.made:
            self.cluster.api.request("DELETE", f"{_SERVICES}/{name}")


async def test_a_split_before_its_services_keeps_traffic_and_follows(following: Following) -> None:
    """Services that come, and one that goes again, change the shares; nobody applies it again."""
    operation = await following.split({"a": 3, "b": 1})
    assert following.shares() == {following.name: None}
    following.add("", "a", "b")
    await following.applied(operation)
    await eventually(lambda: following.shares() == {"a": 3, "b": 1}, what="the shares")
    why = [r.event.summary for r in following.events(operation) if "Followed:" in r.event.summary]
    assert f"Service {SHOP}/{following.name}-a appeared" in " ".join(why)
    following.remove("b")
    went = f"Service {SHOP}/{following.name}-b went"
    # Not a count of followings: Services that come apart may have brought several.
    await following.meshery.until(
        lambda: any(went in r.event.summary for r in following.followings(operation)),
        within_s=90.0,
    )
    assert following.shares() == {"a": None}


async def test_a_hundred_services_in_a_second_are_one_translation(following: Following) -> None:
    backends = {f"s{number}": 1 for number in range(100)}
    operation = await following.split(backends)
    began = time.monotonic()
    await asyncio.to_thread(following.add, "", *backends)
    took_s = time.monotonic() - began
    await eventually(lambda: len(following.shares()) == 100, what="a hundred shares")
    # A busy machine takes longer than a second to create them.
    assert len(await following.applied(operation)) <= 1 + int(took_s)


async def test_a_source_may_ask_only_to_be_told(following: Following) -> None:
    operation = await following.split({"a": 1, "b": 1}, follow="report")
    following.add("", "a", "b")
    await following.meshery.until(
        lambda: any(
            "would be translated anew" in r.event.summary for r in following.events(operation)
        )
    )
    assert following.shares() == {following.name: None}


async def test_what_is_ignored_or_deleted_is_not_kept(following: Following) -> None:
    await following.split({"a": 1})
    assert await following.is_kept()
    await following.split({"a": 1}, follow="ignore")
    assert not await following.is_kept()
    await following.split({"a": 1})
    assert await following.is_kept()


async def test_restarts_lose_no_following(following: Following) -> None:
    """Neither what came while topology was away, nor what waits for a translator."""
    operation = await following.split({"a": 3, "b": 1})
    following.add("")
    for name in ("topology", "translator"):
        following.stack.processes[name].stop()
    following.add("a", "b")
    following.stack.nats.kill()
    await asyncio.to_thread(following.stack.nats.start)
    for name in ("topology", "translator"):
        following.stack.add(name)
        await asyncio.to_thread(following.stack.wait_ready, name)
    await eventually(
        lambda: following.shares() == {"a": 3, "b": 1}, what="the shares", within_s=120.0
    )
    assert await following.applied(operation)


async def test_a_target_follows_its_workloads(
    stack: Stack, meshery: Meshery, defined: Cluster, following: Following
) -> None:
    name = following.name
    routes = smi.route_group(SHOP, name, {"name": "all", "pathRegex": "/status"})
    target = smi.target(SHOP, routes, source=(SHOP, "front"), destination=name)
    target["metadata"]["name"] = name
    body = manifest(routes, target)
    await done(meshery, body, namespace=SHOP)
    assert set(policies(defined, SHOP)) == {DENY}
    objects = workload(name, SHOP)
    with opened_quickly(defined, objects):
        await eventually(lambda: len(policies(defined, SHOP)) == 2, what="the policy", within_s=90)
        [made] = [one for key, one in policies(defined, SHOP).items() if key != DENY]
        assert made["spec"]["selector"] == {"matchLabels": {"app": name}}
        # Labels that another account's pods have as well open it to them: told, and not applied.
        thief = workload(f"{name}-thief", SHOP, labels={"app": name})
        with opened_quickly(defined, thief):
            await meshery.until(lambda: bool(failures(meshery, name)), within_s=90)
        [first, *_] = failures(meshery, name)
        assert "again (attempt 1 of 5)" in first.summary
        assert f"Deployment {SHOP}/{name}-thief too, which runs under" in first.details
        assert policies(defined, SHOP)[made["metadata"]["name"]]["spec"] == made["spec"]
    await done(meshery, body, namespace=SHOP, delete=True)
    remove_denial(defined, SHOP)


def failures(meshery: Meshery, name: str) -> list[Any]:
    """Events that tell why a target was not translated again."""
    start = f"Error while translating TrafficTarget.access.smi-spec.io {SHOP}/{name} again"
    return [r.event for r in meshery.events if r.event.summary.startswith(start)]


@contextmanager
def opened_quickly(cluster: Cluster, objects: list[dict[str, Any]]) -> Iterator[None]:
    text = manifest(*objects)
    cluster.kubectl("apply", "--server-side", "-f", "-", stdin=f"---\n{text}")
    try:
        yield
    finally:
        cluster.kubectl("delete", "--cascade=foreground", "-f", "-", stdin=f"---\n{text}")


async def test_how_long_a_following_takes(
    following: Following, record_property: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """From the Service's creation to the event that its translation is applied."""
    backends = {f"s{number}": 1 for number in range(MEASURED)}
    operation = await following.split(backends)
    following.add("")
    await following.applied(operation)
    took = []
    for count, suffix in enumerate(backends, start=2):
        began = time.monotonic()
        await asyncio.to_thread(following.add, suffix)
        ends = await following.applied(operation, count=count)
        took.append(ends[-1].at - began)
    median = statistics.median(took)
    record_property("following_s", took)
    with capsys.disabled():
        most = max(took) * 1000
        print(f"\nfollowing: p50 {median * 1000:.0f} ms, most {most:.0f} ms, n={len(took)}")
    # The goal is for an idle machine; here others may be at work.
    assert median < 10 * GOAL_S
