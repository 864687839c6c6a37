"""Every test here drives fortio, a program of the bed."""

from __future__ import annotations

import pytest

from tests.testbed.kube_fixtures import second_cluster


@pytest.fixture(autouse=True)
def _built(built: None) -> None:
    """Waits until the bed is built."""
