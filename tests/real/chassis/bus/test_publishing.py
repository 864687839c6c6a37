"""Publishing: one message id is stored once, whatever happens to the answers."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta, timezone

import orjson
import pytest

from services.chassis.bus import envelopes, subjects
from services.chassis.bus.connection import Bus
from services.chassis.bus.publishing import JUST_ENDED, Publisher
from services.chassis.bus.streams import call_api
from services.chassis.errors import BusUnavailable, ClusterBusy, DeadlineExpired, QueueFull
from services.chassis.messages import Command, Event, Phase, SlotKind
from tests.real.chassis.bus.queues import WITHIN, Queue
from tests.testbed.buses import NatsServer, connected
from tests.testbed.proxies import FaultProxy
from tests.testbed.waiting import eventually


def _command(operation: str, *, cluster: str, lives: timedelta = timedelta(minutes=5)) -> Command:
    return Command(
        operation=operation,
        kind="istio_install",
        cluster=cluster,
        cluster_name="prod",
        deadline=datetime.now(timezone.utc) + lives,
    )


def _event(name: str, *, sequence: int = 1) -> Event:
    return Event(
        operation=name,
        kind="istio_install",
        service="perf",
        cluster="c1",
        sequence=sequence,
        phase=Phase.STARTED,
        summary="started",
    )


async def _stored(bus: Bus, stream: str, subject: str) -> int:
    answer = await call_api(bus.client, f"STREAM.INFO.{stream}", {"subjects_filter": subject})
    found: dict[str, int] = (answer.get("state") or {}).get("subjects") or {}
    return sum(found.values())


async def test_command_arrives_as_it_was_sent(bus: Bus, publisher: Publisher, name: str) -> None:
    command = _command("op-1", cluster=name)

    published = await publisher.command(command, service="tests", slot=SlotKind.MESH, within=WITHIN)

    stored = await bus.client.jetstream().get_msg("CMD", published.sequence)
    assert not published.duplicate
    assert stored.subject == f"cmd.tests.{name}.mesh"
    assert envelopes.decode(Command, stored.data or b"", stored.headers) == command
    assert (stored.headers or {})[envelopes.OPERATION] == "op-1"


async def test_same_command_twice_is_a_duplicate(publisher: Publisher, name: str) -> None:
    command = _command("op-1", cluster=name)

    first, second = [
        await publisher.command(command, service="tests", slot=SlotKind.MESH, within=WITHIN)
        for _ in range(2)
    ]

    assert second.duplicate
    assert second.sequence == first.sequence


async def test_command_that_was_carried_out_is_not_queued_again(
    bus: Bus, publisher: Publisher, name: str
) -> None:
    command = _command("op-1", cluster=name)
    first = await publisher.command(command, service="tests", slot=SlotKind.MESH, within=WITHIN)
    await bus.client.jetstream().delete_msg("CMD", first.sequence)

    again = await publisher.command(command, service="tests", slot=SlotKind.MESH, within=WITHIN)

    assert again.duplicate
    assert await _stored(bus, "CMD", f"cmd.tests.{name}.>") == 0


async def test_busy_slot_names_its_holder(publisher: Publisher, name: str) -> None:
    await publisher.command(
        _command("op-1", cluster=name), service="tests", slot=SlotKind.MESH, within=WITHIN
    )

    with pytest.raises(ClusterBusy, match="prod is busy with operation op-1") as refused:
        await publisher.command(
            _command("op-2", cluster=name), service="tests", slot=SlotKind.MESH, within=WITHIN
        )

    assert refused.value.subject == "op-1"


async def test_of_many_at_once_one_gets_the_slot(publisher: Publisher, name: str) -> None:
    outcomes = await asyncio.gather(
        *(
            publisher.command(
                _command(f"op-{number}", cluster=name),
                service="tests",
                slot=SlotKind.MESH,
                within=WITHIN,
            )
            for number in range(20)
        ),
        return_exceptions=True,
    )

    winners = [number for number, got in enumerate(outcomes) if not isinstance(got, Exception)]
    refused = [got for got in outcomes if isinstance(got, ClusterBusy)]
    assert len(winners) == 1
    assert len(refused) == 19
    assert {error.subject for error in refused} <= {f"op-{winners[0]}", JUST_ENDED}


async def test_applying_has_a_slot_for_each_operation(publisher: Publisher, name: str) -> None:
    for operation in ("op-1", "op-2", "with.dots and > stars *"):
        published = await publisher.command(
            _command(operation, cluster=name), service="tests", slot=SlotKind.APPLY, within=WITHIN
        )
        assert not published.duplicate


async def test_slot_is_free_when_the_command_has_expired(
    bus: Bus, publisher: Publisher, name: str
) -> None:
    await publisher.command(
        _command("op-1", cluster=name, lives=timedelta(seconds=1)),
        service="tests",
        slot=SlotKind.MESH,
        within=WITHIN,
    )

    async def is_empty() -> bool:
        return await _stored(bus, "CMD", f"cmd.tests.{name}.>") == 0

    await eventually(is_empty, what="the command to expire")
    published = await publisher.command(
        _command("op-2", cluster=name), service="tests", slot=SlotKind.MESH, within=WITHIN
    )
    assert not published.duplicate


async def test_command_without_time_left_is_not_queued(publisher: Publisher, name: str) -> None:
    with pytest.raises(DeadlineExpired):
        await publisher.command(
            _command("op-1", cluster=name, lives=timedelta(seconds=-1)),
            service="tests",
            slot=SlotKind.MESH,
            within=WITHIN,
        )


async def test_event_is_stored_once_and_heard_live(
    bus: Bus, publisher: Publisher, name: str
) -> None:
    live = await bus.client.subscribe(f"live.evt.perf.*.{name}")
    await bus.client.flush()

    first, second = [await publisher.event(_event(name)) for _ in range(2)]
    third = await publisher.event(_event(name, sequence=2))

    assert (first.duplicate, second.duplicate, third.duplicate) == (False, True, False)
    heard = await live.next_msg(timeout=5.0)
    await live.unsubscribe()
    assert heard.subject == "live." + subjects.event(service="perf", cluster="c1", operation=name)
    # People read it with `nats sub`: it is JSON.
    assert orjson.loads(heard.data)["summary"] == "started"


async def test_publish_during_a_kill_is_stored_once(
    own_server: NatsServer, own_bus: Bus, name: str
) -> None:
    publisher = Publisher(own_bus)
    events = [_event(name, sequence=sequence) for sequence in range(1, 101)]
    await publisher.event(events[0])

    own_server.kill()
    publishing = [asyncio.create_task(publisher.event(event)) for event in events]
    await asyncio.to_thread(own_server.start)
    await asyncio.gather(*publishing)

    assert await _stored(own_bus, "EVT", f"evt.perf.*.{name}") == len(events)


async def test_publish_whose_answer_was_lost_is_a_duplicate(
    server: NatsServer, bus: Bus, name: str
) -> None:
    queue = Queue(bus, service=name)
    with FaultProxy(server.port) as proxy:
        async with connected(f"nats://{proxy.address}") as behind_proxy:
            # Longer than the server and this test take to see the command.
            proxy.delay(0.3)
            publishing = asyncio.create_task(
                Publisher(behind_proxy).command(
                    _command("op-1", cluster=name),
                    service=name,
                    slot=SlotKind.MESH,
                    within=WITHIN,
                )
            )
            await eventually(queue.stored, what="the command to be stored")
            proxy.cut()
            proxy.heal()

            published = await publishing

    assert published.duplicate
    assert await queue.stored() == 1


async def test_stream_that_is_not_there_is_told(own_bus: Bus, name: str) -> None:
    await call_api(own_bus.client, "STREAM.DELETE.EVT", {})

    with pytest.raises(BusUnavailable, match="did not reach NATS"):
        await Publisher(own_bus).event(_event(name), within=timedelta(milliseconds=200))


async def test_full_stream_is_not_taken_for_a_busy_slot(own_bus: Bus, name: str) -> None:
    config = (await call_api(own_bus.client, "STREAM.INFO.CMD", {}))["config"]
    await call_api(own_bus.client, "STREAM.UPDATE.CMD", {**config, "max_msgs": 1})
    await Queue(own_bus, service=name).send("c1")

    with pytest.raises(QueueFull):
        await Publisher(own_bus).command(
            _command("op-1", cluster="c2"),
            service=name,
            slot=SlotKind.MESH,
            within=timedelta(milliseconds=200),
        )
