"""The topology's feed: fenced by the server, followed without loss, and kept as a past."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from services.chassis.bus.connection import Bus
from services.chassis.bus.leases import Fence
from services.chassis.errors import HistoryGone, LeaseLost
from services.topology.adapters import feeds
from services.topology.adapters.feeds import Feed
from services.topology.feed import deltas
from services.topology.feed.deltas import Delta, Parts, Topic
from services.topology.feed.views import ClusterView, Views
from tests.testbed.buses import NatsServer
from tests.testbed.waiting import eventually

NODES = "app.nodes"


async def _taken(bus: Bus, cluster: str, *, epoch: int = 1) -> Feed:
    fence = Fence(timedelta(hours=1))
    return await Feed.take(bus, Views(), cluster=cluster, epoch=epoch, fence=fence)


def _node(number: int, **fields: Any) -> dict[str, Any]:
    return {"id": f"n{number}", "app": f"app-{number}", **fields}


async def _begun(feed: Feed, parts: Parts) -> None:
    feed.fill(parts)
    await feed.begin()


async def _tell(feed: Feed, number: int, **fields: Any) -> None:
    await feed.publish(Topic.GRAPH, {NODES: {f"n{number}": _node(number, **fields)}})


@asynccontextmanager
async def _followed(bus: Bus, cluster: str) -> AsyncIterator[tuple[Views, list[Delta]]]:
    views = Views()
    heard: list[Delta] = []
    views.listen(heard.append)
    following = asyncio.create_task(feeds.follow(bus, views, cluster=cluster))
    try:
        yield views, heard
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)


def _same(views: Views, feed: Feed) -> bool:
    view = views.view(feed.view.cluster)
    return view is not None and (view.epoch, view.number, view.parts) == (
        feed.view.epoch,
        feed.view.number,
        feed.view.parts,
    )


async def test_a_replica_knows_what_the_owner_tells(bus: Bus, name: str) -> None:
    feed = await _taken(bus, name)
    await _begun(feed, {NODES: {"n1": _node(1)}})
    await _tell(feed, 2)
    async with _followed(bus, name) as (views, heard):
        await eventually(lambda: _same(views, feed), what="what was told before")
        await feed.publish(Topic.GRAPH, {NODES: {"n1": None}})
        await _tell(feed, 3)
        await eventually(lambda: _same(views, feed), what="what was told meanwhile")
    assert set(feed.view.items(NODES)) == {"n2", "n3"}
    numbers = [delta.number for delta in heard[1:]]
    assert numbers == [2, 3, 4]


async def test_a_checkpoint_is_no_news_to_those_who_follow(bus: Bus, name: str) -> None:
    feed = await _taken(bus, name)
    await _begun(feed, {NODES: {"n1": _node(1)}})
    async with _followed(bus, name) as (views, heard):
        await eventually(lambda: _same(views, feed), what="the beginning")
        await feed.checkpoint()
        await _tell(feed, 2)
        await eventually(lambda: _same(views, feed), what="the change after the checkpoint")
    assert [delta.number for delta in heard] == [1, 2]


async def test_the_server_refuses_an_owner_that_was_succeeded(bus: Bus, name: str) -> None:
    former = await _taken(bus, name, epoch=1)
    await _begun(former, {NODES: {"n1": _node(1)}})
    successor = await _taken(bus, name, epoch=2)
    await _begun(successor, {NODES: {"n2": _node(2)}})
    before = await feeds.last_sequence(bus, name)
    with pytest.raises(LeaseLost):
        await _tell(former, 3)
    assert await feeds.last_sequence(bus, name) == before
    async with _followed(bus, name) as (views, _):
        await eventually(lambda: _same(views, successor), what="the successor's word")


async def test_a_follower_takes_the_view_of_a_new_owner(bus: Bus, name: str) -> None:
    former = await _taken(bus, name, epoch=1)
    await _begun(former, {NODES: {"n1": _node(1)}})
    async with _followed(bus, name) as (views, heard):
        await eventually(lambda: _same(views, former), what="the first owner")
        successor = await _taken(bus, name, epoch=2)
        await _begun(successor, {NODES: {"n2": _node(2)}})
        await _tell(successor, 3)
        await eventually(lambda: _same(views, successor), what="the second owner")
    assert heard[-1].epoch == 2


async def test_a_fallen_fence_tells_nothing(bus: Bus, name: str) -> None:
    feed = await _taken(bus, name)
    await feed.begin()
    before = await feeds.last_sequence(bus, name)
    feed.fence.lose("another worker has it")
    with pytest.raises(LeaseLost):
        await _tell(feed, 1)
    assert await feeds.last_sequence(bus, name) == before


async def test_what_waits_beside_a_close_is_not_counted(bus: Bus, name: str) -> None:
    feed = await _taken(bus, name)
    await feed.begin()
    underway = asyncio.create_task(_tell(feed, 1))
    closing = asyncio.create_task(feed.close())
    waiting = [
        asyncio.create_task(work) for work in (_tell(feed, 2), feed.begin(), feed.checkpoint())
    ]
    await closing
    ends = await asyncio.gather(*waiting, return_exceptions=True)
    await underway
    assert [type(end) for end in ends] == [LeaseLost] * len(waiting)
    assert set(feed.view.items(NODES)) == {"n1"}
    async with _followed(bus, name) as (views, _):
        await eventually(lambda: _same(views, feed), what="as much as the former owner says")


async def test_large_states_come_in_pieces(bus: Bus, name: str) -> None:
    feed = await _taken(bus, name)
    many = {f"n{n}": _node(n, labels={"text": "x" * 400}) for n in range(4000)}
    await _begun(feed, {NODES: many})
    async with _followed(bus, name) as (views, _):
        await eventually(lambda: _same(views, feed), what="all pieces")


async def test_telling_goes_on_over_a_kill_of_the_server(
    own_server: NatsServer, own_bus: Bus, name: str
) -> None:
    feed = await _taken(own_bus, name)
    await feed.begin()
    async with _followed(own_bus, name) as (views, heard):
        await eventually(lambda: _same(views, feed), what="the beginning")
        telling = asyncio.create_task(_tell_all(feed, 200))
        await eventually(lambda: len(heard) > 20, what="some changes")
        await asyncio.to_thread(own_server.kill)
        await asyncio.to_thread(own_server.start)
        await telling
        await eventually(lambda: _same(views, feed), what="everything", within_s=60.0)
    # Each change once, and in order, although answers were lost.
    assert [delta.number for delta in heard[1:]] == list(range(2, 202))


async def _tell_all(feed: Feed, count: int) -> None:
    for number in range(count):
        await _tell(feed, number)


async def test_the_past_is_told(bus: Bus, name: str) -> None:
    feed = await _taken(bus, name)
    before = datetime.now(timezone.utc)
    await _begun(feed, {NODES: {"n1": _node(1)}})
    states: list[tuple[datetime, ClusterView]] = []
    for number in range(2, 8):
        await _tell(feed, number)
        if number == 4:
            await feed.checkpoint()
        parts = {part: dict(items) for part, items in feed.view.parts.items()}
        states.append((datetime.now(timezone.utc), ClusterView(name, parts=parts)))
    for moment, expected in states:
        found = await feeds.past_view(bus, cluster=name, moment=moment)
        assert found.parts == expected.parts
    moments = await feeds.change_times(bus, name)
    assert moments == sorted(moments)
    assert len(moments) >= 7
    with pytest.raises(HistoryGone):
        await feeds.past_view(bus, cluster=name, moment=before)


async def test_a_quiet_cluster_is_not_forgotten(own_bus: Bus, name: str) -> None:
    feed = await _taken(own_bus, name)
    await _begun(feed, {NODES: {"n1": _node(1)}})
    await feed.ensure_checkpoint()
    before = await feeds.last_sequence(own_bus, name)
    # What the stream does by age, and by size when other clusters have much to tell.
    await own_bus.client.jetstream().purge_stream(deltas.STREAM)
    await feed.ensure_checkpoint()
    await _tell(feed, 2)
    assert await feeds.last_sequence(own_bus, name) == before + 4, "one checkpoint, and no other"
    async with _followed(own_bus, name) as (views, _):
        await eventually(lambda: _same(views, feed), what="the view of a replica that starts")


async def test_an_old_checkpoint_is_renewed(
    bus: Bus, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    feed = await _taken(bus, name)
    await _begun(feed, {NODES: {"n1": _node(1)}})
    monkeypatch.setattr(feeds, "_CHECKPOINT_AGE_S", 0.0)
    await feed.ensure_checkpoint()
    assert len(await feeds.checkpoints(bus, name)) == 2
