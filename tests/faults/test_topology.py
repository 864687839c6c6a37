"""The topology service while what it stands on breaks: nothing is lost, nothing is told twice."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import pytest

from services.chassis.bus.leases import Holder
from services.chassis.bus.records import Bucket
from services.chassis.kube.kubeconfigs import parse_kubeconfig
from services.topology.feed.deltas import Delta, Stage
from services.topology.sharing import shared
from tests.testbed.bodies import config_map
from tests.testbed.clusters import Cluster
from tests.testbed.meshery import Meshery
from tests.testbed.proxies import FaultProxy
from tests.testbed.seeing import Follower, Seeing, seeing
from tests.testbed.shops import service
from tests.testbed.stack import Stack
from tests.testbed.stored import admin_bus, stored_feed
from tests.testbed.waiting import eventually

pytestmark = pytest.mark.services("lifecycle", "translator", "topology", "gateway")

SPACE = "default"
TAKEOVER_S = 60.0


@pytest.fixture
def proxy(cluster: Cluster) -> Iterator[FaultProxy]:
    """Between the service and the API server."""
    with FaultProxy(urlsplit(cluster.server_url).port or 0) as proxy:
        yield proxy


@pytest.fixture
async def watching(
    frail: Stack, cluster: Cluster, proxy: FaultProxy
) -> AsyncIterator[tuple[Seeing, str]]:
    """A topology service that watches the cluster through the proxy, and the cluster's token."""
    text = cluster.kubeconfig_through(f"https://{proxy.address}")
    token = parse_kubeconfig(text).cluster
    async with Meshery(frail.gateway_address, [text]).connected() as meshery:
        await meshery.run("custom", body=config_map("registered"))
        await meshery.run("custom", body=config_map("registered"), delete=True)
    async with seeing(frail) as seen:
        await seen.watched(token)
        yield seen, token


@asynccontextmanager
async def _ticking(cluster: Cluster, *names: str) -> AsyncIterator[None]:
    """Services that are there for the block."""
    for name in names:
        await _create(cluster, name)
    try:
        yield
    finally:
        for name in names:
            await _delete(cluster, name)


async def _create(cluster: Cluster, name: str) -> None:
    body = service(name, SPACE)
    path = f"/api/v1/namespaces/{SPACE}/services"
    await asyncio.to_thread(cluster.api.request, "POST", path, body)


async def _delete(cluster: Cluster, name: str) -> None:
    path = f"/api/v1/namespaces/{SPACE}/services/{name}"
    await asyncio.to_thread(cluster.api.request, "DELETE", path)


def _has(follower: Follower, name: str) -> bool:
    return bool(follower.named(service=name))


async def test_a_cluster_that_goes_away_comes_back(
    watching: tuple[Seeing, str], cluster: Cluster, proxy: FaultProxy
) -> None:
    seen, token = watching
    async with seen.following(token) as follower, _ticking(cluster, "stays"):
        await follower.until(lambda f: _has(f, "stays"))
        proxy.refuse()
        proxy.cut()
        told = await follower.until(lambda f: f.info.get("state") == "unreachable" and f.info)
        assert told["detail"]
        assert _has(follower, "stays"), "what was known is still shown"
        async with _ticking(cluster, "meanwhile"):
            proxy.heal()
            await follower.until(lambda f: _has(f, "meanwhile"))
            await follower.until(lambda f: f.info["state"] == "watching")
        await follower.until(lambda f: not _has(f, "meanwhile"))


async def test_a_watch_that_is_cut_again_and_again_loses_nothing(
    watching: tuple[Seeing, str], cluster: Cluster, proxy: FaultProxy
) -> None:
    seen, token = watching
    names = [f"cut-{number}" for number in range(12)]
    async with seen.following(token) as follower:
        for name in names:
            # In the middle of whatever a watch is just reading.
            creating = asyncio.create_task(_create(cluster, name))
            proxy.cut()
            await creating
        # A watch that a cut has left without an answer asks again after half a minute.
        await follower.until(lambda f: all(_has(f, name) for name in names), within_s=180.0)
        for name in names:
            await _delete(cluster, name)
        await follower.until(lambda f: not any(_has(f, name) for name in names))


async def test_the_api_server_restarts(watching: tuple[Seeing, str], cluster: Cluster) -> None:
    seen, token = watching
    async with seen.following(token) as follower:
        async with _ticking(cluster, "before"):
            await follower.until(lambda f: _has(f, "before"))
            await asyncio.to_thread(cluster.restart_apiserver)
            async with _ticking(cluster, "after"):
                await follower.until(lambda f: _has(f, "after") and _has(f, "before"))
        await follower.until(lambda f: not _has(f, "before") and not _has(f, "after"))
        await follower.until(lambda f: f.info["state"] == "watching")


async def test_a_killed_owner_is_succeeded(
    watching: tuple[Seeing, str], frail: Stack, cluster: Cluster
) -> None:
    _, token = watching
    owner, other = await _settled(frail, token)
    before = _epochs(await stored_feed(frail, token))
    async with seeing(frail, name=other) as second, second.following(token) as follower:
        await follower.until(lambda f: f.info)
        frail.processes[owner].kill()
        async with _ticking(cluster, "later"):
            # The lease has to expire first.
            await follower.until(lambda f: _has(f, "later"), within_s=TAKEOVER_S)
        await follower.until(lambda f: not _has(f, "later"))
    assert _epochs(await stored_feed(frail, token)) == before + 1


async def test_a_paused_owner_does_not_speak_again(
    watching: tuple[Seeing, str], frail: Stack, cluster: Cluster
) -> None:
    _, token = watching
    owner, other = await _settled(frail, token)
    before = _epochs(await stored_feed(frail, token))
    first = frail.processes[owner]
    async with seeing(frail, name=other) as second, second.following(token) as follower:
        await follower.until(lambda f: f.info)
        first.pause()
        async with _ticking(cluster, "paused"):
            await follower.until(lambda f: _has(f, "paused"), within_s=TAKEOVER_S)
            first.resume()
            async with _ticking(cluster, "resumed"):
                await follower.until(lambda f: _has(f, "resumed"))
                # The first one follows by now, as any replica does.
                async with seeing(frail, name=owner) as seen:
                    await eventually(
                        lambda: _shows(seen, token, "resumed"),
                        what="the resumed worker to follow",
                        within_s=TAKEOVER_S,
                    )
        await follower.until(lambda f: not _has(f, "resumed"))
    deltas = await stored_feed(frail, token)
    # It may have got its cluster back by now, as one that restarts does.
    assert _epochs(deltas) - before in (1, 2)
    numbers = [(d.epoch, d.number) for d in deltas if d.stage is Stage.DELTA]
    assert numbers == sorted(set(numbers)), "nobody spoke out of turn"


async def _settled(stack: Stack, token: str) -> tuple[str, str]:
    """The replica that owns the cluster, and the other, once there are two and none moves it."""
    stack.add("topology", name="topology-2")
    await asyncio.to_thread(stack.wait_ready, "topology-2")
    owner = ["topology", "topology-2"][int(shared([token], rooms={"0": 1, "1": 1})[token])]

    async def is_there() -> bool:
        async with admin_bus(stack) as bus:
            entry = await Bucket(bus, "leases").get(f"watch.{token}")
        return entry is not None and Holder.model_validate_json(entry.value).worker == owner

    await eventually(is_there, what=f"{owner} to own the cluster", within_s=TAKEOVER_S)
    return owner, "topology-2" if owner == "topology" else "topology"


async def _shows(seen: Seeing, token: str, name: str) -> bool:
    _, text = await seen.get(f"/api/graph?cluster={token}&graphType=service")
    nodes = json.loads(text)["elements"]["nodes"]
    return any(node["data"].get("service") == name for node in nodes)


def _epochs(deltas: list[Delta]) -> int:
    return len({delta.epoch for delta in deltas})


async def test_nats_restarts(watching: tuple[Seeing, str], frail: Stack, cluster: Cluster) -> None:
    seen, token = watching
    async with seen.following(token) as follower:
        await follower.until(lambda f: f.info)
        await asyncio.to_thread(frail.nats.kill)
        async with _ticking(cluster, "silent"):
            await asyncio.to_thread(frail.nats.start)
            await follower.until(lambda f: _has(f, "silent"))
        await follower.until(lambda f: not _has(f, "silent"))
