"""The way into a real mesh from the machine: its ingress gateway, at a port of the node."""

from __future__ import annotations

from typing import Any

from tests.testbed.entries import istio_object
from tests.testbed.realclusters import RealCluster

_SERVICE = "/api/v1/namespaces/istio-system/services/istio-ingressgateway"


def entrance(name: str, *, namespace: str) -> dict[str, Any]:
    """A Gateway that takes requests for all hosts; what becomes of them is a VirtualService's."""
    server = {"hosts": ["*"], "port": {"number": 80, "name": "http", "protocol": "HTTP"}}
    spec = {"selector": {"istio": "ingressgateway"}, "servers": [server]}
    return istio_object("Gateway", name=name, namespace=namespace, spec=spec)


def url_of_entrance(cluster: RealCluster) -> str:
    """Where the gateway takes requests, once Istio is installed."""
    ports = cluster.api.request("GET", _SERVICE)["spec"]["ports"]
    number = next(port["nodePort"] for port in ports if port["name"] == "http2")
    return f"http://{cluster.node.address}:{number}"
