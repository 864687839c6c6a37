"""The mesh that all tests of traffic share."""

from __future__ import annotations

import ssl
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from tests.real.translator.traffic.guards import NAMESPACE, TRUST_DOMAIN, Guard
from tests.real.translator.traffic.shops import CLIENTS, LINES, Ports
from tests.testbed import building, entries
from tests.testbed.backends import Backends
from tests.testbed.barriers import PolicyBarrier, RouteBarrier
from tests.testbed.clusters import Cluster
from tests.testbed.edges import Edge
from tests.testbed.envoys import Envoy, Workload
from tests.testbed.istiods import Istiod
from tests.testbed.pki import Authority
from tests.testbed.processes import wait_until
from tests.testbed.recipe import ISTIO_VERSION
from tests.testbed.visitors import Visitor, mesh_tls

_DEFINITIONS = "manifests/charts/base/files/crd-all.gen.yaml"
_EDGES = "edges"
_TIMEOUT_S = 60.0


class Mesh:
    """istiod, a client's sidecar, a gateway, and two guarded workloads, in one cluster."""

    def __init__(self, folder: Path, *, cluster: Cluster) -> None:
        """Chooses ports; nothing runs before `start`."""
        self.cluster = cluster
        self.ports = Ports.taken()
        self.servers = Backends()
        self._folder = folder
        self._authority = Authority("traffic")
        self._contexts: dict[tuple[str, str, str], ssl.SSLContext] = {}
        self._running = ExitStack()

    def __enter__(self) -> Mesh:
        with ExitStack() as starting:
            self._start(starting)
            self._running = starting.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        failure: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._running.__exit__(kind, failure, trace)

    def visitor(
        self,
        port: int,
        account: str,
        *,
        namespace: str = NAMESPACE,
        trust_domain: str = TRUST_DOMAIN,
    ) -> Visitor:
        """Somebody with the certificate of this ServiceAccount."""
        key = (trust_domain, namespace, account)
        if key not in self._contexts:
            identity = self._authority.issue_workload(
                trust_domain=trust_domain, namespace=namespace, account=account
            )
            self._contexts[key] = mesh_tls(
                identity,
                trusted_pem=self._authority.certificate_pem,
                folder=self._folder / "identities" / "-".join(key),
            )
        return Visitor(port, tls=self._contexts[key])

    def _start(self, starting: ExitStack) -> None:
        definitions = building.distributions_folder() / ISTIO_VERSION / _DEFINITIONS
        self.cluster.kubectl("apply", "--server-side", "-f", str(definitions))
        self.cluster.wait_established()
        for name in ("istio-system", CLIENTS, LINES, _EDGES, NAMESPACE):
            self.cluster.api.create_or_keep("/api/v1/namespaces", {"metadata": {"name": name}})
        istiod = starting.enter_context(
            Istiod(
                self._folder / "istiod",
                kubeconfig=self.cluster.kubeconfig,
                trust_domain=TRUST_DOMAIN,
            )
        )
        starting.enter_context(self.servers)
        self._start_guards(starting, istiod)
        self._start_routers(starting, istiod)

    def _start_guards(self, starting: ExitStack, istiod: Istiod) -> None:
        self.guards = [
            Guard(
                self._folder / name,
                name,
                istiod=istiod,
                authority=self._authority,
                servers=self.servers,
            )
            for name in ("service-b", "service-c")
        ]
        sidecars = [self.ports.sidecar, *(guard.sidecar for guard in self.guards)]
        entries.create(self.cluster.api, sidecars)
        for guard in self.guards:
            starting.enter_context(guard)
        wait_until(
            lambda: all(guard.is_listening for guard in self.guards),
            timeout_s=_TIMEOUT_S,
            what="the guards to listen",
            processes=[guard.envoy.process for guard in self.guards],
        )
        guarded = [(guard.envoy, guard.port) for guard in self.guards]
        self.policies = PolicyBarrier(api=self.cluster.api, guarded=guarded)
        self.policies.start()

    def _start_routers(self, starting: ExitStack, istiod: Istiod) -> None:
        client = Workload(namespace=CLIENTS, name="client", labels={"app": "client"})
        sidecar = starting.enter_context(
            Envoy(self._folder / "client", istiod=istiod, workload=client)
        )
        self.edge = starting.enter_context(
            Edge(self._folder / "edge", cluster=self.cluster, istiod=istiod, namespace=_EDGES)
        )
        self.routes = RouteBarrier(
            api=self.cluster.api,
            namespace=CLIENTS,
            ports=[self.ports.http, self.ports.admin, self.edge.port],
            gateway=self.edge.gateway,
            envoys=[sidecar, self.edge.envoy],
        )
        self.routes.start()
        self.routes.wait()
