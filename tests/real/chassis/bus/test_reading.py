"""The ordered reader: every message once and in order, whatever becomes of the server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, field

import pytest

from services.chassis.bus.connection import Bus
from services.chassis.bus.reading import OrderedReader, StoredMessage
from services.chassis.bus.streams import call_api
from tests.real.chassis.bus.queues import HOSTILE, publish_raw
from tests.testbed.buses import NatsServer
from tests.testbed.waiting import eventually


@dataclass(slots=True)
class _Reading:
    """What a reader has brought so far."""

    messages: list[StoredMessage] = field(default_factory=list)

    @property
    def bodies(self) -> list[int]:
        return [int(message.body) for message in self.messages]

    async def reaches(self, count: int) -> None:
        await eventually(
            lambda: len(self.messages) >= count, what=f"message {count}", within_s=60.0
        )


@asynccontextmanager
async def _reading(bus: Bus, subject: str, *, start: int = 1) -> AsyncIterator[_Reading]:
    reading = _Reading()

    async def read() -> None:
        reader = OrderedReader(bus, "EVT", subject, start)
        async with aclosing(reader.messages()) as messages:
            async for message in messages:
                reading.messages.append(message)

    task = asyncio.create_task(read())
    try:
        yield reading
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _publish(bus: Bus, service: str, numbers: range) -> list[int]:
    """Stores the numbers as bodies, in order; returns their sequences."""
    context = bus.client.jetstream()
    acks = []
    for first in range(numbers.start, numbers.stop, 100):
        chunk = range(first, min(first + 100, numbers.stop))
        # One connection keeps the order of what is sent, however the answers come.
        acks += await asyncio.gather(
            *(context.publish(f"evt.perf.{service}.op", str(n).encode()) for n in chunk)
        )
    return [ack.seq for ack in acks]


async def test_two_thousand_messages_in_order(bus: Bus, name: str) -> None:
    before = await _publish(bus, name, range(1000))
    async with _reading(bus, f"evt.perf.{name}.>") as reading:
        await reading.reaches(1)
        after = await _publish(bus, name, range(1000, 2000))
        await reading.reaches(2000)

    assert reading.bodies == list(range(2000))
    assert [message.sequence for message in reading.messages] == before + after


async def test_many_messages_are_read_by_few_requests(bus: Bus, name: str) -> None:
    await _publish(bus, name, range(2000))
    sent = bus.client.stats["out_msgs"]
    async with _reading(bus, f"evt.perf.{name}.>") as reading:
        await reading.reaches(2000)

        assert bus.client.stats["out_msgs"] - sent <= 2000 / 256 + 3


async def test_a_message_of_any_size_is_read(bus: Bus, name: str) -> None:
    """More of them than fit into one answer."""
    bodies = [bytes([65 + n]) * 900_000 for n in range(12)]
    for body in bodies:
        await bus.client.jetstream().publish(f"evt.perf.{name}.op", body)
    async with _reading(bus, f"evt.perf.{name}.>") as reading:
        await reading.reaches(12)

    assert [message.body for message in reading.messages] == bodies


@pytest.mark.parametrize("headers", HOSTILE)
async def test_no_header_of_a_sender_stops_a_reader(bus: Bus, name: str, headers: bytes) -> None:
    """One that listens all the while, and one that finds the message there."""
    async with _reading(bus, f"evt.perf.{name}.>") as one:
        [first] = await _publish(bus, name, range(1))
        await publish_raw(bus, f"evt.perf.{name}.op", headers, b"1")
        await _publish(bus, name, range(2, 3))
        await one.reaches(3)
    async with _reading(bus, f"evt.perf.{name}.>") as other:
        await other.reaches(3)

    assert one.bodies == other.bodies == [0, 1, 2]
    assert [message.sequence for message in other.messages] == [first, first + 1, first + 2]
    assert {message.subject for message in other.messages} == {f"evt.perf.{name}.op"}


async def test_a_stream_that_tells_nothing_is_read_as_well(bus: Bus, name: str) -> None:
    reader = OrderedReader(bus, "DLQ", f"dlq.{name}", 1)
    async with aclosing(reader.messages()) as messages:
        for number in range(3):
            first = asyncio.ensure_future(anext(messages))
            await bus.client.jetstream().publish(f"dlq.{name}", str(number).encode())
            assert (await first).body == str(number).encode()


async def test_only_the_wanted_subject_is_read(bus: Bus, name: str) -> None:
    await _publish(bus, f"{name}-other", range(10))
    await _publish(bus, name, range(10))
    await _publish(bus, f"{name}-other", range(10, 20))
    await _publish(bus, name, range(10, 20))

    async with _reading(bus, f"evt.perf.{name}.>") as reading:
        await reading.reaches(20)

    assert reading.bodies == list(range(20))


async def test_reading_begins_at_the_wanted_sequence(bus: Bus, name: str) -> None:
    sequences = await _publish(bus, name, range(10))

    async with _reading(bus, f"evt.perf.{name}.>", start=sequences[7]) as reading:
        await reading.reaches(3)

    assert reading.bodies == [7, 8, 9]


async def test_reader_of_an_empty_subject_waits_for_the_first_message(bus: Bus, name: str) -> None:
    before = len(bus.client._subs)
    async with _reading(bus, f"evt.perf.{name}.>", start=0) as reading:
        await eventually(lambda: len(bus.client._subs) > before, what="the reader to be there")
        await _publish(bus, name, range(1))
        await reading.reaches(1)

    assert reading.bodies == [0]


async def test_two_readers_both_get_everything(bus: Bus, name: str) -> None:
    async with (
        _reading(bus, f"evt.perf.{name}.>") as one,
        _reading(bus, f"evt.perf.{name}.>") as two,
    ):
        await _publish(bus, name, range(100))
        await one.reaches(100)
        await two.reaches(100)

    assert one.bodies == two.bodies == list(range(100))


async def test_reading_goes_on_over_a_kill_of_the_server(
    own_bus: Bus, own_server: NatsServer, name: str
) -> None:
    await _publish(own_bus, name, range(1000))
    async with _reading(own_bus, f"evt.perf.{name}.>") as reading:
        await reading.reaches(10)

        own_server.kill()
        await asyncio.to_thread(own_server.start)
        await eventually(lambda: own_bus.is_connected, what="the bus to reconnect")
        await _publish(own_bus, name, range(1000, 2000))
        await reading.reaches(2000)

    assert reading.bodies == list(range(2000))


async def test_idle_reader_goes_on_over_a_kill_of_the_server(
    own_bus: Bus, own_server: NatsServer, name: str
) -> None:
    async with _reading(own_bus, f"evt.perf.{name}.>") as reading:
        await _publish(own_bus, name, range(1))
        await reading.reaches(1)

        own_server.kill()
        await asyncio.to_thread(own_server.start)
        await eventually(lambda: own_bus.is_connected, what="the bus to reconnect")
        await _publish(own_bus, name, range(1, 2))
        await reading.reaches(2)

    assert reading.bodies == [0, 1]


async def test_reader_that_left_leaves_no_subscription(bus: Bus, name: str) -> None:
    # The first request makes the client's one subscription for answers.
    await call_api(bus.client, "STREAM.NAMES", {})
    before = len(bus.client._subs)
    async with _reading(bus, f"evt.perf.{name}.>") as reading:
        await _publish(bus, name, range(1))
        await reading.reaches(1)
        assert len(bus.client._subs) > before

    assert len(bus.client._subs) == before
