"""The operation `istio` where istiod runs: readiness is istiod's own, and its webhooks answer."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.testbed.clusters import has_condition
from tests.testbed.meshery import Received
from tests.testbed.processes import BedError
from tests.testbed.realclusters import RealCluster

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


def test_istiods_webhook_judges_when_the_install_ends(mesh: RealCluster) -> None:
    with pytest.raises(BedError, match=r"validation\.istio\.io.*weight"):
        mesh.kubectl("apply", "--filename=-", stdin=json.dumps(_BROKEN))
