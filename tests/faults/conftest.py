"""Stacks whose workers are given up soon, so that a takeover takes seconds.

A module names the services that it needs by the mark `services`; a test that leaves them whole has
the mark `leaves_whole` and shares one stack with others of its kind.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.testbed.clusters import Cluster
from tests.testbed.kube_fixtures import second_cluster
from tests.testbed.meshery import Meshery, without_istio
from tests.testbed.stack import SERVICES, Stack

ACK_WAIT_S = 3
_SETTINGS = {"MESHBUS_ACK_WAIT": f"{ACK_WAIT_S}s"}


@pytest.fixture
def frail(
    request: pytest.FixtureRequest, built: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stack]:
    """A stack of its own for each test: what a test breaks stays broken for nobody else."""
    if request.node.get_closest_marker("leaves_whole"):
        yield request.getfixturevalue("whole")
        return
    mark = request.node.get_closest_marker("services")
    services = mark.args if mark else SERVICES
    with Stack(
        tmp_path_factory.mktemp("frail"), services=services, settings=_SETTINGS, warm=True
    ) as running:
        yield running


@pytest.fixture(scope="session")
def whole(built: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The stack of tests that break none of its processes."""
    with Stack(
        tmp_path_factory.mktemp("whole"),
        services=("lifecycle", "translator", "gateway"),
        settings=_SETTINGS,
        warm=True,
    ) as running:
        yield running


@pytest.fixture
async def client(frail: Stack, cluster: Cluster) -> AsyncIterator[Meshery]:
    """A connected Meshery; the cluster is without Istio before and after."""
    async with Meshery(frail.gateway_address, [cluster.kubeconfig_text]).connected() as connected:
        await without_istio(connected, cluster)
        yield connected
        await without_istio(connected, cluster)
