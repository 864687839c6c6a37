"""Services whose traffic is split, and the client's sidecar that splits it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from services.chassis.messages.facts import ClusterFacts, ServiceFact, ServicePort
from tests.testbed import entries, loopback
from tests.testbed.backends import Backend
from tests.testbed.clusters import Cluster
from tests.testbed.entries import host_of, istio_object, service_entry
from tests.testbed.processes import wait_until
from tests.testbed.visitors import Request, Visitor

CLIENTS = "clients"
"""Namespace of the client's sidecar, which sees the services of all namespaces."""
LINES = "lines"
LINE = "tcp-svc"
"""Namespace and name of the root service whose connections are split.

A TCP listener of a sidecar is for one service, because a connection names none. So it cannot be
one of a namespace that only its test knows.
"""
_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """Ports of every service. The client's sidecar listens on these very numbers."""

    http: int
    admin: int
    tcp: int

    @classmethod
    def taken(cls) -> Ports:
        http, admin, tcp = (loopback.take_port() for _ in range(3))
        return cls(http=http, admin=admin, tcp=tcp)

    @property
    def sidecar(self) -> dict[str, Any]:
        """The Sidecar object that tells the client's Envoy where to listen."""
        protocols = {self.http: "HTTP", self.admin: "HTTP", self.tcp: "TCP"}
        egress = [
            {
                "port": {"number": port, "protocol": protocol, "name": f"out-{port}"},
                "bind": loopback.HOST,
                "hosts": [f"{LINES}/{host_of(LINE, LINES)}"] if protocol == "TCP" else ["*/*"],
            }
            for port, protocol in protocols.items()
        ]
        spec = {"workloadSelector": {"labels": {"app": "client"}}, "egress": egress}
        return istio_object("Sidecar", name="client", namespace=CLIENTS, spec=spec)


class Shop:
    """The services of one test in a namespace of its own."""

    def __init__(
        self, cluster: Cluster, namespace: str, *, ports: Ports, backends: Mapping[str, Backend]
    ) -> None:
        self.namespace = namespace
        self.ports = ports
        self._cluster = cluster
        self._backends = backends
        self._services: dict[str, tuple[str, tuple[int, ...]]] = {}

    def open(self, services: Mapping[str, tuple[int, ...]], *, protocol: str = "HTTP") -> None:
        """Makes services (name → ports) known, and waits until clients reach them.

        Their servers are the shared backends of the same names.
        """
        self._services |= {name: (protocol, ports) for name, ports in services.items()}
        objects = [
            service_entry(
                host_of(name, self.namespace),
                namespace=self.namespace,
                name=name,
                ports=dict.fromkeys(ports, self._backends[name].port),
                protocol=protocol,
            )
            for name, ports in services.items()
        ]
        entries.create(self._cluster.api, objects)
        if protocol == "HTTP":
            wait_until(self._is_open, timeout_s=_TIMEOUT_S, what="the shop to be open")

    @property
    def facts(self) -> ClusterFacts:
        """What lifecycle would tell of the namespace."""
        services = [
            ServiceFact(
                namespace=self.namespace,
                name=name,
                ports=[ServicePort(port=port, name=f"{protocol.lower()}-{port}") for port in ports],
            )
            for name, (protocol, ports) in self._services.items()
        ]
        return ClusterFacts(services=services, read_namespaces=[self.namespace])

    def host(self, service: str = "app-svc") -> str:
        return host_of(service, self.namespace)

    def shares(
        self, count: int, *, port: int | None = None, request: Request | None = None
    ) -> dict[str, int]:
        """How many of `count` requests to the root each service answered.

        The root's host is what is asked for, whatever `request` says. Other answers than a
        service's appear as themselves, such as `503 `.
        """
        asked = request or Request()
        asked = Request(
            host=self.host(), path=asked.path, method=asked.method, headers=asked.headers
        )
        counts = Visitor(port or self.ports.http).ask_often(asked, count)
        return {answer.removeprefix("200 "): hits for answer, hits in counts.items()}

    def _is_open(self) -> bool:
        return all(
            Visitor(port).ask(Request(host=self.host(name))).text == name
            for name, (protocol, ports) in self._services.items()
            if protocol == "HTTP"
            for port in ports
        )
