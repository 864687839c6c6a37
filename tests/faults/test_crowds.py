"""Clients in crowds: the gateway's memory has an end, and nobody waits for the crowd.

Slow clients, and peers that vanished without a word, are in `tests/real/gateway/test_events.py`;
idle connections in `test_strangers.py` there.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

from tests.real.gateway.rig import Rig, heard, opened, rigged
from tests.real.gateway.test_serving import rss_kb
from tests.testbed.waiting import eventually

STREAMS = 10_000
AT_ONCE = 500
GROWTH_LIMIT_KB = 300 * 1024
"""Thirty kilobytes for each stream: what gRPC itself holds is a good part of it."""
CONNECTIONS = 300
LONGEST_CALL_S = 5.0


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with rigged(tmp_path) as rig:
        yield rig


@pytest.mark.full
@pytest.mark.timeout(900)
async def test_ten_thousand_streams_leave_room_for_others(rig: Rig) -> None:
    before = rss_kb(rig.gateway_pid)
    async with rig.client("F") as crowd, rig.client("F") as other:
        streams = []
        for _ in range(STREAMS // AT_ONCE):
            streams += await asyncio.gather(*(opened(crowd) for _ in range(AT_ONCE)))
        grown = rss_kb(rig.gateway_pid) - before
        assert grown < GROWTH_LIMIT_KB, f"{grown} kB"
        began = time.monotonic()
        await other.call("MeshName")
        assert time.monotonic() - began < LONGEST_CALL_S
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await anext(other.stream("StreamEvents"))
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        await rig.tell("crowd", 1)
        for stream in streams[:: STREAMS // 100]:
            [event] = await heard(stream, 1)
            assert event.summary == "step 1"
    await eventually(
        lambda: rig.metric("meshbus_event_streams") == 0, what="the streams to be closed"
    )


async def test_hundreds_of_connections_at_once_are_all_served(rig: Rig) -> None:
    clients = [rig.client("F") for _ in range(CONNECTIONS)]
    try:
        names = await asyncio.gather(*(client.call("MeshName") for client in clients))
        assert len(names) == CONNECTIONS
        streams = await asyncio.gather(*(opened(client) for client in clients))
        await rig.tell("burst", 1)
        for events in await asyncio.gather(*(heard(stream, 1) for stream in streams)):
            assert [event.summary for event in events] == ["step 1"]
    finally:
        await asyncio.gather(*(client.close() for client in clients))
