"""A shared nats-server for what perf keeps on it."""

from __future__ import annotations

from tests.testbed.bus_fixtures import bus, name, own_bus, own_server, server, shared_server

__all__ = ["bus", "name", "own_bus", "own_server", "server", "shared_server"]
