"""Clients of the shared cluster, straight or through a proxy that can break."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Iterator

import pytest

from services.chassis.kube.applying import Applier
from services.chassis.kube.client import KubeClient
from services.chassis.kube.kubeconfigs import parse_kubeconfig
from services.chassis.kube.readiness import Readiness
from services.chassis.kube.resources import Resources
from tests.testbed.clusters import Cluster
from tests.testbed.proxies import FaultProxy


@pytest.fixture(scope="package")
def second_cluster(built: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster beside the shared one, for operations on several. It ends with the folder whose
    conftest has it: three hundredths of a processor go into one that nobody asks."""
    with Cluster(tmp_path_factory.mktemp("second"), name="second") as running:
        yield running


@pytest.fixture
async def client(cluster: Cluster) -> AsyncIterator[KubeClient]:
    """The administrator's, with a client certificate."""
    async with KubeClient(parse_kubeconfig(cluster.kubeconfig_text)) as client:
        yield client


@pytest.fixture
def proxy(cluster: Cluster) -> Iterator[FaultProxy]:
    """In front of the API server."""
    with FaultProxy(int(cluster.server_url.rpartition(":")[2])) as proxy:
        yield proxy


@pytest.fixture
async def proxied(cluster: Cluster, proxy: FaultProxy) -> AsyncIterator[KubeClient]:
    """The administrator's client, through the proxy."""
    text = cluster.kubeconfig_through(f"https://{proxy.address}")
    async with KubeClient(parse_kubeconfig(text)) as client:
        yield client


@pytest.fixture
def resources(client: KubeClient) -> Resources:
    return Resources(client)


@pytest.fixture
def applier(client: KubeClient, resources: Resources) -> Applier:
    return Applier(client, resources)


@pytest.fixture
def readiness(client: KubeClient, resources: Resources) -> Readiness:
    return Readiness(client, resources)


@pytest.fixture
def name() -> str:
    """A name that no other test has."""
    return f"t{secrets.token_hex(6)}"


@pytest.fixture
def namespace(cluster: Cluster, name: str) -> Iterator[str]:
    """A namespace for one test alone."""
    cluster.api.request("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
    yield name
    cluster.api.request("DELETE", f"/api/v1/namespaces/{name}")
