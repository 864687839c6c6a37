"""A gateway of the mesh on loopback, and a small shop behind it.

with Shop(folder, cluster=cluster, namespace="shop") as shop:
    ...  # apply a TrafficSplit with the annotation meshbus.io/gateways: shop.edge.gateway
    shop.edge.visitor.ask_often(Request(host=shop.host("app-svc")), 100)
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from tests.testbed import loopback
from tests.testbed.backends import Backend, Backends
from tests.testbed.clusters import Cluster
from tests.testbed.entries import apply, host_of, istio_object, service_entry
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
        """Starts Envoy; it listens when the first VirtualService is bound to the gateway."""
        apply(self._cluster, [self._object])
        self.envoy.start()


class Shop:
    """istiod, an edge, and HTTP services that answer with their names."""

    def __init__(
        self,
        folder: Path,
        *,
        cluster: Cluster,
        namespace: str,
        services: Sequence[str] = ("app-svc", "app-b", "app-c"),
    ) -> None:
        """Nothing runs before `start`. The namespace must be there, and Istio's definitions."""
        self.namespace = namespace
        self.port = 80
        """Of every service."""
        self.backends: dict[str, Backend] = {}
        self.istiod = Istiod(folder / "istiod", kubeconfig=cluster.kubeconfig)
        self.edge = Edge(folder / "edge", cluster=cluster, istiod=self.istiod, namespace=namespace)
        self._cluster = cluster
        self._services = services
        self._running = ExitStack()

    def __enter__(self) -> Shop:
        self.start()
        return self

    def __exit__(self, *details: object) -> None:
        self._running.__exit__(*details)  # type: ignore[arg-type]

    def start(self) -> None:
        """Starts everything; on failure nothing stays behind."""
        with ExitStack() as starting:
            servers = starting.enter_context(Backends())
            self.backends = {name: servers.add(name) for name in self._services}
            apply(self._cluster, [self._entry(name) for name in self._services])
            starting.enter_context(self.istiod)
            starting.enter_context(self.edge)
            self._running = starting.pop_all()

    def stop(self) -> None:
        """Ends everything that `start` started."""
        self._running.close()

    def host(self, service: str) -> str:
        """The name that requests have to ask for."""
        return host_of(service, self.namespace)

    def wait_open(self) -> None:
        """Until the edge listens: a rule for it has arrived."""
        wait_until(
            lambda: self.edge.envoy.is_listening(self.edge.port),
            timeout_s=_READY_TIMEOUT_S,
            what="the edge to listen",
            processes=[self.istiod.process, self.edge.envoy.process],
        )

    def _entry(self, name: str) -> dict[str, object]:
        return service_entry(
            self.host(name),
            namespace=self.namespace,
            name=name,
            ports={self.port: self.backends[name].port},
        )
