"""Events of a worker: one, and as many as NATS stores, from a process of their own.

Who counts them at the other end then has a processor to itself.
"""

from __future__ import annotations

import asyncio
import multiprocessing
from collections.abc import Sequence
from multiprocessing.connection import Connection

from services.chassis.bus.connection import connect
from services.chassis.bus.publishing import Publisher
from services.chassis.messages import Event, Phase
from services.chassis.settings import ChassisSettings


def event(operation: str, number: int) -> Event:
    """As lifecycle would tell it."""
    return Event(
        operation=operation,
        kind="bench",
        service="lifecycle",
        cluster="bench",
        sequence=number + 1,
        phase=Phase.NOTE,
        summary="an event of the benchmark",
    )


class Burst:
    """`count` events, one of each operation at a time; a process that waits for `begin`."""

    def __init__(self, settings: ChassisSettings, operations: Sequence[str], count: int) -> None:
        # A fork would have this one's loop and its connections.
        context = multiprocessing.get_context("spawn")
        self._here, there = context.Pipe()
        self._process = context.Process(
            target=_publish, args=(settings, operations, count, there), daemon=True
        )

    async def ready(self) -> None:
        """Until it is connected."""
        self._process.start()
        await asyncio.to_thread(self._here.recv)

    def begin(self) -> None:
        self._here.send(None)

    async def end(self) -> None:
        """Until all are stored; raises `RuntimeError` where that failed."""
        await asyncio.to_thread(self._process.join)
        if self._process.exitcode:
            raise RuntimeError(f"the publisher ended with {self._process.exitcode}")


def _publish(
    settings: ChassisSettings, operations: Sequence[str], count: int, control: Connection
) -> None:
    asyncio.run(_burst(settings, operations, count, control))


async def _burst(
    settings: ChassisSettings, operations: Sequence[str], count: int, control: Connection
) -> None:
    bus = await connect(settings, service="lifecycle")
    try:
        publisher = Publisher(bus)
        control.send(None)
        await asyncio.to_thread(control.recv)
        for first in range(0, count, len(operations)):
            some = operations[: count - first]
            await asyncio.gather(*(publisher.event(event(one, first)) for one in some))
    finally:
        await bus.close()
