"""Gateways: one that a module's tests share, and a fresh one for tests that count events."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.real.gateway.rig import Rig, rigged
from tests.testbed.bus_fixtures import bus, own_bus, own_server, server, shared_server


@pytest.fixture(scope="module")
async def rig(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    """A gateway that the tests of a module share: each uses ids and clusters of its own."""
    async with rigged(tmp_path_factory.mktemp("gateway")) as shared:
        yield shared


@pytest.fixture
async def fresh(tmp_path: Path) -> AsyncIterator[Rig]:
    """A gateway on an empty bus."""
    async with rigged(tmp_path) as alone:
        yield alone
