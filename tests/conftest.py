"""What several suites share: the built bed, and one cluster for whoever leaves it as it was."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.testbed import building
from tests.testbed.clusters import Cluster


@pytest.fixture(scope="session")
def built() -> None:
    """The bed's binaries and distributions; a first build takes minutes."""
    building.build_all()


@pytest.fixture(scope="session")
def cluster(built: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One real cluster for the whole run; each test works in a namespace of its own."""
    with Cluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster
