"""Helm, and each rendering of the chart once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.real.deploy.charts import SWITCHES, Helm, Object
from tests.testbed.kube_fixtures import name, namespace


@pytest.fixture(scope="session")
def helm(built: None, tmp_path_factory: pytest.TempPathFactory) -> Helm:
    """Without a cluster."""
    return Helm(tmp_path_factory.mktemp("helm"))


@pytest.fixture(scope="session")
def renderings(helm: Helm) -> dict[str, list[Object]]:
    """The chart's objects for each of the switches."""
    return {name: helm.rendered(values) for name, values in SWITCHES.items()}


@pytest.fixture(params=SWITCHES)
def rendering(request: pytest.FixtureRequest, renderings: dict[str, list[Object]]) -> list[Object]:
    """One after the other."""
    return renderings[request.param]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder for a helm that talks to a cluster."""
    return tmp_path / "helm"
