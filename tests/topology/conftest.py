"""One stack for the topology tests beside the shared cluster, which it watches."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from services.chassis.kube.kubeconfigs import parse_kubeconfig
from tests.system.bodies import config_map
from tests.system.meshery import Meshery
from tests.testbed.clusters import Cluster
from tests.testbed.stack import Stack
from tests.topology.seeing import Seeing, seeing

QUICK = {"MESHBUS_ACK_WAIT": "5s", "MESHBUS_TOPOLOGY_TELEMETRY_EVERY": "1s"}
"""A lease lives two ack waits, and takeovers are waited for."""


@pytest.fixture(scope="session")
def topology_stack(built: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Stack(tmp_path_factory.mktemp("topology"), settings=QUICK) as running:
        yield running


@pytest.fixture(scope="session")
async def topology_meshery(topology_stack: Stack, cluster: Cluster) -> AsyncIterator[Meshery]:
    """A Meshery that has registered the shared cluster by a first operation."""
    meshery = Meshery(topology_stack.gateway_address, [cluster.kubeconfig_text])
    async with meshery.connected():
        await meshery.run("custom", body=config_map("registered"))
        await meshery.run("custom", body=config_map("registered"), delete=True)
        yield meshery


@pytest.fixture(scope="session")
def token(cluster: Cluster) -> str:
    """The shared cluster's token."""
    return parse_kubeconfig(cluster.kubeconfig_text).cluster


@pytest.fixture(scope="session")
async def seen(
    topology_stack: Stack, topology_meshery: Meshery, token: str
) -> AsyncIterator[Seeing]:
    """The topology service, which watches the shared cluster."""
    async with seeing(topology_stack) as found:
        await found.watched(token)
        yield found
