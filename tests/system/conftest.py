"""One stack for the system tests: NATS, gateway, lifecycle and Jaeger beside the shared cluster."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field

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


@dataclass(slots=True)
class Turns:
    """Two clusters in turn. Istio leaves one of them while a test has the other: Kubernetes lets
    five seconds pass before it empties a namespace."""

    meshery: Meshery
    clusters: deque[Cluster]
    _leaving: dict[str, asyncio.Task[None]] = field(default_factory=dict)

    async def take(self) -> Cluster:
        """The next one, without Istio."""
        self.clusters.rotate()
        if leaving := self._leaving.pop(self.clusters[0].name, None):
            await leaving
        return self.clusters[0]

    def give_back(self, cluster: Cluster) -> None:
        """Istio begins to leave it."""
        self._leaving[cluster.name] = asyncio.create_task(without_istio(self.meshery, cluster))

    async def end(self) -> None:
        """Waits until Istio has left both."""
        await asyncio.gather(*self._leaving.values())


@pytest.fixture(scope="package")
async def turns(
    meshery: Meshery, istio_cluster: Cluster, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Turns]:
    """Beside the shared cluster, which others look at meanwhile; on the same worker as what has
    Istio come and go there."""
    folder = tmp_path_factory.mktemp("turns")
    with Cluster(folder / "a", name="bare-a") as a, Cluster(folder / "b", name="bare-b") as b:
        turns = Turns(meshery, deque([a, b]))
        yield turns
        await turns.end()


@pytest.fixture
async def bare(meshery: Meshery, turns: Turns) -> AsyncIterator[Cluster]:
    """A cluster without Istio, which Meshery has selected for the test."""
    cluster = await turns.take()
    selected, meshery.kubeconfigs = meshery.kubeconfigs, [cluster.kubeconfig_text]
    yield cluster
    meshery.kubeconfigs = selected
    turns.give_back(cluster)


@pytest.fixture(scope="module")
async def left_bare(meshery: Meshery, istio_cluster: Cluster) -> AsyncIterator[Cluster]:
    """The shared cluster, without Istio when the module ends."""
    yield istio_cluster
    await without_istio(meshery, istio_cluster)


@pytest.fixture
async def meshed(meshery: Meshery, left_bare: Cluster) -> Cluster:
    """The shared cluster with Istio as an install without options leaves it. It stays for the next
    test: to mend a mesh takes a fraction of what it takes to install and remove one."""
    installed = await meshery.run("istio", version=ISTIO_VERSION)
    assert not installed.failed, installed.event
    return left_bare
