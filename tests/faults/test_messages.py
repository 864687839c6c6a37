"""Messages that come twice, or that nobody can read."""

from __future__ import annotations

import asyncio

import grpc
import pytest

from services.chassis.bus.connection import Bus
from services.chassis.kube.kubeconfigs import parse_kubeconfig
from services.chassis.messages import Phase
from tests.testbed.bodies import config_map
from tests.testbed.clusters import Cluster
from tests.testbed.meshery import Meshery
from tests.testbed.recipe import ISTIO_VERSION
from tests.testbed.stack import Stack
from tests.testbed.stored import admin_bus, message_count, stored_events

GARBAGE = {
    "not a message": b"\x00\xff garbage",
    "not a command": b'{"hello": "world"}',
    "nothing": b"",
    "wrong types": b'{"operation": 1, "kind": []}',
}


@pytest.mark.leaves_whole
async def test_the_same_operation_twice_runs_once(
    frail: Stack, client: Meshery, cluster: Cluster
) -> None:
    operation = await client.apply("istio", version=ISTIO_VERSION)
    again = await client.apply("istio", version=ISTIO_VERSION, operation=operation)
    await client.finals(operation)
    late = await client.apply("istio", version=ISTIO_VERSION, operation=operation)
    assert operation == again == late
    # Another operation behind it shows that nothing more came of the repeats.
    await client.run("custom", body=config_map("behind"))
    events = await stored_events(frail, operation)
    assert [event.phase for event in events].count(Phase.STARTED) == 1
    assert [event.phase for event in events].count(Phase.DONE) == 1
    with pytest.raises(grpc.aio.AioRpcError) as reused:
        await client.apply("istio", delete=True, operation=operation)
    assert reused.value.code() is grpc.StatusCode.ALREADY_EXISTS
    cluster.kubectl("delete", "cm", "behind")


@pytest.mark.parametrize("body", GARBAGE.values(), ids=GARBAGE.keys())
@pytest.mark.leaves_whole
async def test_garbage_goes_to_dlq_once_and_frees_the_slot(
    body: bytes, frail: Stack, client: Meshery, cluster: Cluster
) -> None:
    token = parse_kubeconfig(cluster.kubeconfig_text).cluster
    async with admin_bus(frail) as bus:
        before = await message_count(bus, "DLQ")
        await bus.client.jetstream().publish(f"cmd.lifecycle.{token}.mesh", body)
        await _until_count(bus, "CMD", 0)
        await _until_count(bus, "DLQ", before + 1)
        buried = await bus.client.jetstream().get_last_msg("DLQ", "dlq.lifecycle")
        assert (buried.headers or {})["Meshbus-Reason"].startswith("MB-2003")
        # The slot is free: the next command of the cluster is accepted and ends.
        final = await client.run("istio", delete=True)
        assert not final.failed, final.event
        assert await message_count(bus, "DLQ") == before + 1


async def _until_count(bus: Bus, stream: str, count: int) -> None:
    async with asyncio.timeout(60):
        while await message_count(bus, stream) != count:
            await asyncio.sleep(0.05)
