"""Several clusters on several replicas: shared evenly, and moved without a gap in what is told.

One API server behind several addresses is several clusters: the same happens in all of them.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from services.topology.feed.deltas import INFO_PART, Delta, Stage, View, part_of
from tests.real.topology.conftest import QUICK
from tests.testbed.clusters import Cluster
from tests.testbed.proxies import FaultProxy
from tests.testbed.seeing import Follower, seeing
from tests.testbed.shops import service
from tests.testbed.stack import Stack
from tests.testbed.stored import cluster_owners, register_clusters, stored_feed
from tests.testbed.waiting import eventually

CLUSTERS = 6
SPACE = "default"
PART = part_of(View.SERVICE, "nodes")
WITHIN_S = 120.0


@pytest.fixture
def trio(built: None, tmp_path: Path) -> Iterator[Stack]:
    settings = {**QUICK, "MESHBUS_TOPOLOGY_PROXIES_EVERY": "1s"}
    with Stack(tmp_path / "stack", services=("topology",), settings=settings) as running:
        yield running


@pytest.fixture
async def tokens(trio: Stack, cluster: Cluster) -> AsyncIterator[list[str]]:
    """The clusters, registered as lifecycle does it."""
    with ExitStack() as opened:
        port = urlsplit(cluster.server_url).port or 0
        proxies = [opened.enter_context(FaultProxy(port)) for _ in range(CLUSTERS)]
        yield await register_clusters(
            trio, [cluster.kubeconfig_through(f"https://{proxy.address}") for proxy in proxies]
        )


async def test_moves_lose_no_change_and_tell_none_twice(
    trio: Stack, cluster: Cluster, tokens: list[str]
) -> None:
    async with AsyncExitStack() as opened:
        seen = await opened.enter_async_context(seeing(trio))
        for token in tokens:
            await seen.watched(token)
        followers = [
            await opened.enter_async_context(seen.following(token, view="service"))
            for token in tokens
        ]
        ticking = await opened.enter_async_context(_ticking(cluster))
        for name in ("topology-2", "topology-3"):
            trio.add("topology", name=name)
            await asyncio.to_thread(trio.wait_ready, name)
        await eventually(
            lambda: _is_shared(trio, tokens, (2, 2, 2)), what="thirds", within_s=WITHIN_S
        )
        # One that stops is left by its clusters before it ends.
        await asyncio.to_thread(trio.processes["topology-3"].stop)
        await eventually(lambda: _is_shared(trio, tokens, (3, 3)), what="halves", within_s=WITHIN_S)
        names = await ticking()
        for follower in followers:
            await follower.until(partial(_has, names=names))
            _assert_steady(follower)

        async def moves() -> int:
            feeds = [await stored_feed(trio, token) for token in tokens]
            return sum(len({delta.epoch for delta in told}) - 1 for told in feeds)

        async def all_have_begun() -> bool:
            return await moves() >= 6

        # Four to the two that came, perhaps over one of them, and the two of the one that went. Who
        # takes a cluster has its lease before he begins its feed.
        await eventually(all_have_begun, what="the feeds of all that moved", within_s=WITHIN_S)
        assert await moves() <= 9
        for token in tokens:
            _assert_complete(await stored_feed(trio, token), names)


async def test_a_killed_replica_is_succeeded_by_all_others(
    trio: Stack, cluster: Cluster, tokens: list[str]
) -> None:
    for name in ("topology-2", "topology-3"):
        trio.add("topology", name=name)
        await asyncio.to_thread(trio.wait_ready, name)
    await eventually(lambda: _is_shared(trio, tokens, (2, 2, 2)), what="thirds", within_s=WITHIN_S)
    before = await cluster_owners(trio, tokens)
    dead = "topology-2"
    async with seeing(trio) as seen:
        for verb in ("graph", "findings", "versions", "vet"):
            assert _asked(await seen.ask(verb)) == (set(tokens), set()), verb
        trio.processes[dead].kill()
        # Its clusters are named as long as nobody has them; what all replicas know is there.
        lost = {token for token in tokens if before[token] == dead}
        assert _asked(await seen.ask("versions")) == (set(tokens) - lost, lost)
        assert _asked(await seen.ask("findings")) == (set(tokens), set())
    await eventually(lambda: _is_shared(trio, tokens, (3, 3)), what="halves", within_s=WITHIN_S)
    after = await cluster_owners(trio, tokens)
    orphans = [token for token in tokens if before[token] == dead]
    assert len({after[token] for token in orphans}) == 2, "each of the others has one of them"
    async with seeing(trio) as seen, _ticking(cluster) as ticking:
        for token in orphans:
            await seen.watched(token)
            async with seen.following(token, view="service") as follower:
                names = await ticking()
                await follower.until(partial(_has, names=names))


def _asked(answer: dict[str, Any]) -> tuple[set[str], set[str]]:
    """Which clusters answered a question about all, and which did not."""
    told = ({one["cluster"] for one in answer[part]} for part in ("clusters", "missing"))
    return next(told), next(told)


@asynccontextmanager
async def _ticking(cluster: Cluster) -> AsyncIterator[Any]:
    """Services that come one after the other for the block; a function that tells which are there
    once one more is."""
    names: list[str] = []
    path = f"/api/v1/namespaces/{SPACE}/services"
    another = asyncio.Event()

    async def tick() -> None:
        for number in itertools.count():
            name = f"tick-{number}"
            await asyncio.to_thread(cluster.api.request, "POST", path, service(name, SPACE))
            names.append(name)
            another.set()
            # A pace, and nothing that is waited for: a few changes in each second of a move.
            await asyncio.sleep(0.25)

    async def told() -> set[str]:
        another.clear()
        await another.wait()
        return set(names)

    task = asyncio.create_task(tick())
    try:
        yield told
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        # The one whose answer was not awaited any more may be there as well.
        known = await asyncio.to_thread(cluster.api.request, "GET", path)
        for item in known["items"]:
            name = item["metadata"]["name"]
            if name.startswith("tick-"):
                await asyncio.to_thread(cluster.api.request, "DELETE", f"{path}/{name}")


def _has(follower: Follower, *, names: set[str]) -> bool:
    return names <= _services(follower)


def _services(follower: Follower) -> set[str]:
    return {str(node.get("service")) for node in follower.nodes.values()}


def _assert_steady(follower: Follower) -> None:
    """A browser has seen each Service come once, and the cluster watched all the time."""
    here: set[str] = set()
    for name, data in follower.events:
        if name == "snapshot":
            now = {str(node.get("service")) for node in data["nodes"]}
            assert here <= now, "what was there is there after a move"
            here = now
        elif name == "delta":
            for node in (data.get("nodes") or {}).values():
                assert node is not None, "nothing has gone"
                here.add(str(node.get("service")))
        if name in ("snapshot", "delta"):
            info = (data.get("info") or {}).get("cluster") or {"state": "watching"}
            assert info["state"] == "watching"


def _assert_complete(told: list[Delta], names: set[str]) -> None:
    """On the bus each Service comes once, in order, whoever tells it."""
    order = [(d.epoch, d.number) for d in told if d.stage is Stage.DELTA]
    assert order == sorted(set(order)), "nobody spoke out of turn"
    present: set[str] = set()
    rising: set[str] = set()
    came: Counter[str] = Counter()
    for delta in told:
        for info in delta.parts.get(INFO_PART, {}).values():
            assert info is not None
            assert info["state"] == "watching"
        nodes = delta.parts.get(PART, {})
        if delta.stage is Stage.BEGIN:
            rising = set()
        elif delta.stage is Stage.ITEMS:
            rising |= nodes.keys()
        elif delta.stage is Stage.END:
            assert present <= rising, "a successor knows all that was told"
            came.update(rising - present)
            present = rising
        else:
            assert all(item is not None for item in nodes.values()), "nothing has gone"
            came.update(nodes.keys() - present)
            present |= nodes.keys()
    assert set(came.values()) <= {1}
    last = {json.dumps(item) for delta in told for item in delta.parts.get(PART, {}).values()}
    assert all(any(f'"{name}"' in item for item in last) for name in names)


async def _is_shared(stack: Stack, tokens: list[str], loads: tuple[int, ...]) -> bool:
    owners = await cluster_owners(stack, tokens)
    return sorted(Counter(owners.values()).values()) == sorted(loads)
