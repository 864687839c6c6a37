"""The live graph in the demo: what a person would see on the page, told as text."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tests.testbed import loopback
from tests.testbed.clusters import Cluster
from tests.testbed.stack import Stack

_WITHIN_S = 60.0
_POLL_S = 0.02


class Page:
    """The topology service's HTTP interface, for one cluster."""

    def __init__(self, stack: Stack) -> None:
        self.url = stack.health_url("topology")
        self._cluster = ""

    def nodes(self) -> list[dict[str, Any]]:
        elements = self._get("/api/graph", graphType="versionedApp")["elements"]
        return [node["data"] for node in elements["nodes"]]

    def rates(self, source: str) -> dict[str, float]:
        """Requests per second from an app, by the Service that it calls."""
        elements = self._get("/api/graph", graphType="versionedApp")["elements"]
        nodes = {node["data"]["id"]: node["data"] for node in elements["nodes"]}
        return {
            nodes[edge["target"]]["service"]: float(edge["traffic"]["rates"].get("http", 0))
            for edge in (one["data"] for one in elements["edges"])
            if nodes[edge["source"]].get("app") == source and edge.get("traffic")
        }

    def findings(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._get("/api/findings")["items"]
        return found

    def drift(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._get("/api/drift")["items"]
        return found

    @contextmanager
    def events(self) -> Iterator[Iterator[dict[str, Any]]]:
        """The event stream from now on, each event's data; what is over in a moment is seen too."""
        address = f"{self.url}/api/events?cluster={self._token()}"
        with urllib.request.urlopen(address, timeout=_WITHIN_S) as stream:
            yield (
                json.loads(line.removeprefix(b"data:"))
                for line in stream
                if line.startswith(b"data:")
            )

    def until(self, what: Callable[[], Any], told: str) -> Any:
        """What `what` gives as soon as that is something."""
        deadline = time.monotonic() + _WITHIN_S
        while not (found := what()):
            if time.monotonic() > deadline:
                raise TimeoutError(f"the page does not show {told} within {_WITHIN_S:g} s")
            time.sleep(_POLL_S)
        return found

    def _token(self) -> str:
        if not self._cluster:
            known = json.loads(loopback.fetch(f"{self.url}/api/clusters"))["clusters"]
            self._cluster = known[0]["cluster"]
        return self._cluster

    def _get(self, path: str, **query: str) -> Any:
        words = "&".join(f"{name}={value}" for name, value in query.items())
        return json.loads(loopback.fetch(f"{self.url}{path}?cluster={self._token()}&{words}"))


def show_graph(page: Page, namespace: str) -> None:
    """The sample application as the page has it."""

    def shop() -> list[dict[str, Any]]:
        nodes = [node for node in page.nodes() if node["namespace"] == namespace]
        alive = [n for n in nodes if n["nodeType"] == "app" and not n.get("isDead")]
        return nodes if len(alive) >= 6 else []

    nodes = page.until(shop, "Bookinfo")
    names = sorted({node.get("service") or node.get("app") or "" for node in nodes} - {""})
    print(f"  the page {page.url}/ shows {len(nodes)} nodes of {namespace}: {', '.join(names)}")


def show_finding(page: Page, cluster: Cluster, namespace: str) -> None:
    """A VirtualService that leads nowhere, by hand; then it goes."""
    wrong = {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": "lost", "namespace": namespace},
        "spec": {"hosts": ["lost"], "http": [{"route": [{"destination": {"host": "nowhere"}}]}]},
    }

    def lost() -> list[dict[str, Any]]:
        return [
            f for f in page.findings() if f["object"]["name"] == "lost" and f["code"] == "IST0101"
        ]

    cluster.kubectl("apply", "-f", "-", stdin=json.dumps(wrong))
    finding = page.until(lost, "the finding")[0]
    print(f"  finding {finding['code']}: {finding['message']}")
    print(f"    remedy: {finding['remedy']}")
    cluster.kubectl("delete", "virtualservice", "lost", "-n", namespace)
    page.until(lambda: not lost(), "that the finding is over")
    print("  the VirtualService goes, and the finding with it")


def show_drift(page: Page, cluster: Cluster, namespace: str, name: str) -> None:
    """Somebody changes what Meshbus applied; it is put back."""

    def weights() -> str:
        return cluster.kubectl(
            *("get", "virtualservice", name, "-n", namespace),
            *("-o", "jsonpath={.spec.http[0].route[*].weight}"),
        )

    def drifted() -> list[dict[str, Any]]:
        return [d for d in page.drift() if d["object"]["name"] == name]

    wanted = weights()
    patch = [{"op": "replace", "path": "/spec/http/0/route/0/weight", "value": 55}]
    with page.events() as events:
        next(events)  # the list of clusters; what follows is from after now
        cluster.kubectl(
            *("patch", "virtualservice", name, "-n", namespace),
            *("--type=json", f"--patch={json.dumps(patch)}"),
        )
        found = next(
            item
            for event in events
            for item in _items(event.get("drift"))
            if item["object"]["name"] == name
        )
    change = found["changes"][0]
    print(
        f"  drift: {change['path']} is {change['found']} instead of {change['wanted']}, "
        f"by {found['manager']}"
    )
    page.until(lambda: weights() == wanted, "the healed weights")
    page.until(lambda: not drifted(), "that the drift is over")
    print(f"  healed: the weights are {wanted} again")


def _items(drift: dict[str, dict[str, Any] | None] | None) -> list[dict[str, Any]]:
    """Of a snapshot or a delta: the drifts that there are."""
    return [item for item in (drift or {}).values() if item is not None]


def show_traffic(page: Page, source: str, *, least: float) -> None:
    """Edges with their rates, as soon as these are at least so much together."""

    def rates() -> dict[str, float]:
        found = page.rates(source)
        return found if sum(found.values()) >= least else {}

    found = page.until(rates, f"the traffic of {source}")
    told = ", ".join(f"{service} {rate:g}" for service, rate in sorted(found.items()))
    print(f"  requests per second on the page: {source} → {told}")
