"""A gateway of the mesh on loopback, and a few services behind it.

with Storefront(folder, cluster=cluster, namespace="shop") as store:
    ...  # apply a TrafficSplit with the annotation `meshbus.io/gateways: <store.edge.gateway>`
    store.wait_served("app-svc")
    store.edge.visitor.ask_often(Request(host=store.host("app-svc")), 100)
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from tests.testbed import loopback
from tests.testbed.backends import Backend, Backends
from tests.testbed.clusters import Cluster
from tests.testbed.entries import apply, host_of, istio_object, service_entry
from tests.testbed.envoys import Envoy, Workload
from tests.testbed.istiods import Istiod
from tests.testbed.processes import wait_until
from tests.testbed.visitors import Request, Visitor

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


class Storefront:
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

    def __enter__(self) -> Storefront:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        failure: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._running.__exit__(kind, failure, trace)

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

    def wait_served(self, service: str) -> None:
        """Until the edge has a rule for the service and somebody answers."""
        wait_until(
            lambda: self.edge.visitor.ask(Request(host=self.host(service))).status == 200,
            timeout_s=_READY_TIMEOUT_S,
            what=f"the edge to serve {service}",
            processes=[self.istiod.process, self.edge.envoy.process],
        )

    def _entry(self, name: str) -> dict[str, object]:
        return service_entry(
            self.host(name),
            namespace=self.namespace,
            name=name,
            ports={self.port: self.backends[name].port},
        )
