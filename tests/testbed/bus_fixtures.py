"""A shared nats-server for what leaves it whole, and a fresh one for what kills or stops it."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from services.chassis.bus import streams
from services.chassis.bus.connection import Bus
from services.chassis.bus.publishing import Publisher
from tests.testbed.buses import NatsServer, connected

ACK_WAIT = timedelta(seconds=1)
LEASE_TTL = timedelta(seconds=1)


@pytest.fixture(scope="session")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    with NatsServer(tmp_path_factory.mktemp("nats")) as server:
        yield server


@pytest.fixture(scope="session")
async def server(shared_server: NatsServer) -> NatsServer:
    """With all streams; tests share it, so each keeps to subjects and keys of its own."""
    await _apply(shared_server)
    return shared_server


@pytest.fixture
async def own_server(tmp_path: Path) -> AsyncIterator[NatsServer]:
    """With all streams, for one test alone."""
    with NatsServer(tmp_path / "nats") as server:
        await _apply(server)
        yield server


async def _apply(server: NatsServer) -> None:
    async with connected(server.url) as bus:
        await streams.reconcile(bus.client, ack_wait=ACK_WAIT, lease_ttl=LEASE_TTL)


@pytest.fixture
async def bus(server: NatsServer) -> AsyncIterator[Bus]:
    """A connection to the shared server."""
    async with connected(server.url) as bus:
        yield bus


@pytest.fixture
async def own_bus(own_server: NatsServer) -> AsyncIterator[Bus]:
    """A connection to this test's own server."""
    async with connected(own_server.url) as bus:
        yield bus


@pytest.fixture
def publisher(bus: Bus) -> Publisher:
    return Publisher(bus)


@pytest.fixture
def name() -> str:
    """A token that no other test has: a service, a cluster, an operation or a key."""
    return f"t{secrets.token_hex(6)}"
