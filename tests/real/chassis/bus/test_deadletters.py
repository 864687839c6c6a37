"""The mover: a command that no worker could end goes to DLQ once and leaves its slot."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import timedelta

import pytest

from services.chassis.bus import envelopes, subjects
from services.chassis.bus.connection import Bus
from services.chassis.bus.deadletters import ORIGIN, REASON, DeadLetter, DeadLetters, Mover
from services.chassis.bus.publishing import Publisher
from services.chassis.bus.pulling import Abandon, Delivery, PullWorker, Retry
from services.chassis.bus.streams import call_api
from services.chassis.errors import AttemptsExhausted, MeshbusError, RetryRefused
from tests.real.chassis.bus.queues import WITHIN, Hands, Queue, publish_raw, running
from tests.testbed.waiting import eventually

_AT_ONCE = timedelta(milliseconds=10)


@dataclass(slots=True)
class _Exhausted:
    """Remembers the letters of exhausted commands; fails the first `failing` times."""

    failing: int = 0
    letters: list[tuple[DeadLetter, MeshbusError]] = field(default_factory=list)

    async def __call__(self, letter: DeadLetter, error: AttemptsExhausted) -> None:
        self.letters.append((letter, error))
        if len(self.letters) <= self.failing:
            raise Retry(_AT_ONCE)


@pytest.fixture
async def queue(own_bus: Bus, name: str) -> Queue:
    """Two attempts only, and an ack wait that a dead worker does not hold up long."""
    return await Queue(own_bus, service=name).create(
        ack_wait=timedelta(milliseconds=300), max_deliver=2
    )


@pytest.fixture
async def exhausted(queue: Queue) -> AsyncIterator[_Exhausted]:
    """The mover's, while the mover runs."""
    exhausted = _Exhausted()
    async with running(_mover(queue, exhausted)):
        yield exhausted


def _mover(queue: Queue, exhausted: _Exhausted) -> PullWorker:
    letters = DeadLetters(Publisher(queue.bus))
    return PullWorker(
        queue.bus,
        "ADV",
        "dlq-mover",
        Mover(letters, exhausted).handle,
        letters.bury_delivery,
        slots=1,
    )


async def _is_empty(queue: Queue) -> bool:
    return await queue.stored() == 0


async def _fail(_: Delivery) -> None:
    raise Retry(_AT_ONCE)


async def _die(_: Delivery) -> None:
    """What the server sees of a worker that is killed: nothing."""
    raise Abandon


async def test_command_that_always_fails_is_moved_once(queue: Queue, exhausted: _Exhausted) -> None:
    hands = Hands(_fail)
    headers = {envelopes.MESSAGE_ID: "op-1.c1", envelopes.OPERATION: "op-1"}
    async with running(queue.worker(hands)):
        sent = await Publisher(queue.bus).raw(
            queue.subject("c1"), b"\x81\xa4kind\xa1x", headers, within=WITHIN
        )
        await eventually(lambda: _is_empty(queue), what="the command to be moved")

    assert [delivery.attempt for delivery in hands.taken] == [1, 2]
    assert await queue.buried() == 1
    stored = await queue.bus.client.jetstream().get_last_msg(
        "DLQ", subjects.dead_letter(queue.service)
    )
    assert stored.data == b"\x81\xa4kind\xa1x"
    assert (stored.headers or {})[ORIGIN] == f"{queue.subject('c1')} {sent.sequence}"
    assert (stored.headers or {})[REASON] == "MB-2009 2 attempts at the command failed"
    assert (stored.headers or {})[envelopes.OPERATION] == "op-1"
    [(letter, error)] = exhausted.letters
    assert (letter.subject, letter.body) == (queue.subject("c1"), b"\x81\xa4kind\xa1x")
    assert letter.headers[envelopes.OPERATION] == "op-1"
    assert isinstance(error, AttemptsExhausted)


async def test_command_that_kills_its_workers_is_moved_once(
    queue: Queue, exhausted: _Exhausted
) -> None:
    async with running(queue.worker(Hands(_die))):
        await queue.send("c1")
        await eventually(lambda: _is_empty(queue), what="the command to be moved")

    assert await queue.buried() == 1
    assert len(exhausted.letters) == 1


async def test_command_with_unreadable_headers_is_moved(
    queue: Queue, exhausted: _Exhausted
) -> None:
    headers = b"NATS/1.0\r\nContent-Encoding: \xff\r\nX: a\r\n Meshbus-Origin: b\r\n\r\n"
    async with running(queue.worker(Hands(_fail))):
        await publish_raw(queue.bus, queue.subject("c1"), headers)
        await eventually(lambda: exhausted.letters, what="the command to be moved")
        await eventually(lambda: _is_empty(queue), what="its slot to be free")

    assert await queue.buried() == 1
    assert len(exhausted.letters) == 1


async def test_a_letter_counts_for_the_service_whose_name_it_is_under(queue: Queue) -> None:
    """Each may bury under its own name, and say there of what it likes where it came from."""
    letters = DeadLetters(Publisher(queue.bus))
    origin = {ORIGIN: "cmd.lifecycle.c1.apply.op-1 1"}
    forged = await queue.bus.client.jetstream().publish("dlq.perf", b"{}", headers=origin)
    own = await queue.bus.client.jetstream().publish("dlq.lifecycle", b"{}", headers=origin)

    with pytest.raises(RetryRefused, match="none of lifecycle's"):
        await letters.kept(forged.seq, service="lifecycle")

    letter = await letters.kept(own.seq, service="lifecycle")
    assert letter.subject == "cmd.lifecycle.c1.apply.op-1"


async def test_slot_takes_the_next_command(queue: Queue, exhausted: _Exhausted) -> None:
    async def act(delivery: Delivery) -> None:
        if delivery.message.data == b"bad":
            raise Retry(_AT_ONCE)

    hands = Hands(act)
    async with running(queue.worker(hands)):
        await queue.send("c1", b"bad")
        await eventually(lambda: _is_empty(queue), what="the bad command to be moved")
        await queue.send("c1", b"good")
        await eventually(lambda: _is_empty(queue), what="the good command to be ended")

    assert [d.message.data for d in hands.taken] == [b"bad", b"bad", b"good"]
    assert await queue.buried() == 1


async def test_mover_that_came_later_finds_what_was_given_up(queue: Queue) -> None:
    hands = Hands(_fail)
    async with running(queue.worker(hands)):
        await queue.send("c1")
        await hands.next()
        await hands.next()
        await eventually(lambda: _advisories(queue), what="the server to give up")

    exhausted = _Exhausted()
    async with running(_mover(queue, exhausted)):
        await eventually(lambda: _is_empty(queue), what="the command to be moved")

    assert await queue.buried() == 1
    assert len(exhausted.letters) == 1


async def _advisories(queue: Queue) -> int:
    answer = await call_api(queue.bus.client, "STREAM.INFO.ADV", {})
    return int(answer["state"]["messages"])


async def test_letter_is_buried_once_when_its_operation_cannot_be_failed_at_first(
    queue: Queue,
) -> None:
    exhausted = _Exhausted(failing=2)
    async with running(_mover(queue, exhausted)), running(queue.worker(Hands(_fail))):
        await queue.send("c1")
        await eventually(lambda: _is_empty(queue), what="the command to be moved")

    assert len(exhausted.letters) == 3
    assert await queue.buried() == 1


async def test_command_that_was_deleted_in_between_is_not_failed(queue: Queue) -> None:
    hands = Hands(_fail)
    async with running(queue.worker(hands)):
        sent = await queue.send("c1")
        await eventually(lambda: _advisories(queue), what="the server to give up")
    await queue.bus.client.jetstream().delete_msg("CMD", sent.sequence)

    exhausted = _Exhausted()
    async with running(_mover(queue, exhausted)):
        await eventually(lambda: _all_advisories_are_handled(queue), what="the mover to be done")

    assert not exhausted.letters
    assert await queue.buried() == 0


async def _all_advisories_are_handled(queue: Queue) -> bool:
    answer = await call_api(queue.bus.client, "CONSUMER.INFO.ADV.dlq-mover", {})
    return not answer["num_pending"] and not answer["num_ack_pending"]


async def test_secrets_in_readable_bodies_are_masked(queue: Queue) -> None:
    letters = DeadLetters(Publisher(queue.bus))
    letter = DeadLetter(queue.subject("c1"), {}, b"bearer hunter2-hunter2")

    await letters.bury(letter, stream_sequence=1, code="MB-2003", reason="not a Command")

    stored = await queue.bus.client.jetstream().get_last_msg(
        "DLQ", subjects.dead_letter(queue.service)
    )
    assert b"hunter2" not in (stored.data or b"")
