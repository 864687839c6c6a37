"""A gateway of the mesh on loopback: a real Envoy under a real istiod."""

from __future__ import annotations

from pathlib import Path

from tests.testbed import loopback
from tests.testbed.clusters import Cluster
from tests.testbed.entries import apply, istio_object
from tests.testbed.envoys import Envoy, Workload
from tests.testbed.istiods import Istiod
from tests.testbed.processes import wait_until
from tests.testbed.visitors import Visitor

_READY_TIMEOUT_S = 15.0


class Edge:
    """A vanilla Envoy as an Istio gateway, with the Gateway object that it serves."""

    def __init__(
        self, folder: Path, *, cluster: Cluster, istiod: Istiod, namespace: str, name: str = "edge"
    ) -> None:
        """The namespace must be there, and Istio's definitions."""
        self.port = loopback.take_port()
        self.visitor = Visitor(self.port)
        self.gateway = f"{namespace}/{name}"
        """How VirtualServices name it."""
        labels = {"gateway": name}
        workload = Workload(namespace=namespace, name=name, labels=labels, kind="router")
        self.envoy = Envoy(folder, istiod=istiod, workload=workload)
        self._cluster = cluster
        server = {
            "hosts": ["*"],
            "port": {"number": self.port, "name": "http", "protocol": "HTTP"},
            "bind": loopback.HOST,
        }
        spec = {"selector": labels, "servers": [server]}
        self._object = istio_object("Gateway", name=name, namespace=namespace, spec=spec)

    def __enter__(self) -> Edge:
        self.start()
        return self

    def __exit__(self, failure: type[BaseException] | None, *details: object) -> None:
        self.envoy.__exit__(failure, *details)

    def start(self) -> None:
        """Starts Envoy and waits until it listens; hosts without a rule get 404."""
        apply(self._cluster, [self._object])
        self.envoy.start()
        wait_until(
            lambda: self.envoy.is_listening(self.port),
            timeout_s=_READY_TIMEOUT_S,
            what="the edge to listen",
            processes=[self.envoy.process],
        )
