"""Translators that are away, that sleep through a takeover, or that are sent poison."""

from __future__ import annotations

import uuid
import zlib
from collections.abc import AsyncIterator, Iterator

import pytest

from services.chassis.bus import envelopes
from services.chassis.bus.connection import Bus
from services.chassis.kube.kubeconfigs import parse_kubeconfig
from services.chassis.messages import Phase
from tests.testbed import smi
from tests.testbed.bodies import config_map
from tests.testbed.clusters import Cluster
from tests.testbed.meshery import Meshery
from tests.testbed.shops import (
    SHOP,
    found,
    istio_defined,
    manifest,
)
from tests.testbed.snapshots import differences, snapshot
from tests.testbed.stack import Stack
from tests.testbed.stored import admin_bus, message_count, stored_events
from tests.testbed.waiting import eventually

pytestmark = pytest.mark.services("lifecycle", "translator", "gateway")

VERSION = "networking.istio.io/v1"
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
    # kubectl would take a second for each handful.
    defined.api.request("DELETE", f"/apis/{VERSION}/namespaces/{SHOP}/virtualservices")


def many(count: int = COUNT) -> str:
    """Splits of as many services, so that the translation takes a moment."""
    splits = []
    for number in range(count):
        split = smi.split(SHOP, {f"a{number}": 3, f"b{number}": 1}, service=f"root{number}")
        split["metadata"]["name"] = f"split{number}"
        splits.append(split)
    return manifest(*splits)


async def completed(frail: Stack, client: Meshery, operation: str) -> None:
    """One final event, a success, and lifecycle began once."""
    finals = await client.finals(operation, within_s=WITHIN_S)
    assert [final.failed for final in finals] == [False], str(finals[0].event)
    events = await stored_events(frail, operation)
    assert [event.phase for event in events].count(Phase.DONE) == 1
    began = [e for e in events if e.service == "lifecycle" and e.phase is Phase.STARTED]
    assert len(began) == 1


async def test_commands_that_wait_are_done_when_a_translator_comes(
    frail: Stack, client: Meshery
) -> None:
    frail.processes["translator"].kill()
    bodies = [many(2), config_map("waited")]
    operations = [await client.apply("custom", body=body, namespace=SHOP) for body in bodies]
    await client.until(
        lambda: all(any("translator" in r.event.summary for r in client.of(o)) for o in operations)
    )
    frail.processes["translator"].start()
    for operation in operations:
        await completed(frail, client, operation)
    await client.run("custom", body=config_map("waited"), namespace=SHOP, delete=True)


async def test_a_paused_translator_does_nothing_twice(
    frail: Stack, client: Meshery, defined: Cluster
) -> None:
    """It wakes up after another one took over, and after lifecycle has ended the operation."""
    lifecycle, first = frail.processes["lifecycle"], frail.processes["translator"]
    lifecycle.pause()
    operation = await client.apply("custom", body=many(), namespace=SHOP)
    await _taken(frail)
    first.pause()
    lifecycle.resume()
    frail.add("translator", name="translator-2")
    await completed(frail, client, operation)
    assert len(found(defined, "virtualservices", SHOP)) == COUNT
    first.resume()
    # Whatever it still does with the first command, it is done before its message is gone.
    async with admin_bus(frail) as bus:
        await eventually(lambda: _is_idle(bus), what="no command to be left", within_s=WITHIN_S)
    await completed(frail, client, operation)


POISON: dict[str, tuple[bytes, dict[str, str]]] = {
    "another schema": (b'{"operation": "a", "kind": "custom"}', {envelopes.SCHEMA: "99"}),
    "damaged": (b"x\x9c" + b"\x00" * 64, {envelopes.CONTENT_ENCODING: "deflate"}),
    "a bomb": (zlib.compress(b"\x00" * 64_000_000), {envelopes.CONTENT_ENCODING: "deflate"}),
}


@pytest.mark.parametrize(("body", "headers"), POISON.values(), ids=POISON.keys())
@pytest.mark.leaves_whole
async def test_poison_goes_to_dlq_once_and_disturbs_nobody(
    body: bytes, headers: dict[str, str], frail: Stack, client: Meshery
) -> None:
    token = parse_kubeconfig(client.kubeconfigs[0]).cluster
    async with admin_bus(frail) as bus:
        before = await message_count(bus, "DLQ")
        subject = f"cmd.translator.{token}.apply.{uuid.uuid4()}"
        await bus.client.jetstream().publish(subject, body, headers=headers or None)
        final = await client.run("custom", body=config_map("beside"), namespace=SHOP)
        assert not final.failed, final.event
        await eventually(lambda: _is_idle(bus), what="no command to be left", within_s=WITHIN_S)
        assert await message_count(bus, "DLQ") == before + 1
        buried = await bus.client.jetstream().get_last_msg("DLQ", "dlq.translator")
        assert (buried.headers or {})["Meshbus-Reason"].startswith("MB-2003")
    await client.run("custom", body=config_map("beside"), namespace=SHOP, delete=True)


async def _is_idle(bus: Bus) -> bool:
    return await message_count(bus, "CMD") == 0


async def _taken(frail: Stack) -> None:
    """Until the translator holds the command."""
    async with admin_bus(frail) as bus:

        async def holds_one() -> bool:
            told = await bus.client.jetstream().consumer_info("CMD", "translator")
            return bool(told.num_ack_pending)

        await eventually(holds_one, what="the translator to hold it", within_s=WITHIN_S)
