"""Command queues on the shared server and on a test's own."""

from __future__ import annotations

from datetime import timedelta

import pytest

from services.chassis.bus.connection import Bus
from tests.real.chassis.bus.queues import Queue
from tests.testbed.bus_fixtures import (
    bus,
    name,
    own_bus,
    own_server,
    publisher,
    server,
    shared_server,
)


@pytest.fixture
async def queue(bus: Bus, name: str) -> Queue:
    """A command queue of this test's own on the shared server."""
    return await Queue(bus, service=name).create(ack_wait=timedelta(seconds=30))


@pytest.fixture
async def own_queue(own_bus: Bus, name: str) -> Queue:
    """The same on this test's own server."""
    return await Queue(own_bus, service=name).create(ack_wait=timedelta(seconds=30))
