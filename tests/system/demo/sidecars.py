"""The demo's traffic where pods run: the same shop, with a sidecar in each of its pods."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from tests.system.demo.traffic import REQUESTS, performance_test, shares, traffic_split
from tests.testbed.bodies import operator
from tests.testbed.callers import Caller
from tests.testbed.entrances import entrance, url_of_entrance
from tests.testbed.realclusters import RealCluster
from tests.testbed.recipe import STAND_IN_IMAGE
from tests.testbed.shops import listed

VISITOR = "visitor"
VISITS_PER_S = 20
# The upstream Envoy lacks Istio's own metrics. What it counts of the Services that it calls is
# left out by Istio, unless it is asked for, and is what the graph then has rates from.
COUNTING = operator(
    meshConfig={"defaultConfig": {"proxyStatsMatcher": {"inclusionPrefixes": ["cluster.outbound"]}}}
)
"""The body of an install whose sidecars count what they call."""
_GATEWAY = "entrance"
_PORT, _TARGET_PORT = 80, 8080


class MeshedShop:
    """A Service with two versions behind it, and a visitor who asks it all the time."""

    way = "two sidecars"

    def __init__(self, cluster: RealCluster, *, namespace: str) -> None:
        self.namespace = namespace
        self._cluster = cluster
        self._visitor = Caller(cluster, namespace=namespace, name=VISITOR, visits=_url(namespace))

    def start(self) -> None:
        """Makes all of it; the pods become ready beside what comes next. The namespace must be
        there, with injection, and Istio."""
        objects = [
            *self._visitor.objects(),
            entrance(_GATEWAY, namespace=self.namespace),
            self._account(),
            self._service("checkout", {"app": "checkout"}),
        ]
        for version in ("v1", "v2"):
            labels = {"app": "checkout", "version": version}
            objects += [
                self._service(f"checkout-{version}", labels),
                self._deployment(f"checkout-{version}", labels),
            ]
        self._cluster.kubectl("apply", "--filename=-", stdin=listed(*objects))

    def wait_ready(self) -> None:
        """Until all pods run, with their sidecars."""
        place = f"--namespace={self.namespace}"
        for version in ("v1", "v2"):
            self._cluster.kubectl(
                "rollout", "status", f"deployment/checkout-{version}", place, timeout_s=120.0
            )
        self._visitor.wait_ready()

    def split(self, first: int, second: int) -> str:
        return traffic_split(f"{self.namespace}/{_GATEWAY}", first, second)

    def performance_test(self) -> str:
        return performance_test(self.namespace, f"{url_of_entrance(self._cluster)}/")

    def shares(self, holds: Callable[[Counter[str]], bool]) -> Counter[str]:
        return shares(self._answers, holds)

    def identities(self) -> tuple[str, str]:
        """Who called whom, by the certificates that the two sidecars have shown each other."""
        headers = self._visitor.get(_url(self.namespace)).headers
        [told] = headers["X-Forwarded-Client-Cert"]
        fields = dict(field.split("=", 1) for field in told.split(";"))
        return fields["URI"], fields["By"]

    def _answers(self) -> Counter[str]:
        counts = self._visitor.get(_url(self.namespace), count=REQUESTS).counts
        return Counter({text.removeprefix("200 "): count for text, count in counts.items()})

    def _account(self) -> dict[str, Any]:
        metadata = {"name": "checkout", "namespace": self.namespace}
        return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}

    def _service(self, name: str, selector: dict[str, str]) -> dict[str, Any]:
        port = {"name": "http", "port": _PORT, "targetPort": _TARGET_PORT}
        return {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name, "namespace": self.namespace},
            "spec": {"selector": selector, "ports": [port]},
        }

    def _deployment(self, name: str, labels: dict[str, str]) -> dict[str, Any]:
        told = {"STAND_IN": "serve", "NAME": name, "PORTS": str(_TARGET_PORT)}
        container = {
            "name": "checkout",
            "image": STAND_IN_IMAGE,
            "env": [{"name": name, "value": value} for name, value in told.items()],
        }
        pod = {
            "serviceAccountName": "checkout",
            "terminationGracePeriodSeconds": 1,
            "containers": [container],
        }
        return {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": name, "namespace": self.namespace},
            "spec": {
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": pod},
            },
        }


def _url(namespace: str) -> str:
    return f"http://checkout.{namespace}:{_PORT}/"
