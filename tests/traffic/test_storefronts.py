"""The bed's storefront, which the demo shows: a mesh of its own at the edge of any cluster."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.chassis.messages.facts import ClusterFacts, ServiceFact, ServicePort
from services.translator.options import Options
from services.translator.smi import translate
from tests.testbed import entries
from tests.testbed.edges import Storefront
from tests.testbed.visitors import Request
from tests.traffic import smi
from tests.traffic.meshes import Mesh

_REQUESTS = 50


@pytest.fixture
def store(mesh: Mesh, tmp_path: Path) -> Iterator[Storefront]:
    """In the cluster of the shared mesh, with another istiod."""
    name = f"store-{secrets.token_hex(4)}"
    mesh.cluster.api.request("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
    with Storefront(tmp_path, cluster=mesh.cluster, namespace=name) as store:
        yield store
    mesh.cluster.api.request("DELETE", f"/api/v1/namespaces/{name}")


def test_split_decides_who_answers_at_the_edge(mesh: Mesh, store: Storefront) -> None:
    wanted = Request(host=store.host("app-svc"))
    assert store.edge.visitor.ask(wanted).status == 404

    split = smi.split(store.namespace, {"app-b": 1, "app-c": 1}, gateways=(store.edge.gateway,))
    translation = translate(
        [split], known=[], facts=_facts(store), options=Options(), trust_domain="cluster.local"
    )
    entries.apply(mesh.cluster, translation.objects)
    store.wait_served("app-svc")
    answers = store.edge.visitor.ask_often(wanted, _REQUESTS)

    # All to one of two has the chance 2 * 2**-50.
    assert answers.keys() == {"200 app-b", "200 app-c"}
    # The one request beside these was the one that was waited with.
    received = [sum(store.backends[name].requests.values()) for name in ("app-b", "app-c")]
    assert sum(received) == _REQUESTS + 1
    assert not store.backends["app-svc"].requests


def _facts(store: Storefront) -> ClusterFacts:
    ports = [ServicePort(port=store.port, name="http")]
    services = [
        ServiceFact(namespace=store.namespace, name=name, ports=ports) for name in store.backends
    ]
    return ClusterFacts(services=services, read_namespaces=[store.namespace])
