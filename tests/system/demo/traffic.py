"""The demo's traffic: a shop in the mesh, and requests that show what a rule does to them.

This one is for simulated nodes. Services and rules are the cluster's own; only where a Service's
pods would be, WorkloadEntries lead to servers on loopback, because the pods do not really run.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests.testbed.backends import Backend, Backends
from tests.testbed.clusters import Cluster
from tests.testbed.edges import Edge
from tests.testbed.entries import apply, host_of, istio_object
from tests.testbed.istiods import Istiod
from tests.testbed.visitors import Request

SERVICES = ("checkout", "checkout-v1", "checkout-v2")
REQUESTS = 200
_PORT = 80
_TIMEOUT_S = 60.0
_POLL_S = 0.1


def traffic_split(gateway: str, first: int, second: int) -> str:
    """A TrafficSplit of the Service `checkout`, also for requests from outside."""
    return json.dumps(
        {
            "apiVersion": "split.smi-spec.io/v1alpha4",
            "kind": "TrafficSplit",
            "metadata": {"name": "checkout", "annotations": {"meshbus.io/gateways": gateway}},
            "spec": {
                "service": "checkout",
                "backends": [
                    {"service": "checkout-v1", "weight": first},
                    {"service": "checkout-v2", "weight": second},
                ],
            },
        }
    )


def performance_test(namespace: str, url: str) -> str:
    """A short test of the Service through the gateway at `url`, with a baseline."""
    client = {
        "load_generator": "fortio",
        "protocol": 1,
        "connections": 4,
        "rps": 100,
        "headers": {"Host": host_of("checkout", namespace)},
        "endpoint_urls": [url],
    }
    test = {"test": {"name": "checkout", "duration": "5s", "clients": [client]}}
    options = {
        "apiVersion": "meshbus.io/v1",
        "kind": "PerformanceOptions",
        "spec": {"service": f"checkout.{namespace}", "baseline": "demo"},
    }
    return f"{json.dumps(test)}\n---\n{json.dumps(options)}"


def shares(
    answers: Callable[[], Counter[str]], holds: Callable[[Counter[str]], bool]
) -> Counter[str]:
    """Who answered how many requests, as soon as `holds`; raises TimeoutError if it never does.

    A rule reaches a proxy some milliseconds after it reached the cluster.
    """
    deadline = time.monotonic() + _TIMEOUT_S
    while not holds(found := answers()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"requests went another way than the rule: {dict(found)}")
        time.sleep(_POLL_S)
    return found


class Shopfront:
    """A Service with two versions behind it, a real istiod, and a real Envoy at the door."""

    way = "istiod and Envoy"

    def __init__(self, folder: Path, *, cluster: Cluster, namespace: str) -> None:
        """The namespace must be there, and Istio's definitions."""
        self.namespace = namespace
        self.istiod = Istiod(folder / "istiod", kubeconfig=cluster.kubeconfig)
        self.edge = Edge(folder / "edge", cluster=cluster, istiod=self.istiod, namespace=namespace)
        self._cluster = cluster
        self._running = ExitStack()

    def __enter__(self) -> Shopfront:
        with ExitStack() as starting:
            servers = starting.enter_context(Backends())
            for name in SERVICES:
                apply(self._cluster, self._objects(servers.add(name)))
            starting.enter_context(self.istiod)
            starting.enter_context(self.edge)
            self._running = starting.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._running.close()

    def split(self, first: int, second: int) -> str:
        return traffic_split(self.edge.gateway, first, second)

    def performance_test(self) -> str:
        return performance_test(self.namespace, f"http://127.0.0.1:{self.edge.port}/")

    def shares(self, holds: Callable[[Counter[str]], bool]) -> Counter[str]:
        return shares(self._answers, holds)

    def _answers(self) -> Counter[str]:
        if not self.edge.envoy.is_listening(self.edge.port):
            return Counter()
        host = host_of("checkout", self.namespace)
        answers = self.edge.visitor.ask_often(Request(host=host), REQUESTS)
        return Counter({text.removeprefix("200 "): count for text, count in answers.items()})

    def _objects(self, backend: Backend) -> list[dict[str, Any]]:
        labels = {"app": backend.name}
        port = {"name": "http", "port": _PORT, "targetPort": 8080}
        service = {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": backend.name, "namespace": self.namespace},
            "spec": {"selector": labels, "ports": [port]},
        }
        spec = {"address": "127.0.0.1", "labels": labels, "ports": {"http": backend.port}}
        entry = istio_object(
            "WorkloadEntry", name=backend.name, namespace=self.namespace, spec=spec
        )
        return [service, entry]
