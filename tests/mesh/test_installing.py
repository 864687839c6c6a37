"""The operation `istio` where istiod runs: readiness is istiod's own, and its webhooks answer."""

from __future__ import annotations

import json
from typing import Any

from tests.testbed.clusters import has_condition
from tests.testbed.meshery import Received
from tests.testbed.processes import BedError
from tests.testbed.realclusters import RealCluster
from tests.testbed.waiting import eventually

_BROKEN = {
    "apiVersion": "networking.istio.io/v1",
    "kind": "VirtualService",
    "metadata": {"name": "broken", "namespace": "default"},
    "spec": {
        "hosts": ["somewhere.example"],
        "http": [{"route": [{"destination": {"host": "a.example"}, "weight": -5}]}],
    },
}


def _pods(cluster: RealCluster, namespace: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = cluster.api.request(
        "GET", f"/api/v1/namespaces/{namespace}/pods"
    )["items"]
    return found


def test_components_run_when_the_install_ends(install: list[Received], mesh: RealCluster) -> None:
    texts = [received.event.summary for received in install]
    for name in ("istiod", "istio-ingressgateway"):
        assert any(f"Deployment istio-system/{name} is ready" in text for text in texts)
    pods = _pods(mesh, "istio-system")
    assert {pod["metadata"]["labels"]["app"] for pod in pods} == {"istiod", "istio-ingressgateway"}
    assert all(has_condition(pod, "Ready") for pod in pods)


async def test_istiods_webhook_judges_soon_after_the_install(mesh: RealCluster) -> None:
    """Until istiod has seen itself refuse, the API server may let pass what it cannot ask about."""

    def refuses() -> bool:
        try:
            mesh.kubectl("apply", "--dry-run=server", "--filename=-", stdin=json.dumps(_BROKEN))
        except BedError as error:
            return "validation.istio.io" in str(error) and "weight" in str(error)
        return False

    await eventually(refuses, what="istiod to refuse a negative weight")
