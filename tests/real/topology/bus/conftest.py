"""The servers and connections of the bus's own tests."""

from __future__ import annotations

from tests.testbed.bus_fixtures import (
    bus,
    name,
    own_bus,
    own_server,
    publisher,
    server,
    shared_server,
)
