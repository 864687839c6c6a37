"""The servers of releases, and the bus that their leases are on."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.testbed.bus_fixtures import bus, name, own_bus, own_server, server, shared_server
from tests.testbed.releases import ReleaseServer, serving


@pytest.fixture
async def mirror() -> AsyncIterator[ReleaseServer]:
    async with serving() as mirror:
        yield mirror
