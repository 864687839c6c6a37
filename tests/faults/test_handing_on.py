"""A translation is finished once, whoever of the two workers dies in the middle of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator

import pytest
import yaml

from services.chassis.kube.kubeconfigs import parse_kubeconfig
from services.chassis.messages import Event, Phase
from tests.faults.test_messages import GARBAGE
from tests.testbed.building import distributions_folder
from tests.testbed.clusters import Cluster
from tests.testbed.meshery import Meshery
from tests.testbed.recipe import ISTIO_VERSION
from tests.testbed.stack import Stack
from tests.testbed.stored import admin_bus, message_count, stored_events
from tests.testbed.waiting import eventually

pytestmark = pytest.mark.services("lifecycle", "translator", "gateway")

VIRTUAL_SERVICE = json.dumps(
    {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": "handed-on", "namespace": "default"},
        "spec": {
            "hosts": ["handed-on"],
            "http": [{"route": [{"destination": {"host": "handed-on"}}]}],
        },
    }
)


_DEFINITIONS = "manifests/charts/base/files/crd-all.gen.yaml"
_ROUTES = "virtualservices.networking.istio.io"


@pytest.fixture(scope="module")
def routed(cluster: Cluster) -> Iterator[Cluster]:
    """The cluster with the definition that the manifest needs; a whole mesh would add nothing."""
    text = (distributions_folder() / ISTIO_VERSION / _DEFINITIONS).read_text()
    definition = next(d for d in yaml.safe_load_all(text) if d["metadata"]["name"] == _ROUTES)
    cluster.kubectl("apply", "--server-side", "-f", "-", stdin=json.dumps(definition))
    cluster.wait_established()
    yield cluster
    cluster.kubectl("delete", "crd", _ROUTES)


@pytest.fixture
async def connected(frail: Stack, routed: Cluster) -> AsyncIterator[Meshery]:
    """A Meshery whose cluster knows VirtualServices."""
    async with Meshery(frail.gateway_address, [routed.kubeconfig_text]).connected() as connected:
        yield connected
        routed.kubectl("delete", _ROUTES, "handed-on", "--ignore-not-found")


async def done_once(stack: Stack, client: Meshery, operation: str) -> list[Event]:
    """The stored events of an operation that succeeded, and succeeded once."""
    final = (await client.finals(operation, within_s=60.0))[0]
    assert not final.failed, final.event
    events = await stored_events(stack, operation)
    assert [event.phase for event in events].count(Phase.DONE) == 1
    return events


async def held_by(stack: Stack, service: str) -> None:
    """Until the service has a command in its hands."""
    async with admin_bus(stack) as bus:

        async def has_one() -> bool:
            reply = await bus.client.request(f"$JS.API.CONSUMER.INFO.CMD.{service}", b"", 5.0)
            return bool(json.loads(reply.data)["num_ack_pending"])

        await eventually(has_one, what=f"{service} to hold a command", within_s=60.0)


async def test_a_translator_that_is_killed_while_it_asks_is_replaced(
    frail: Stack, connected: Meshery, cluster: Cluster
) -> None:
    frail.processes["lifecycle"].pause()
    operation = await connected.apply("custom", body=VIRTUAL_SERVICE)
    await held_by(frail, "translator")
    frail.processes["translator"].kill()
    frail.processes["lifecycle"].resume()
    frail.add("translator", name="translator-2")
    await done_once(frail, connected, operation)
    assert cluster.kubectl("get", "virtualservice", "handed-on", "-o", "name")


async def test_a_translation_waits_for_lifecycle_and_says_so(
    frail: Stack, connected: Meshery, cluster: Cluster
) -> None:
    frail.processes["lifecycle"].stop()
    operation = await connected.apply("custom", body=VIRTUAL_SERVICE)
    await connected.until(
        lambda: any("no lifecycle worker" in r.event.summary for r in connected.of(operation))
    )
    frail.processes["lifecycle"].start()
    events = await done_once(frail, connected, operation)
    assert [event.summary for event in events if event.phase is Phase.NOTE] == [
        "Waiting: no lifecycle worker is connected"
    ]


async def test_nats_restarts_while_a_translation_waits(
    frail: Stack, connected: Meshery, cluster: Cluster
) -> None:
    frail.processes["lifecycle"].pause()
    operation = await connected.apply("custom", body=VIRTUAL_SERVICE)
    await held_by(frail, "translator")
    await asyncio.to_thread(frail.nats.kill)
    await asyncio.to_thread(frail.nats.start)
    frail.processes["lifecycle"].resume()
    await done_once(frail, connected, operation)


@pytest.mark.parametrize("body", GARBAGE.values(), ids=GARBAGE.keys())
@pytest.mark.leaves_whole
async def test_garbage_for_the_translator_goes_to_dlq_once(
    body: bytes, frail: Stack, client: Meshery, cluster: Cluster
) -> None:
    token = parse_kubeconfig(cluster.kubeconfig_text).cluster
    async with admin_bus(frail) as bus:
        before = await message_count(bus, "DLQ")
        await bus.client.jetstream().publish(f"cmd.translator.{token}.apply.garbage", body)

        async def is_buried() -> bool:
            counts = [await message_count(bus, stream) for stream in ("CMD", "DLQ")]
            return counts == [0, before + 1]

        await eventually(is_buried, what="the garbage to be buried", within_s=60.0)
        letter = await bus.client.jetstream().get_last_msg("DLQ", "dlq.translator")
        assert (letter.headers or {})["Meshbus-Reason"].startswith("MB-2003")
    final = await client.run("custom", body='{"apiVersion": "v1"}')
    assert final.event.error_code == "MB-1201"
