"""Translations are finished whatever dies in the middle of them, once."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterator

import pytest

from services.chassis.bus import envelopes
from services.chassis.kube.kubeconfigs import parse_kubeconfig
from services.chassis.messages import Event, Phase
from tests.system.bodies import config_map
from tests.system.meshery import Meshery
from tests.system.shops import (
    SHOP,
    found,
    istio_defined,
    manifest,
)
from tests.system.stored import admin_bus, message_count, stored_events
from tests.testbed.clusters import Cluster
from tests.testbed.snapshots import differences, snapshot
from tests.testbed.stack import Stack
from tests.traffic import smi

WITHIN_S = 60.0
COUNT = 300


@pytest.fixture(scope="module")
def defined(cluster: Cluster) -> Iterator[Cluster]:
    """A cluster that knows VirtualServices, and whose services are few."""
    before = snapshot(cluster)
    with istio_defined(cluster):
        yield cluster
    assert differences(before, snapshot(cluster)) == []


@pytest.fixture
async def client(frail: Stack, defined: Cluster) -> AsyncIterator[Meshery]:
    """A connected Meshery, and the cluster without what it made."""
    async with Meshery(frail.gateway_address, [defined.kubeconfig_text]).connected() as connected:
        yield connected
    defined.kubectl("delete", "virtualservices", "-n", SHOP, "--all")


def many(count: int = COUNT) -> str:
    """Splits of as many services, so that the translation takes a moment."""
    splits = []
    for number in range(count):
        split = smi.split(SHOP, {f"a{number}": 3, f"b{number}": 1}, service=f"root{number}")
        split["metadata"]["name"] = f"split{number}"
        splits.append(split)
    return manifest(*splits)


async def completed(frail: Stack, client: Meshery, operation: str, *, count: int = COUNT) -> None:
    """One final event, a success; all objects are there and were written in one attempt."""
    finals = await client.finals(operation, within_s=WITHIN_S)
    assert [final.failed for final in finals] == [False], str(finals[0].event)
    events = await stored_events(frail, operation)
    assert phases(events).count(Phase.DONE) == 1
    assert [e for e in events if e.service == "lifecycle" and e.phase is Phase.STARTED][1:] == []
    assert "objects: " in events[-1].details or count == 0


def phases(events: list[Event]) -> list[Phase]:
    return [event.phase for event in events]


async def test_a_killed_translator_is_replaced(
    frail: Stack, client: Meshery, defined: Cluster
) -> None:
    """Killed while it holds a command whose facts are still asked for."""
    frail.processes["lifecycle"].pause()
    operation = await client.apply("custom", body=many(), namespace=SHOP)
    await _taken(frail)
    frail.processes["translator"].kill()
    frail.processes["lifecycle"].resume()
    frail.add("translator", name="translator-2")
    await completed(frail, client, operation)
    assert len(found(defined, "virtualservices", SHOP)) == COUNT


async def test_commands_that_wait_are_done_when_a_translator_comes(
    frail: Stack, client: Meshery, defined: Cluster
) -> None:
    frail.processes["translator"].kill()
    bodies = [many(2), config_map("waited")]
    operations = [await client.apply("custom", body=body, namespace=SHOP) for body in bodies]
    await client.until(
        lambda: all(any("translator" in r.event.summary for r in client.of(o)) for o in operations)
    )
    frail.processes["translator"].start()
    for operation in operations:
        await completed(frail, client, operation, count=0)
    await client.run("custom", body=config_map("waited"), namespace=SHOP, delete=True)


async def test_a_paused_translator_does_nothing_twice(
    frail: Stack, client: Meshery, defined: Cluster
) -> None:
    """It wakes up after another one took over: the second plan is dropped."""
    lifecycle, first = frail.processes["lifecycle"], frail.processes["translator"]
    lifecycle.pause()
    operation = await client.apply("custom", body=many(3), namespace=SHOP)
    await _taken(frail)
    first.pause()
    lifecycle.resume()
    frail.add("translator", name="translator-2")
    await completed(frail, client, operation, count=3)
    first.resume()
    # Another command behind it shows that the first one does nothing more to the operation.
    final = await client.run("custom", body=many(1), namespace=SHOP)
    assert not final.failed, final.event
    await completed(frail, client, operation, count=3)


async def test_a_lifecycle_that_is_away_is_waited_for(
    frail: Stack, client: Meshery, defined: Cluster
) -> None:
    frail.processes["lifecycle"].stop()
    operation = await client.apply("custom", body=many(1), namespace=SHOP)
    await client.until(
        lambda: any("Waiting: no lifecycle worker" in r.event.summary for r in client.of(operation))
    )
    frail.processes["lifecycle"].start()
    await completed(frail, client, operation, count=1)


async def test_nats_restarts_in_the_middle(frail: Stack, client: Meshery, defined: Cluster) -> None:
    frail.processes["lifecycle"].pause()
    operation = await client.apply("custom", body=many(), namespace=SHOP)
    await _taken(frail)
    await asyncio.to_thread(frail.nats.kill)
    await asyncio.to_thread(frail.nats.start)
    frail.processes["lifecycle"].resume()
    finals = await client.finals(operation, within_s=WITHIN_S)
    assert [final.failed for final in finals] == [False], str(finals[0].event)
    assert len(found(defined, "virtualservices", SHOP)) == COUNT


POISON: dict[str, tuple[bytes, dict[str, str]]] = {
    "garbage": (b"\x00\xff garbage", {}),
    "another schema": (b'{"operation": "a", "kind": "custom"}', {envelopes.SCHEMA: "99"}),
    "no command": (b'{"hello": "world"}', {}),
    "a bomb": (b"x\x9c" + b"\x00" * 64, {envelopes.CONTENT_ENCODING: "deflate"}),
}


@pytest.mark.parametrize(("body", "headers"), POISON.values(), ids=POISON.keys())
async def test_poison_goes_to_dlq_once_and_disturbs_nobody(
    body: bytes, headers: dict[str, str], frail: Stack, client: Meshery
) -> None:
    token = parse_kubeconfig(client.kubeconfigs[0]).cluster
    async with admin_bus(frail) as bus:
        subject = f"cmd.translator.{token}.apply.{uuid.uuid4()}"
        await bus.client.jetstream().publish(subject, body, headers=headers or None)
        final = await client.run("custom", body=config_map("beside"), namespace=SHOP)
        assert not final.failed, final.event
        async with asyncio.timeout(WITHIN_S):
            while await message_count(bus, "CMD") or not await message_count(bus, "DLQ"):
                await asyncio.sleep(0.05)
        assert await message_count(bus, "DLQ") == 1
        buried = await bus.client.jetstream().get_last_msg("DLQ", "dlq.translator")
        assert (buried.headers or {})["Meshbus-Reason"].startswith("MB-2003")
    await client.run("custom", body=config_map("beside"), namespace=SHOP, delete=True)


async def _taken(frail: Stack) -> None:
    """Until the translator holds the command."""
    async with admin_bus(frail) as bus:
        async with asyncio.timeout(WITHIN_S):
            while True:
                told = await bus.client.jetstream().consumer_info("CMD", "translator")
                if told.num_ack_pending:
                    return
                await asyncio.sleep(0.02)
