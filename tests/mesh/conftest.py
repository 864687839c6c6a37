"""One cluster with a real node and one mesh for the whole suite, and Meshbus beside them."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from tests.testbed import building, obstacles
from tests.testbed.callers import Caller
from tests.testbed.meshery import Meshery, Received
from tests.testbed.nodes import NETWORK
from tests.testbed.realclusters import RealCluster
from tests.testbed.recipe import ISTIO_VERSION
from tests.testbed.snapshots import differences, dying_namespaces, snapshot
from tests.testbed.stack import Stack
from tests.testbed.waiting import eventually

_INSTALL_WITHIN_S = 200.0


@pytest.fixture(scope="session")
def nodes_built(built: None) -> None:
    """What a real node needs beyond the bed; where the machine cannot have one, it says why."""
    if why := obstacles.obstacle():
        pytest.skip(f"no real node on this machine: {why}")
    building.build_nodes()


@pytest.fixture(scope="package")
def real_cluster(
    nodes_built: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RealCluster]:
    with RealCluster(tmp_path_factory.mktemp("real")) as running:
        yield running


@pytest.fixture(scope="package")
def stack(nodes_built: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Stack(
        tmp_path_factory.mktemp("stack"),
        settings={
            "MESHBUS_TOPOLOGY_PROXIES_EVERY": "1s",
            # Nodes are in a range that no installation has.
            "MESHBUS_PERF_TARGETS": NETWORK,
        },
    ) as running:
        yield running


@pytest.fixture(scope="package")
async def meshery(stack: Stack, real_cluster: RealCluster) -> AsyncIterator[Meshery]:
    """A Meshery that has the real cluster selected."""
    kubeconfigs = [real_cluster.kubeconfig_text]
    async with Meshery(stack.gateway_address, kubeconfigs).connected() as connected:
        yield connected


@pytest.fixture(scope="package")
async def install(meshery: Meshery, real_cluster: RealCluster) -> AsyncIterator[list[Received]]:
    """The events of an install without options; the mesh stays for the suite.

    Its removal, after all that the suite did with it, leaves nothing of it in the cluster.
    """
    before = await asyncio.to_thread(snapshot, real_cluster)
    operation = await meshery.apply("istio", version=ISTIO_VERSION)
    [final] = await meshery.finals(operation, within_s=_INSTALL_WITHIN_S)
    assert not final.failed, final.event
    yield meshery.of(operation)
    await eventually(
        lambda: not dying_namespaces(real_cluster), what="the tests' namespaces to go", within_s=120
    )
    removed = await meshery.run("istio", delete=True)
    assert not removed.failed, removed.event
    assert differences(before, await asyncio.to_thread(snapshot, real_cluster)) == []


@pytest.fixture(scope="package")
def mesh(install: list[Received], real_cluster: RealCluster) -> RealCluster:
    """The cluster with Istio in it."""
    return real_cluster


@pytest.fixture(scope="module")
async def injected(mesh: RealCluster, meshery: Meshery) -> AsyncIterator[str]:
    """A namespace whose pods get sidecars."""
    async with _injected(mesh, meshery) as name:
        yield name


@pytest.fixture(scope="module")
async def caller(mesh: RealCluster, injected: str) -> Caller:
    """A workload of the mesh that sends requests."""
    return await _started(Caller(mesh, namespace=injected))


@pytest.fixture(scope="module")
async def shop(mesh: RealCluster, meshery: Meshery) -> AsyncIterator[Caller]:
    """A caller beside Bookinfo, in a namespace whose pods have sidecars. Who routes its requests
    takes that back."""
    async with _injected(mesh, meshery) as name:
        installed = await meshery.run("bookinfo", namespace=name)
        assert not installed.failed, installed.event
        yield await _started(Caller(mesh, namespace=name))
        # Else all of it would be drift, for nobody has asked to have it gone.
        removed = await meshery.run("bookinfo", namespace=name, delete=True)
        assert not removed.failed, removed.event


@asynccontextmanager
async def _injected(mesh: RealCluster, meshery: Meshery) -> AsyncIterator[str]:
    name = f"t{secrets.token_hex(4)}"
    await asyncio.to_thread(mesh.kubectl, "create", "namespace", name)
    labelled = await meshery.run("label-namespace", namespace=name)
    assert not labelled.failed, labelled.event
    yield name
    # Pods with sidecars take half a minute to end: the next test has a namespace of its own.
    await asyncio.to_thread(mesh.kubectl, "delete", "namespace", name, "--wait=false")


async def _started(caller: Caller) -> Caller:
    await asyncio.to_thread(caller.start)
    await asyncio.to_thread(caller.wait_ready)
    return caller
