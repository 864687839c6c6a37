"""What another version has put on the server becomes what this one needs, and nothing is lost."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from nats.aio.msg import Msg

from services.chassis.bus import streams
from services.chassis.bus.connection import Bus
from services.chassis.bus.streams import WORKER_FILTERS, call_api
from services.chassis.errors import StreamRefused
from tests.faults.recording import streams_of, versions
from tests.testbed.buses import NatsServer, connected

_ACK_WAIT = timedelta(seconds=30)
_LEASE_TTL = timedelta(seconds=60)
_SUBJECTS = {
    "lifecycle": "cmd.lifecycle.c1.mesh",
    "translator": "cmd.translator.c1.apply.op2",
    "perf": "cmd.perf.c1.apply.op3",
    "perf-shards": "cmd.perf.run1.shard1",
}
"""A command for each consumer."""


@pytest.fixture
async def bus(tmp_path: Path) -> AsyncIterator[Bus]:
    """A server that has nothing yet."""
    with NatsServer(tmp_path / "nats") as server:
        async with connected(server.url) as connection:
            yield connection


@pytest.mark.parametrize("version", versions())
async def test_all_that_an_earlier_version_stored_is_there_after_the_upgrade(
    bus: Bus, version: str
) -> None:
    told = streams_of(version)
    await _create(bus, told)
    kept = {
        stream["name"]: await _fill(bus, stream)
        for stream in told["streams"]
        if stream["name"] != "ADV"
    }
    # One is in the hands of a worker of the earlier version, which ends it after the upgrade.
    in_hand = await _taken(bus, "lifecycle")

    await _apply(bus)

    for name, (subject, headers, body) in kept.items():
        stored = await bus.client.jetstream().get_last_msg(name, subject)
        assert (stored.data, dict(stored.headers or {})) == (body, headers), name
    await in_hand.ack_sync()
    for consumer in ("translator", "perf", "perf-shards"):
        await (await _taken(bus, consumer)).ack_sync()
    assert await _messages(bus, "CMD") == 0
    assert await _apply(bus) == []


async def test_commands_wait_through_consumers_that_are_cut_anew(bus: Bus) -> None:
    """One consumer took what two take now, and another one is called otherwise."""
    await _apply(bus)
    for name in ("perf", "perf-shards", "translator"):
        await call_api(bus.client, f"CONSUMER.DELETE.CMD.{name}", {})
    await _consumer(bus, "CMD", "perf", filter_subject="cmd.perf.>")
    await _consumer(bus, "CMD", "translators", filter_subject="cmd.translator.*.apply.>")
    await _consumer(bus, "CMD", "guests", filter_subject="cmd.guests.>")
    for subject in (*_SUBJECTS.values(), "cmd.guests.c1.mesh"):
        await bus.client.jetstream().publish(subject, b"{}")
    handed_out = await _taken(bus, "translators")

    touched = await _apply(bus)

    assert touched == ["CMD/perf", "CMD/perf-shards", "CMD/translator"]
    for consumer, subject in _SUBJECTS.items():
        delivered = await _taken(bus, consumer)
        assert delivered.subject == subject
        await delivered.ack_sync()
    assert handed_out.subject == _SUBJECTS["translator"]
    # Nobody's consumer but ours goes.
    assert (await _taken(bus, "guests")).subject == "cmd.guests.c1.mesh"
    assert await _messages(bus, "CMD") == 1


async def test_a_consumer_that_cannot_be_changed_is_made_anew(bus: Bus) -> None:
    await _apply(bus)
    await call_api(bus.client, "CONSUMER.DELETE.ADV.dlq-mover", {})
    await _consumer(bus, "ADV", "dlq-mover", deliver_policy="new")

    assert await _apply(bus) == ["ADV/dlq-mover"]

    answer = await call_api(bus.client, "CONSUMER.INFO.ADV.dlq-mover", {})
    assert answer["config"]["deliver_policy"] == "all"


async def test_subjects_move_to_a_stream_that_stands_before_the_one_that_had_them(
    bus: Bus,
) -> None:
    await _apply(bus)
    await call_api(bus.client, "STREAM.DELETE.EVT", {})
    former = {**streams.TOPO.config, "subjects": ["evt.topology.>", "evt.perf.>"]}
    await call_api(bus.client, "STREAM.UPDATE.TOPO", {"name": "TOPO", **former})

    assert await _apply(bus) == ["TOPO", "EVT"]

    stored = await bus.client.jetstream().publish("evt.perf.c1.op1", b"{}")
    assert stored.stream == "EVT"


async def test_a_stream_that_cannot_be_changed_is_refused_and_keeps_its_content(bus: Bus) -> None:
    former = {**streams.CMD.config, "retention": "limits"}
    answer = await call_api(bus.client, "STREAM.CREATE.CMD", {"name": "CMD", **former})
    assert "error" not in answer, answer
    await bus.client.jetstream().publish("cmd.lifecycle.c1.mesh", b"waits")

    with pytest.raises(StreamRefused, match=r"NATS refuses CMD: .*retention") as refused:
        await _apply(bus)

    assert "upgrade.md" in refused.value.remedy
    stored = await bus.client.jetstream().get_last_msg("CMD", "cmd.lifecycle.c1.mesh")
    assert stored.data == b"waits"
    # All others are as this version needs them.
    await streams.verify(bus.client, lease_ttl=_LEASE_TTL)


async def _apply(bus: Bus) -> list[str]:
    return await streams.reconcile(bus.client, ack_wait=_ACK_WAIT, lease_ttl=_LEASE_TTL)


async def _create(bus: Bus, told: dict[str, Any]) -> None:
    """As the init job of an earlier version did."""
    for stream in told["streams"]:
        config = {"name": stream["name"], "num_replicas": 1, **stream["config"]}
        answer = await call_api(bus.client, f"STREAM.CREATE.{stream['name']}", config)
        assert "error" not in answer, answer
    for consumer in told["consumers"]:
        await _consumer(bus, consumer["stream"], consumer["name"], **consumer["config"])


async def _consumer(bus: Bus, stream: str, name: str, **config: Any) -> None:
    wanted = {"durable_name": name, "name": name, "ack_policy": "explicit", **config}
    answer = await call_api(
        bus.client,
        f"CONSUMER.DURABLE.CREATE.{stream}.{name}",
        {"stream_name": stream, "config": wanted},
    )
    assert "error" not in answer, answer


async def _fill(bus: Bus, stream: dict[str, Any]) -> tuple[str, dict[str, str], bytes]:
    """Stores something in each subject of a stream; returns the last of it."""
    patterns = [one.replace(">", "a.b").replace("*", "a") for one in stream["config"]["subjects"]]
    last: tuple[str, dict[str, str], bytes] = ("", {}, b"")
    for subject in [*_SUBJECTS.values()] if stream["name"] == "CMD" else patterns:
        headers = {"Meshbus-Operation": subject}
        await bus.client.jetstream().publish(subject, subject.encode(), headers=headers)
        last = (subject, headers, subject.encode())
    return last


async def _taken(bus: Bus, consumer: str) -> Msg:
    """The command that waits for this consumer, and the only one."""
    context = bus.client.jetstream()
    subscription = await context.pull_subscribe_bind(consumer, "CMD")
    try:
        [message] = await subscription.fetch(1, timeout=10)
    finally:
        await subscription.unsubscribe()
    answer = await call_api(bus.client, f"CONSUMER.INFO.CMD.{consumer}", {})
    assert answer["num_pending"] == 0
    return message


async def _messages(bus: Bus, stream: str) -> int:
    answer = await call_api(bus.client, f"STREAM.INFO.{stream}", {})
    return int(answer["state"]["messages"])


def test_every_consumer_has_a_command_here() -> None:
    assert _SUBJECTS.keys() == WORKER_FILTERS.keys()
