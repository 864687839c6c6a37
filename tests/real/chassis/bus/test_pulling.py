"""Pull workers: what a handler says comes true at the server, and no message is ever forgotten."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from services.chassis.bus import subjects
from services.chassis.bus.connection import Bus
from services.chassis.bus.deadletters import ORIGIN, REASON, DeadLetters
from services.chassis.bus.publishing import Publisher
from services.chassis.bus.pulling import Abandon, Delivery, Retry
from services.chassis.errors import BusUnavailable, InvalidMessage
from tests.real.chassis.bus.queues import HOSTILE, Gate, Hands, Queue, publish_raw, running
from tests.testbed.buses import NatsServer, connected
from tests.testbed.proxies import FaultProxy
from tests.testbed.waiting import eventually


async def _is_empty(queue: Queue) -> bool:
    return await queue.stored() == 0


def _failing_first(error: Exception) -> Hands:
    async def act(delivery: Delivery) -> None:
        if delivery.attempt == 1:
            raise error

    return Hands(act)


async def test_return_of_the_handler_ends_the_message(queue: Queue) -> None:
    hands = Hands()
    async with running(queue.worker(hands)):
        await queue.send("c1", b"hello")

        delivery = await hands.next()

        assert delivery.message.data == b"hello"
        assert delivery.message.subject == queue.subject("c1")
        assert delivery.attempt == 1
        await eventually(lambda: _is_empty(queue), what="the message to be ended")
    assert len(hands.taken) == 1


async def test_waiting_messages_come_in_order(queue: Queue) -> None:
    clusters = [f"c{number}" for number in range(50)]
    for cluster in clusters:
        await queue.send(cluster)
    hands = Hands()

    async with running(queue.worker(hands)):
        await eventually(lambda: _is_empty(queue), what="all messages to be ended")

    assert [d.message.subject for d in hands.taken] == [queue.subject(c) for c in clusters]


async def test_a_worker_with_full_hands_takes_ahead_what_nobody_waits_for(queue: Queue) -> None:
    gate = Gate()
    hands = Hands(gate)
    async with running(queue.worker(hands, slots=10, waits_below=2)):
        for number in range(12):
            await queue.send(f"c{number}")
        for _ in range(10):
            await hands.next()
        assert gate.inside == 10
        assert await queue.parked() == 0
        gate.opened.set()
        await eventually(lambda: _is_empty(queue), what="all messages to be ended")
    assert len(hands.taken) == 12


async def test_a_worker_with_full_hands_leaves_new_messages_to_one_that_waits(
    queue: Queue,
) -> None:
    """Else what comes would wait behind a cluster that hangs, beside a worker that has time."""
    full, idle = Hands(Gate()), Hands()
    async with running(queue.worker(full, slots=100, waits_below=2)):
        for number in range(2):
            await queue.send(f"held{number}")
            await full.next()
        async with running(queue.worker(idle)):
            await eventually(queue.parked, what="the other worker to wait")
            for number in range(20):
                await queue.send(f"c{number}")
                await idle.next()
                await eventually(queue.parked, what="the other worker to wait again")
        assert len(full.taken) == 2
        assert isinstance(full.act, Gate)
        full.act.opened.set()


async def test_retry_brings_the_message_again(queue: Queue) -> None:
    hands = _failing_first(Retry(timedelta(milliseconds=50)))
    async with running(queue.worker(hands)):
        await queue.send("c1")

        assert [(await hands.next()).attempt for _ in range(2)] == [1, 2]
        await eventually(lambda: _is_empty(queue), what="the message to be ended")


async def test_unexpected_error_brings_the_message_again(queue: Queue) -> None:
    hands = _failing_first(RuntimeError("a defect"))
    async with running(queue.worker(hands)):
        await queue.send("c1")

        assert [(await hands.next()).attempt for _ in range(2)] == [1, 2]
        await eventually(lambda: _is_empty(queue), what="the message to be ended")


async def _refuse(_: Delivery) -> None:
    raise InvalidMessage("not a Command: check kind")


async def test_garbage_is_buried_once_and_frees_its_slot(queue: Queue, bus: Bus) -> None:
    async with running(queue.worker(Hands(_refuse))):
        await queue.send("c1", b"\xff\x00 garbage")
        await eventually(lambda: _is_empty(queue), what="the garbage to be ended")
        # The slot takes the next command.
        await queue.send("c1", b"more")
        await eventually(lambda: _is_empty(queue), what="the next one to be ended")

    assert await queue.buried() == 2
    letter = await bus.client.jetstream().get_last_msg("DLQ", subjects.dead_letter(queue.service))
    assert letter.data == b"more"
    assert (letter.headers or {})[REASON] == "MB-2003 not a Command: check kind"
    assert (letter.headers or {})[ORIGIN].startswith(queue.subject("c1"))


async def test_garbage_is_kept_when_it_cannot_be_buried_yet(queue: Queue) -> None:
    letters = DeadLetters(Publisher(queue.bus))
    buried = 0

    async def bury(delivery: Delivery, error: InvalidMessage) -> None:
        nonlocal buried
        buried += 1
        await letters.bury_delivery(delivery, error)
        if buried == 1:
            # As when the answer of NATS was lost: the worker cannot know that it is stored.
            raise BusUnavailable("a message for DLQ did not reach NATS")

    async with running(queue.worker(Hands(_refuse), bury=bury)) as task:
        await queue.send("c1", b"garbage")
        await eventually(lambda: _is_empty(queue), what="the garbage to be ended")
        assert not task.done()

    assert buried == 2
    assert await queue.buried() == 1


async def test_abandoned_message_comes_to_the_next_worker(bus: Bus, name: str) -> None:
    queue = await Queue(bus, service=name).create(ack_wait=timedelta(milliseconds=500))
    hands = _failing_first(Abandon())
    async with running(queue.worker(hands)):
        await queue.send("c1")

        assert (await hands.next()).attempt == 1
        assert await queue.in_hand() == 1
        assert (await hands.next()).attempt == 2
        await eventually(lambda: _is_empty(queue), what="the message to be ended")


async def test_message_of_a_dead_worker_goes_to_another(
    server: NatsServer, bus: Bus, name: str
) -> None:
    queue = await Queue(bus, service=name).create(ack_wait=timedelta(milliseconds=500))
    dying, living = Hands(Gate()), Hands()
    with FaultProxy(server.port) as proxy:
        async with (
            connected(f"nats://{proxy.address}") as cut_off,
            running(queue.worker(dying, bus=cut_off)) as dead,
        ):
            await queue.send("c1")
            await dying.next()
            proxy.blackhole()

            async with running(queue.worker(living)):
                assert (await living.next()).attempt == 2
                await eventually(lambda: _is_empty(queue), what="the message to be ended")
            proxy.heal()
            dead.cancel()
            await asyncio.wait({dead})


async def test_live_worker_keeps_its_message_with_heartbeats(bus: Bus, name: str) -> None:
    queue = await Queue(bus, service=name).create(ack_wait=timedelta(milliseconds=500))
    beats = 0

    async def beat_for_three_ack_waits(delivery: Delivery) -> None:
        nonlocal beats
        loop = asyncio.get_running_loop()
        started = loop.time()
        while loop.time() - started < 1.5:
            await delivery.message.in_progress()
            beats += 1
            await asyncio.sleep(0.1)

    slow, other = Hands(beat_for_three_ack_waits), Hands()
    async with running(queue.worker(slow)):
        await queue.send("c1")
        await slow.next()
        async with running(queue.worker(other)):
            await eventually(lambda: _is_empty(queue), what="the message to be ended")

    assert beats > 3
    assert len(slow.taken) == 1
    assert not other.taken


async def test_drain_lets_running_work_end_and_takes_no_more(queue: Queue) -> None:
    gate = Gate()
    hands = Hands(gate)
    worker = queue.worker(hands)
    async with running(worker) as task:
        await queue.send("c1")
        await hands.next()

        worker.drain()
        await queue.send("c2")
        gate.opened.set()
        await asyncio.wait_for(task, 10.0)

    assert [d.message.subject for d in hands.taken] == [queue.subject("c1")]
    assert await queue.stored() == 1
    assert await queue.in_hand() == 0


async def test_idle_worker_drains_at_once(queue: Queue) -> None:
    worker = queue.worker(Hands(), slots=4)
    async with running(worker) as task:
        await eventually(lambda: _parked_are(queue, 1), what="the pull to be parked")

        worker.drain()

        await asyncio.wait_for(task, 2.0)


async def _parked_are(queue: Queue, count: int) -> bool:
    return await queue.parked() == count


async def test_cancelled_handler_hands_its_message_back(queue: Queue) -> None:
    stuck, next_one = Hands(Gate()), Hands()
    async with running(queue.worker(stuck)) as task:
        await queue.send("c1")
        await stuck.next()

        task.cancel()
        await asyncio.wait({task})
    async with running(queue.worker(next_one)):
        # Long before the ack wait of 30 s.
        assert (await next_one.next(within_s=60.0)).attempt == 2


async def test_as_many_at_a_time_as_there_are_slots(queue: Queue) -> None:
    gate = Gate()
    hands = Hands(gate)
    for number in range(10):
        await queue.send(f"c{number}")

    async with running(queue.worker(hands, slots=3)):
        for _ in range(3):
            await hands.next()
        assert await queue.in_hand() == 3
        assert await queue.parked() == 0
        gate.opened.set()
        await eventually(lambda: _is_empty(queue), what="all messages to be ended")

    assert gate.most == 3
    assert len(hands.taken) == 10


async def test_replicas_share_the_work(queue: Queue, server: NatsServer) -> None:
    first, second = Hands(Gate()), Hands(Gate())
    async with (
        connected(server.url) as other,
        running(queue.worker(first)) as one,
        running(queue.worker(second, bus=other)) as two,
    ):
        await queue.send("c1")
        await queue.send("c2")

        subjects_seen = {(await hands.next()).message.subject for hands in (first, second)}

        assert subjects_seen == {queue.subject("c1"), queue.subject("c2")}
        for task in (one, two):
            task.cancel()
        await asyncio.wait({one, two})


async def test_message_for_a_given_up_pull_is_handed_on(queue: Queue) -> None:
    busy, free = Hands(Gate()), Hands()
    worker = queue.worker(busy)
    async with running(worker) as task:
        await eventually(lambda: _parked_are(queue, 1), what="the pull to be parked")
        # A reconnect that the server did not notice: the first pull stays parked there.
        queue.bus._woken()
        await eventually(lambda: _parked_are(queue, 2), what="the second pull to be parked")
        await queue.send("c1")
        await busy.next()

        await queue.send("c2")
        async with running(queue.worker(free)):
            delivery = await free.next(within_s=60.0)

        assert delivery.message.subject == queue.subject("c2")
        task.cancel()
        await asyncio.wait({task})
    assert len(busy.taken) == 1


async def test_nothing_is_stuck_when_workers_come_and_go(queue: Queue) -> None:
    handled: list[str] = []

    async def handle(delivery: Delivery) -> None:
        handled.append(delivery.message.subject)

    async def send_all() -> None:
        for number in range(600):
            await queue.send(f"c{number}")

    sending = asyncio.create_task(send_all())
    hands = Hands(handle)
    while not sending.done():
        async with running(queue.worker(hands, slots=4)):
            await hands.next()
    await sending

    async with running(queue.worker(hands, slots=4)):
        # A message that a leaving worker dropped would come only after the ack wait of 30 s.
        await eventually(lambda: _is_empty(queue), what="all messages to be ended", within_s=60.0)
    assert sorted(handled) == sorted(queue.subject(f"c{number}") for number in range(600))


@pytest.mark.parametrize("headers", HOSTILE)
async def test_a_message_counts_as_one_whatever_its_headers_say(
    queue: Queue, bus: Bus, headers: bytes
) -> None:
    hands = Hands()
    async with running(queue.worker(hands)):
        await publish_raw(bus, queue.subject("c1"), headers, b"hello")

        delivery = await hands.next()

        assert (delivery.message.data, delivery.attempt) == (b"hello", 1)
        await eventually(lambda: _is_empty(queue), what="the message to be ended")


async def test_stranger_in_the_inbox_is_ignored(queue: Queue, bus: Bus) -> None:
    hands = Hands()
    worker = queue.worker(hands)
    async with running(worker) as task:
        await eventually(lambda: _parked_are(queue, 1), what="the pull to be parked")
        assert worker._inbox is not None

        await bus.client.publish(worker._inbox.address, b"no JetStream message")
        await bus.client.publish(worker._inbox.address, b"nor this", reply="somewhere")
        await queue.send("c1")

        assert (await hands.next()).message.subject == queue.subject("c1")
        assert not task.done()


async def test_parked_pull_survives_a_kill_of_the_server(
    own_queue: Queue, own_server: NatsServer
) -> None:
    hands = Hands()
    async with running(own_queue.worker(hands, slots=4)):
        await eventually(lambda: _parked_are(own_queue, 1), what="the pull to be parked")

        own_server.kill()
        await asyncio.to_thread(own_server.start)
        await own_queue.send("c1")

        assert (await hands.next(within_s=60.0)).attempt == 1
        await eventually(lambda: _is_empty(own_queue), what="the message to be ended")


async def test_unstarted_messages_survive_a_kill_of_the_server(
    own_queue: Queue, own_server: NatsServer
) -> None:
    gate = Gate()
    hands = Hands(gate)
    sent = {own_queue.subject(f"c{number}") for number in range(20)}
    async with running(own_queue.worker(hands, slots=2)):
        for number in range(20):
            await own_queue.send(f"c{number}")
        await hands.next()
        await hands.next()

        own_server.kill()
        await asyncio.to_thread(own_server.start)
        gate.opened.set()

        await eventually(lambda: _is_empty(own_queue), what="all messages to be ended")
    assert {delivery.message.subject for delivery in hands.taken} == sent
    assert gate.most == 2


async def test_parked_pull_survives_a_broken_connection(queue: Queue, server: NatsServer) -> None:
    hands = Hands()
    with FaultProxy(server.port) as proxy:
        async with (
            connected(f"nats://{proxy.address}") as bus,
            running(queue.worker(hands, bus=bus, slots=2)),
        ):
            await eventually(lambda: _parked_are(queue, 1), what="the pull to be parked")
            before = proxy.accepted_connections

            proxy.cut()
            await eventually(
                lambda: proxy.accepted_connections > before, what="the worker to reconnect"
            )
            await queue.send("c1")

            await hands.next(within_s=60.0)


async def test_worker_waits_for_its_consumer(queue: Queue, server: NatsServer) -> None:
    hands = Hands()
    loop = asyncio.get_running_loop()
    async with connected(server.url) as bus, running(queue.worker(hands, bus=bus)):
        await eventually(lambda: _parked_are(queue, 1), what="the pull to be parked")
        asked, started = bus.client.stats["out_msgs"], loop.time()

        await queue.delete()
        await eventually(
            lambda: bus.client.stats["out_msgs"] >= asked + 3, what="the worker to ask again"
        )

        # Each refusal is followed by a pause: the server is not asked in a tight loop.
        assert loop.time() - started > 1.0
        await queue.create(ack_wait=timedelta(seconds=30))
        await queue.send("c1")
        await hands.next()


async def test_connection_closed_under_a_worker_can_be_drained(
    queue: Queue, server: NatsServer
) -> None:
    async with connected(server.url) as bus:
        worker = queue.worker(Hands(), bus=bus)
        task = asyncio.create_task(worker.run())
        await eventually(lambda: _parked_are(queue, 1), what="the pull to be parked")
        await bus.close()

        worker.drain()

        await asyncio.wait_for(task, 5.0)
