"""Command queues, workers and hands for the tests of the bus."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from services.chassis.bus.connection import Bus
from services.chassis.bus.deadletters import DeadLetters
from services.chassis.bus.publishing import Published, Publisher
from services.chassis.bus.pulling import Burial, Delivery, PullWorker
from services.chassis.bus.streams import call_api

WITHIN = timedelta(seconds=20)
_STOP_WITHIN_S = 10.0

HOSTILE = (
    b"NATS/1.0\r\nStatus: 500\r\n\r\n",
    b"NATS/1.0\r\nStatus: 204\r\nNats-Num-Pending: 9\r\n\r\n",
    b"NATS/1.0 503 No Responders\r\n\r\n",
    b"NATS/1.0 404 \xff\r\n\r\n",
    b"NATS/1.0 \xff\xff\xff\r\n\r\n",
    b"NATS/1.0\r\nNats-Sequence: 999999\r\nNats-Subject: evt.lifecycle.c.o\r\n\r\n",
    b"NATS/1.0",
    b"XX",
)
"""Headers that pass for the server's word, or that cannot be read: NATS takes and gives any."""


@dataclass(frozen=True, slots=True)
class Queue:
    """The commands of one service: a corner of CMD with a durable consumer of its own."""

    bus: Bus
    service: str

    async def create(self, *, ack_wait: timedelta, max_deliver: int = 5) -> Queue:
        answer = await call_api(
            self.bus.client,
            f"CONSUMER.DURABLE.CREATE.CMD.{self.service}",
            {
                "stream_name": "CMD",
                "config": {
                    "durable_name": self.service,
                    "filter_subject": f"cmd.{self.service}.>",
                    "ack_policy": "explicit",
                    "ack_wait": int(ack_wait.total_seconds() * 1e9),
                    "max_deliver": max_deliver,
                },
            },
        )
        assert "error" not in answer, answer
        return self

    async def delete(self) -> None:
        await call_api(self.bus.client, f"CONSUMER.DELETE.CMD.{self.service}", {})

    def subject(self, cluster: str) -> str:
        return f"cmd.{self.service}.{cluster}.mesh"

    async def send(self, cluster: str, body: bytes = b"{}") -> Published:
        """Stores one command in the mesh slot of `cluster`."""
        return await Publisher(self.bus).raw(self.subject(cluster), body, {}, within=WITHIN)

    async def stored(self) -> int:
        """How many commands are neither ended nor deleted."""
        return sum((await self._subjects(f"cmd.{self.service}.>", "CMD")).values())

    async def buried(self) -> int:
        """How many of them are in DLQ."""
        return sum((await self._subjects(f"dlq.{self.service}", "DLQ")).values())

    async def consumer(self) -> dict[str, Any]:
        """The server's word on the consumer."""
        return await call_api(self.bus.client, f"CONSUMER.INFO.CMD.{self.service}", {})

    async def parked(self) -> int:
        """How many pulls wait at the server."""
        return int((await self.consumer())["num_waiting"])

    async def in_hand(self) -> int:
        """How many messages are delivered and not yet ended."""
        return int((await self.consumer())["num_ack_pending"])

    def worker(
        self,
        handler: Callable[[Delivery], Awaitable[None]],
        *,
        bus: Bus | None = None,
        slots: int = 1,
        waits_below: int = 0,
        bury: Burial | None = None,
    ) -> PullWorker:
        bus = bus or self.bus
        bury = bury or DeadLetters(Publisher(bus)).bury_delivery
        return PullWorker(
            bus, "CMD", self.service, handler, bury, slots=slots, waits_below=waits_below
        )

    async def _subjects(self, subject: str, stream: str) -> dict[str, int]:
        answer = await call_api(
            self.bus.client, f"STREAM.INFO.{stream}", {"subjects_filter": subject}
        )
        return (answer.get("state") or {}).get("subjects") or {}


async def publish_raw(
    bus: Bus, subject: str, headers: bytes, body: bytes = b"{}", *, reply: str = ""
) -> None:
    """Publishes headers byte by byte, as a client of somebody's own may."""
    address = f"{subject} {reply}" if reply else subject
    line = f"HPUB {address} {len(headers)} {len(headers) + len(body)}\r\n"
    await bus.client._send_command(line.encode() + headers + body + b"\r\n")
    await bus.client.flush()


@dataclass(slots=True)
class Hands:
    """A handler that shows what it got and then does `act`."""

    act: Callable[[Delivery], Awaitable[None]] | None = None
    taken: list[Delivery] = field(default_factory=list)
    _unseen: asyncio.Queue[Delivery] = field(default_factory=asyncio.Queue)

    async def __call__(self, delivery: Delivery) -> None:
        self.taken.append(delivery)
        self._unseen.put_nowait(delivery)
        if self.act is not None:
            await self.act(delivery)

    async def next(self, *, within_s: float = 60.0) -> Delivery:
        """The next delivery that nobody asked for yet."""
        async with asyncio.timeout(within_s):
            return await self._unseen.get()


@dataclass(slots=True)
class Gate:
    """What a handler does when it should go on only at the test's word."""

    opened: asyncio.Event = field(default_factory=asyncio.Event)
    inside: int = 0
    most: int = 0

    async def __call__(self, _: Delivery) -> None:
        self.inside += 1
        self.most = max(self.most, self.inside)
        try:
            await self.opened.wait()
        finally:
            self.inside -= 1


@asynccontextmanager
async def running(worker: PullWorker) -> AsyncIterator[asyncio.Task[None]]:
    """Runs `worker` for the block, then drains it; what hangs is cancelled, what failed raises."""
    task = asyncio.create_task(worker.run())
    try:
        yield task
    finally:
        worker.drain()
        _, hanging = await asyncio.wait({task}, timeout=_STOP_WITHIN_S)
        task.cancel()
        await asyncio.wait({task})
    if not hanging and not task.cancelled():
        task.result()
