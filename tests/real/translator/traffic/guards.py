"""Workloads behind sidecars that ask every client who it is."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

from services.chassis.messages.facts import ClusterFacts, MeshFact, WorkloadFact
from tests.testbed import loopback
from tests.testbed.backends import Backends
from tests.testbed.entries import istio_object
from tests.testbed.envoys import Envoy, Workload
from tests.testbed.istiods import Istiod
from tests.testbed.pki import Authority
from tests.testbed.secrets_discovery import SecretsDiscovery

NAMESPACE = "guarded"
"""Of the guarded workloads. A sidecar cannot move, so their tests share it one after another."""
TRUST_DOMAIN = "traffic.test"
"""Not the usual one, so that a trust domain written down somewhere shows."""


class Guard:
    """One workload: two HTTP ports and a TCP port, under a ServiceAccount of its own name."""

    def __init__(
        self, folder: Path, name: str, *, istiod: Istiod, authority: Authority, servers: Backends
    ) -> None:
        self.name = name
        self.port, self.admin_port, self.tcp_port = (loopback.take_port() for _ in range(3))
        identity = authority.issue_workload(
            trust_domain=TRUST_DOMAIN, namespace=NAMESPACE, account=name
        )
        self.secrets = SecretsDiscovery(identity, trusted_pem=authority.certificate_pem)
        self.envoy = Envoy(
            folder,
            istiod=istiod,
            workload=Workload(namespace=NAMESPACE, name=name, labels={"app": name}),
            secrets_port=self.secrets.port,
        )
        self.backend = servers.add(name)
        self._tcp_backend = servers.add_tcp(name)
        self._running = ExitStack()

    def __enter__(self) -> Guard:
        with ExitStack() as starting:
            starting.enter_context(self.secrets)
            starting.enter_context(self.envoy)
            self._running = starting.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        failure: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._running.__exit__(kind, failure, trace)

    @property
    def is_listening(self) -> bool:
        return all(
            self.envoy.is_listening(port) for port in (self.port, self.admin_port, self.tcp_port)
        )

    @property
    def sidecar(self) -> dict[str, Any]:
        """The Sidecar object that tells Envoy where to listen."""
        servers = {
            self.port: ("HTTP", self.backend.port),
            self.admin_port: ("HTTP", self.backend.port),
            self.tcp_port: ("TCP", self._tcp_backend.port),
        }
        spec = {
            "workloadSelector": {"labels": {"app": self.name}},
            "ingress": [
                {
                    "port": {"number": port, "protocol": protocol, "name": f"in-{port}"},
                    "bind": loopback.HOST,
                    "defaultEndpoint": f"{loopback.HOST}:{server}",
                }
                for port, (protocol, server) in servers.items()
            ],
            # It calls nobody.
            "egress": [{"hosts": ["./nobody.meshbus.test"]}],
        }
        return istio_object("Sidecar", name=self.name, namespace=NAMESPACE, spec=spec)


def facts_about(guards: Sequence[Guard]) -> ClusterFacts:
    """What lifecycle would tell of the guarded namespace."""
    workloads = [
        WorkloadFact(
            namespace=NAMESPACE,
            kind="Deployment",
            name=guard.name,
            service_account=guard.name,
            labels={"app": guard.name},
            selector={"app": guard.name},
        )
        for guard in guards
    ]
    return ClusterFacts(
        meshes=[MeshFact(revision="default", version="1.31.0", trust_domain=TRUST_DOMAIN)],
        workloads=workloads,
        read_namespaces=[NAMESPACE],
    )
