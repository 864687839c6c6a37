"""A fleet of simulated clusters, each with an older Istio, tags, and workloads with budgets.

No sidecar can be injected here: kwok runs no istiod that a webhook could call, and one that nobody
answers keeps every pod from being made. So these API servers leave mutating webhooks out; labels,
tags, restarts and disruption budgets are the real thing.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

from services.chassis.kube.kubeconfigs import parse_kubeconfig
from tests.testbed import loopback
from tests.testbed.clusters import Cluster
from tests.testbed.processes import Process

TAGGED, LABELLED, PLAIN = "shop", "legacy", "apart"
"""Namespaces: one uses the tag `prod`, one the label of old, one is not in the mesh."""
_LITTLE_MEMORY = {"GOGC": "100", "GOMEMLIMIT": "600MiB"}
_FEW = 3
_PLUGINS = "--disable-admission-plugins="
_REQUESTS_EACH_SECOND = 100.0


class MeshlessWebhooks(Cluster):
    """A cluster whose API server asks no mutating webhook."""

    def __init__(self, folder: Path, *, name: str, is_one_of_many: bool = False) -> None:
        """One of many has less memory than a cluster that stands alone, and collects more often."""
        self._is_one_of_many = is_one_of_many
        super().__init__(folder, name=name)

    def _flags_for_nodes(self) -> list[str]:
        return [
            f"{flag},MutatingAdmissionWebhook" if flag.startswith(_PLUGINS) else flag
            for flag in super()._flags_for_nodes()
        ]

    def _runs(self, name: str, command: Sequence[str]) -> Process:
        if not self._is_one_of_many:
            return super()._runs(name, command)
        log = self.folder / "logs" / f"{name}.log"
        return Process(name, command, log=log, environment=_LITTLE_MEMORY)

    @property
    def token(self) -> str:
        """As Meshbus names it."""
        return parse_kubeconfig(self.kubeconfig_text).cluster


@contextmanager
def fleet(folder: Path, count: int) -> Iterator[list[MeshlessWebhooks]]:
    """So many clusters, with namespaces and workloads."""
    with ExitStack() as stack:
        clusters = []
        for number in range(1, count + 1):
            name = f"fleet-{number}"
            cluster = MeshlessWebhooks(folder / name, name=name, is_one_of_many=count > _FEW)
            clusters.append(stack.enter_context(cluster))
            populate(cluster)
        yield clusters


def populate(cluster: Cluster) -> None:
    """Three namespaces with a workload each; that of the tag has a disruption budget."""
    labels = {
        TAGGED: {"istio.io/rev": "prod"},
        LABELLED: {"istio-injection": "enabled"},
        PLAIN: {},
    }
    for namespace, own in labels.items():
        metadata = {"name": namespace, "labels": own}
        cluster.api.create_or_keep("/api/v1/namespaces", {"metadata": metadata})
        path = f"/apis/apps/v1/namespaces/{namespace}/deployments"
        cluster.api.create_or_keep(path, deployment("web", replicas=2))
    budget = {
        "metadata": {"name": "web"},
        "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "web"}}},
    }
    path = f"/apis/policy/v1/namespaces/{TAGGED}/poddisruptionbudgets"
    cluster.api.create_or_keep(path, budget)


def deployment(name: str, *, replicas: int) -> dict[str, Any]:
    container = {"name": "main", "image": "nothing"}
    return {
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [container]},
            },
        },
    }


def restarts(cluster: Cluster, namespace: str) -> int:
    """How often somebody has changed the workload of a namespace since it was made."""
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments/web"
    return int(cluster.api.request("GET", path)["metadata"]["generation"]) - 1


def mesh_labels(cluster: Cluster, namespace: str) -> dict[str, str]:
    """What ties a namespace to a revision."""
    found = cluster.api.request("GET", f"/api/v1/namespaces/{namespace}")["metadata"]
    return {k: v for k, v in (found.get("labels") or {}).items() if k.startswith("istio")}


def revisions(cluster: Cluster) -> dict[str, str]:
    """Version by revision of the control planes that are there."""
    path = "/apis/apps/v1/namespaces/istio-system/deployments?labelSelector=app%3Distiod"
    return {
        item["metadata"]["labels"]["istio.io/rev"]: item["metadata"]["labels"][
            "operator.istio.io/version"
        ]
        for item in cluster.api.request("GET", path)["items"]
    }


def tags(cluster: Cluster) -> dict[str, str]:
    """Revision by tag."""
    path = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations"
    found = [item["metadata"]["labels"] for item in cluster.api.request("GET", path)["items"]]
    return {own["istio.io/tag"]: own["istio.io/rev"] for own in found if "istio.io/tag" in own}


class Traffic:
    """A page that a Prometheus scrapes: requests to the fleet's namespaces, by cluster."""

    def __init__(self, names: Sequence[str]) -> None:
        self.failing: dict[str, float] = dict.fromkeys(names, 0.0)
        """Share of failed requests, by the cluster's name; may be changed at any time."""
        self.port = loopback.take_port()
        self._counted = {name: [0.0, 0.0] for name in names}
        self._at = time.monotonic()
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        traffic = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                content = traffic.page().encode()
                self.send_response(200)
                self.send_header("Content-Type", "text/plain; version=0.0.4")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                """Says nothing."""

        self._server = ThreadingHTTPServer((loopback.HOST, self.port), Handler)
        threading.Thread(target=self._server.serve_forever, name="traffic", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def page(self) -> str:
        """What proxies would tell by now."""
        with self._lock:
            now = time.monotonic()
            requests = (now - self._at) * _REQUESTS_EACH_SECOND
            self._at = now
            lines = ["# TYPE istio_requests_total counter"]
            for name, counted in self._counted.items():
                share = self.failing[name]
                counted[0] += requests * (1 - share)
                counted[1] += requests * share
                for code, value in zip(("200", "503"), counted, strict=True):
                    labels = (
                        f'cluster="{name}",reporter="destination",response_code="{code}",'
                        f'destination_service_namespace="{TAGGED}"'
                    )
                    lines.append(f"istio_requests_total{{{labels}}} {value:.3f}")
            return "\n".join([*lines, ""])
