"""Which replicas live: by the seats that they hold, and by the clock of whoever stored them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

from services.chassis.bus.connection import Bus
from services.chassis.bus.leases import Fence, Holder, Leases
from services.chassis.bus.records import Bucket
from services.topology.adapters.replicas import Replica, Replicas
from tests.testbed.waiting import eventually

TTL = timedelta(seconds=1)


@asynccontextmanager
async def _watching(bus: Bus) -> AsyncIterator[Replicas]:
    """What a replica knows of the others; it has seat 0."""
    leases = Leases(Bucket(bus, "leases"), "watching", TTL / 6, beats=True)
    replicas = Replicas(bus=bus, leases=leases, ttl=TTL, most=5)
    running = asyncio.create_task(replicas.run())
    try:
        await eventually(lambda: replicas.is_read, what="the leases")
        yield replicas
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_a_seat_that_is_renewed_no_more_counts_no_more(own_bus: Bus) -> None:
    bucket = Bucket(own_bus, "leases")
    async with _watching(own_bus) as replicas:
        lost = Holder(operation="other", worker="other", attempt=1, room=5)
        await bucket.create("watch.replica.7", lost.model_dump_json().encode())
        await eventually(lambda: _seats(replicas, "other") == ["7"], what="the seat")
        # It goes on with another seat, and is heard all the time.
        other = Leases(bucket, "other", TTL / 6, beats=True)
        async with other.held(
            "watch.replica.8", operation="other", attempt=1, fence=Fence(TTL * 60), room=5
        ):
            await eventually(lambda: _seats(replicas, "other") == ["8"], what="one seat alone")


def _seats(replicas: Replicas, worker: str) -> list[str]:
    living: list[Replica] = replicas.living()
    return [replica.seat for replica in living if replica.worker == worker]
