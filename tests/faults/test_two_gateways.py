"""Two gateways behind one address: every stream is whole, whichever of them accepts or goes."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass

import pytest

from services.gateway import wire
from tests.testbed import loopback
from tests.testbed.bodies import config_map
from tests.testbed.clusters import Cluster
from tests.testbed.meshery import Meshery, Received
from tests.testbed.proxies import FaultProxy
from tests.testbed.stack import Stack
from tests.testbed.stored import stored_events
from tests.testbed.waiting import eventually

GATEWAYS = ("gateway", "gateway-2")
CLIENTS = 4
WITHIN_S = 120.0


@dataclass(slots=True)
class Doubled:
    """A stack with two gateways, and the one address that clients know."""

    stack: Stack
    balancer: FaultProxy

    def meshery(self, cluster: Cluster) -> Meshery:
        return Meshery(self.balancer.address, [cluster.kubeconfig_text])

    def streams(self) -> list[float]:
        """Streams that each living gateway serves."""
        return [_streams(self.stack, name) for name in GATEWAYS if self._lives(name)]

    def serving(self) -> str:
        """The gateway that serves the only stream."""
        [name] = [name for name in GATEWAYS if self._lives(name) and _streams(self.stack, name)]
        return name

    def _lives(self, name: str) -> bool:
        return self.stack.processes[name].is_running


def _streams(stack: Stack, name: str) -> float:
    text = loopback.fetch(f"{stack.health_url(name)}/metrics").decode()
    lines = [line.split() for line in text.splitlines()]
    return sum(float(words[1]) for words in lines if words[0] == "meshbus_event_streams")


@pytest.fixture
def doubled(whole: Stack) -> Iterator[Doubled]:
    """The second gateway is of the test alone, and the first is running again afterwards."""
    port = loopback.take_port()
    whole.add("gateway", name="gateway-2", settings={"MESHBUS_GATEWAY_PORT": str(port)})
    whole.wait_ready("gateway-2")
    try:
        with FaultProxy(whole.gateway_port, port) as balancer:
            yield Doubled(whole, balancer)
    finally:
        whole.processes.pop("gateway-2").stop()
        if not whole.processes["gateway"].is_running:
            whole.processes["gateway"].start()
            whole.wait_ready("gateway")


@pytest.mark.services("lifecycle", "translator", "gateway")
async def test_every_stream_has_the_events_of_operations_that_either_accepted(
    doubled: Doubled, cluster: Cluster
) -> None:
    async with AsyncExitStack() as opened:
        clients = [
            await opened.enter_async_context(doubled.meshery(cluster).connected())
            for _ in range(CLIENTS)
        ]
        await eventually(
            lambda: doubled.streams() == [CLIENTS / 2] * 2, what="streams on both gateways"
        )
        # Each client's calls go the way of its stream, so both gateways accept.
        operations = [await client.accepted("custom", body=_body()) for client in clients * 2]
        for operation in operations:
            told = await _told(doubled.stack, clients[0], operation)
            for client in clients:
                assert [_key(r) for r in await _whole(client, operation, len(told))] == told


@pytest.mark.services("lifecycle", "translator", "gateway")
async def test_a_client_goes_on_at_its_mark_when_its_gateway_is_killed(
    doubled: Doubled, cluster: Cluster
) -> None:
    async with doubled.meshery(cluster).connected() as client:
        await eventually(lambda: sum(doubled.streams()) == 1, what="the stream")
        begun: list[str] = []
        is_over = asyncio.Event()

        async def ask() -> None:
            while not is_over.is_set():
                begun.append(await client.accepted("custom", body=_body()))

        asking = asyncio.create_task(ask())
        try:
            await client.until(lambda: len(client.events) >= 10, within_s=WITHIN_S)
            # Some of what it has written lies unread in the client's library, and goes with it.
            doubled.stack.processes[doubled.serving()].kill()
            before = len(begun)
            await eventually(lambda: len(begun) >= before + 5, what="operations of the other one")
        finally:
            is_over.set()
            await asking
        assert client.connections >= 1
        for operation in begun:
            told = await _told(doubled.stack, client, operation)
            got = [_key(r) for r in await _whole(client, operation, len(told))]
            assert list(dict.fromkeys(got)) == told, "something was missed, or out of order"


def _body() -> str:
    return config_map(f"g{secrets.token_hex(4)}")


def _key(received: Received) -> str:
    return str(received.event.summary)


async def _told(stack: Stack, client: Meshery, operation: str) -> list[str]:
    """All events of an operation that has ended, as the stream has them."""
    await client.finals(operation, within_s=WITHIN_S)
    return [
        str(wire.events_response(event).summary) for event in await stored_events(stack, operation)
    ]


async def _whole(client: Meshery, operation: str, count: int) -> list[Received]:
    await client.until(
        lambda: len({_key(r) for r in client.of(operation)}) >= count, within_s=WITHIN_S
    )
    return client.of(operation)
