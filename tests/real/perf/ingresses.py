"""A service behind a real Envoy under a real istiod: what performance tests in the mesh aim at."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests.testbed import loopback
from tests.testbed.backends import Backend, Backends
from tests.testbed.clusters import Cluster
from tests.testbed.edges import Edge
from tests.testbed.entries import apply, host_of, istio_object, service_entry
from tests.testbed.istiods import Istiod
from tests.testbed.processes import wait_until
from tests.testbed.shops import istio_defined
from tests.testbed.visitors import Request

NAMESPACE = "default"
NAME = "target"
_STALLING = "stalling"
_FREEZES = (1.5, 0.4)
_PORT = 80
_KINDS = ("DestinationRule", "Gateway", "ServiceEntry", "VirtualService")


class Ingress:
    """Envoy as the ingress of one service, routed to by a VirtualService named like it."""

    def __init__(self, folder: Path, *, cluster: Cluster, delay_s: float) -> None:
        self.cluster = cluster
        self.host = host_of(NAME, NAMESPACE)
        self.istiod = Istiod(folder / "istiod", kubeconfig=cluster.kubeconfig)
        self.edge = Edge(
            folder / "edge",
            cluster=cluster,
            istiod=self.istiod,
            namespace=NAMESPACE,
            name="ingress",
        )
        self.backend: Backend
        self._delay_s = delay_s
        self._running = ExitStack()

    def __enter__(self) -> Ingress:
        with ExitStack() as starting:
            starting.enter_context(istio_defined(self.cluster, _KINDS))
            wait_until(self._are_served, timeout_s=30.0, what="Istio's kinds to be served")
            servers = starting.enter_context(Backends())
            self.backend = servers.add(NAME, delay_s=self._delay_s)
            stalling = servers.add(_STALLING, delay_s=self._delay_s)
            stalling.freezes = _FREEZES
            entries = [
                service_entry(
                    host_of(name, NAMESPACE), namespace=NAMESPACE, name=name, ports={_PORT: port}
                )
                for name, port in ((NAME, self.backend.port), (_STALLING, stalling.port))
            ]
            apply(self.cluster, [*entries, self.route()])
            starting.enter_context(self.istiod)
            starting.enter_context(self.edge)
            wait_until(self._answers, timeout_s=30.0, what="the ingress to open", processes=[])
            self.backend.requests.clear()
            self._running = starting.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        for kind, name in (
            ("virtualservice", NAME),
            ("serviceentry", NAME),
            ("serviceentry", _STALLING),
            ("gateways.networking.istio.io", "ingress"),
        ):
            self.cluster.kubectl("delete", kind, name, "-n", NAMESPACE, "--ignore-not-found")
        self._running.close()

    @property
    def url(self) -> str:
        return f"http://{loopback.HOST}:{self.edge.port}/"

    @property
    def client(self) -> dict[str, Any]:
        """What an SMP client needs to get through the ingress."""
        return {"headers": {"Host": self.host}}

    def route(self, *, delay_ms: float = 0, stalls: bool = False) -> dict[str, Any]:
        """The VirtualService; with a delay that Envoy adds to every request, or to a server that
        freezes now and then."""
        host = host_of(_STALLING, NAMESPACE) if stalls else self.host
        rule: dict[str, Any] = {
            "route": [{"destination": {"host": host, "port": {"number": _PORT}}}]
        }
        if delay_ms:
            delay = {"fixedDelay": f"{delay_ms / 1000:g}s", "percentage": {"value": 100}}
            rule["fault"] = {"delay": delay}
        spec = {"hosts": [self.host], "gateways": [self.edge.gateway], "http": [rule]}
        return istio_object("VirtualService", name=NAME, namespace=NAMESPACE, spec=spec)

    def restore_route(self) -> None:
        """Puts the VirtualService back, whatever a gate left."""
        self.cluster.kubectl("delete", "virtualservice", NAME, "-n", NAMESPACE)
        apply(self.cluster, [self.route()])

    def stored_route(self) -> dict[str, Any]:
        """The VirtualService's rule, as the cluster has it now."""
        text = self.cluster.kubectl(
            "get", "virtualservice", NAME, "-n", NAMESPACE, "-o", "jsonpath={.spec.http[0]}"
        )
        found: dict[str, Any] = json.loads(text)
        return found

    def _are_served(self) -> bool:
        """Discovery tells of new definitions a moment after they are established."""
        listed = self.cluster.api.request("GET", "/apis/networking.istio.io/v1")["resources"]
        return set(_KINDS) <= {each["kind"] for each in listed}

    def _answers(self) -> bool:
        if not self.edge.envoy.is_listening(self.edge.port):
            return False
        found = self.edge.visitor.ask_often(Request(host=self.host), 3)
        return dict(found) == {f"200 {NAME}": 3}
