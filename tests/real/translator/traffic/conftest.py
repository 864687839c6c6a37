"""One mesh for the whole folder; a shop of its own, or the guarded workloads, for each test."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import pytest

from tests.real.translator.traffic.guards import NAMESPACE, TRUST_DOMAIN, Guard, facts_about
from tests.real.translator.traffic.meshes import Mesh
from tests.real.translator.traffic.shops import LINES, Shop
from tests.real.translator.traffic.translated import Translated
from tests.testbed.backends import Backend
from tests.testbed.clusters import Cluster
from tests.testbed.processes import wait_until
from tests.testbed.visitors import Answer, Request, Visitor

_TIMEOUT_S = 60.0
_POLICIES = ("authorizationpolicies", "peerauthentications")


@pytest.fixture(scope="session")
def mesh(built: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    """In a cluster of its own: the shared one is compared before and after by other tests."""
    folder = tmp_path_factory.mktemp("traffic")
    with (
        Cluster(folder / "cluster", name="traffic") as cluster,
        Mesh(folder / "mesh", cluster=cluster) as mesh,
    ):
        yield mesh


@pytest.fixture(scope="session")
def backends(mesh: Mesh) -> dict[str, Backend]:
    """Servers of all shops, named like the services."""
    names = ("app-svc", "app-b", "app-c", "app-d")
    tcp_names = ("tcp-svc", "tcp-b", "tcp-c")
    return {name: mesh.servers.add(name) for name in names} | {
        name: mesh.servers.add_tcp(name) for name in tcp_names
    }


@pytest.fixture
def shop(mesh: Mesh, backends: dict[str, Backend]) -> Iterator[Shop]:
    """An empty namespace for services."""
    name = f"shop-{secrets.token_hex(4)}"
    mesh.cluster.api.request("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
    yield Shop(mesh.cluster, name, ports=mesh.ports, backends=backends)
    mesh.cluster.api.request("DELETE", f"/api/v1/namespaces/{name}")


@pytest.fixture
def line(mesh: Mesh, backends: dict[str, Backend]) -> Iterator[Shop]:
    """For services whose connections are split; empty again afterwards."""
    yield Shop(mesh.cluster, LINES, ports=mesh.ports, backends=backends)
    for plural in ("virtualservices", "serviceentries"):
        path = f"/apis/networking.istio.io/v1/namespaces/{LINES}/{plural}"
        mesh.cluster.api.request("DELETE", path)


@pytest.fixture
def guards(mesh: Mesh) -> Iterator[dict[str, Guard]]:
    """The guarded workloads by name, open to everyone at first."""
    guards = {guard.name: guard for guard in mesh.guards}
    wait_until(
        lambda: all(_is_open(mesh, guard) for guard in guards.values()),
        timeout_s=_TIMEOUT_S,
        what="the guarded workloads to be open again",
    )
    yield guards
    for plural in _POLICIES:
        path = f"/apis/security.istio.io/v1/namespaces/{NAMESPACE}/{plural}"
        mesh.cluster.api.request("DELETE", path)


@pytest.fixture
def access(mesh: Mesh, guards: dict[str, Guard]) -> Translated:
    """For SMI objects about the guarded workloads."""
    return Translated(
        mesh.cluster,
        facts=facts_about(list(guards.values())),
        trust_domain=TRUST_DOMAIN,
        settle=mesh.policies.wait,
    )


def _is_open(mesh: Mesh, guard: Guard) -> bool:
    answers = {
        mesh.visitor(guard.port, "anyone").ask(Request()),
        Visitor(guard.port).ask(Request()),
    }
    return answers == {Answer(200, guard.name)}
