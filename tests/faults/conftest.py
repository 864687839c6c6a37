"""A stack whose workers are given up soon, so that a takeover takes seconds."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.testbed.clusters import Cluster
from tests.testbed.meshery import Meshery, without_istio
from tests.testbed.stack import Stack

ACK_WAIT_S = 3


@pytest.fixture
def frail(built: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack of its own for each test: what a test breaks stays broken for nobody else."""
    with Stack(
        tmp_path_factory.mktemp("frail"), settings={"MESHBUS_ACK_WAIT": f"{ACK_WAIT_S}s"}
    ) as running:
        yield running


@pytest.fixture
async def client(frail: Stack, cluster: Cluster) -> AsyncIterator[Meshery]:
    """A connected Meshery; the cluster is without Istio before and after."""
    async with Meshery(frail.gateway_address, [cluster.kubeconfig_text]).connected() as connected:
        await without_istio(connected, cluster)
        yield connected
        await without_istio(connected, cluster)
