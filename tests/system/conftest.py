"""One stack for the system tests: NATS, gateway, lifecycle and Jaeger beside the shared cluster."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.testbed.clusters import Cluster
from tests.testbed.kube_fixtures import second_cluster
from tests.testbed.meshery import Meshery, without_istio
from tests.testbed.recipe import ISTIO_VERSION
from tests.testbed.stack import Stack
from tests.testbed.tracing import Jaeger


@pytest.fixture(scope="package")
def jaeger(built: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Jaeger]:
    with Jaeger(tmp_path_factory.mktemp("jaeger")) as running:
        yield running


@pytest.fixture(scope="package")
def stack(jaeger: Jaeger, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Stack(
        tmp_path_factory.mktemp("stack"), otlp_endpoint=jaeger.otlp_http_endpoint
    ) as running:
        yield running


@pytest.fixture(scope="package")
async def meshery(stack: Stack, cluster: Cluster) -> AsyncIterator[Meshery]:
    """A Meshery that has the shared cluster selected."""
    async with Meshery(stack.gateway_address, [cluster.kubeconfig_text]).connected() as connected:
        yield connected


@pytest.fixture(scope="package")
def istio_cluster(cluster: Cluster) -> Cluster:
    """The shared cluster, for tests between which Istio comes and goes: they stay together."""
    return cluster


@pytest.fixture
async def bare(meshery: Meshery, istio_cluster: Cluster) -> AsyncIterator[Cluster]:
    """The cluster without Istio, before and after the test."""
    await without_istio(meshery, istio_cluster)
    yield istio_cluster
    await without_istio(meshery, istio_cluster)


@pytest.fixture(scope="module")
async def left_bare(meshery: Meshery, istio_cluster: Cluster) -> AsyncIterator[Cluster]:
    """The cluster, without Istio when the module ends."""
    yield istio_cluster
    await without_istio(meshery, istio_cluster)


@pytest.fixture
async def meshed(meshery: Meshery, left_bare: Cluster) -> Cluster:
    """The cluster with Istio as an install without options leaves it. It stays for the next test:
    to mend a mesh takes a fraction of what it takes to install and remove one."""
    installed = await meshery.run("istio", version=ISTIO_VERSION)
    assert not installed.failed, installed.event
    return left_bare
