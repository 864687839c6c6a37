"""Pods that send requests: what a workload of the mesh sees, through its own sidecar."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from tests.testbed.realclusters import RealCluster
from tests.testbed.recipe import STAND_IN_IMAGE

_ALL_DAY = 1_000_000
RETRIED = {"x-retried": "yes"}
"""Header of requests that the route of `retrying` sends again; others it sends once."""
DRAINED = {"preStop": {"sleep": {"seconds": 3}}}
"""Lifecycle of a container that serves on until everybody has heard that its pod goes. Without it
each restart loses what is sent meanwhile, with any control plane."""
_RETRIES = {
    "attempts": 5,
    "perTryTimeout": "2s",
    "retryOn": "5xx,reset,connect-failure,refused-stream",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """What came back of a number of requests."""

    counts: Mapping[str, int]
    """By status and the name of who answered, such as "200 reviews-v1"; a failure by its words."""
    first: Mapping[str, float]
    """When each of these came first, in seconds since 1970."""
    edges: Mapping[tuple[str, str], int]
    """Requests that stand-ins answered, by who sent them ("" is the caller) and who answered."""
    milliseconds: tuple[float, ...]
    seconds: float
    """From the first request to the last answer."""
    body: str
    """Of the last answer."""

    @property
    def headers(self) -> dict[str, list[str]]:
        """The headers that a stand-in saw in the last request."""
        found: dict[str, list[str]] = json.loads(self.body)["headers"]
        return found


class Caller:
    """A Deployment of one pod under an account of its own."""

    def __init__(
        self,
        cluster: RealCluster,
        *,
        namespace: str,
        name: str = "caller",
        visits: str = "",
        labels: Mapping[str, str] | None = None,
    ) -> None:
        """`visits` is a URL that it asks for all the time, twenty times a second; `labels` are
        further ones of the pod."""
        self._cluster = cluster
        self.namespace = namespace
        self.name = name
        self._labels = {"app": name, "version": "v1", **(labels or {})}
        self._arguments = ["get", f"-n={_ALL_DAY}", "-every=50ms", visits] if visits else ["pause"]

    def start(self) -> None:
        """Makes the account and the Deployment; `ready` waits for the pod."""
        items = self.objects()
        listing = json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
        self._cluster.kubectl("apply", "--filename=-", stdin=listing)

    def objects(self) -> list[dict[str, Any]]:
        """What it is made of."""
        account = {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": self.name, "namespace": self.namespace},
        }
        return [account, self._deployment()]

    def wait_ready(self) -> None:
        """Until the pod runs, with its sidecar where it has one."""
        self._cluster.kubectl(
            "rollout",
            "status",
            f"deployment/{self.name}",
            f"--namespace={self.namespace}",
            "--timeout=120s",
            timeout_s=130.0,
        )

    def restart(self) -> None:
        """Replaces the pod, and waits until the new one runs."""
        place = (f"deployment/{self.name}", f"--namespace={self.namespace}")
        self._cluster.kubectl("rollout", "restart", *place)
        self.wait_ready()

    def get(
        self,
        url: str,
        *,
        count: int = 1,
        at_once: int = 1,
        every_s: float = 0.0,
        host: str = "",
        headers: Mapping[str, str] | None = None,
        timeout_s: float = 10.0,
    ) -> Answers:
        """Sends requests, one after the other or several `at_once`, as fast as they are answered or
        one in `every_s`; late ones hurry, so that the rate holds."""
        told = self._cluster.kubectl(
            "exec",
            f"deployment/{self.name}",
            f"--namespace={self.namespace}",
            f"--container={self.name}",
            "--",
            "/stand-in",
            "get",
            f"-n={count}",
            f"-c={at_once}",
            f"-every={every_s}s",
            f"-timeout={timeout_s}s",
            *([f"-host={host}"] if host else []),
            *(f"-H={name}:{value}" for name, value in (headers or {}).items()),
            url,
            timeout_s=60.0 + count * timeout_s,
        )
        found = json.loads(told)
        return Answers(
            counts=found["answers"],
            first=found["first"],
            edges={_ends(edge): count for edge, count in found["edges"].items()},
            milliseconds=tuple(found["milliseconds"]),
            seconds=found["seconds"],
            body=found["body"],
        )

    @asynccontextmanager
    async def flowing(
        self, url: str, *, headers: Mapping[str, str] | None = None
    ) -> AsyncIterator[Counter[str]]:
        """Sends twenty requests a second while the block runs; what came of them is in the counter
        when it has ended, as in `Answers`."""
        is_over, counted = asyncio.Event(), Counter[str]()

        async def ask() -> None:
            while not is_over.is_set():
                answers = await asyncio.to_thread(
                    self.get, url, count=100, every_s=0.05, headers=headers, timeout_s=12.0
                )
                counted.update(answers.counts)

        asking = asyncio.create_task(ask())
        try:
            yield counted
        finally:
            is_over.set()
            await asking

    def _deployment(self) -> dict[str, Any]:
        container = {"name": self.name, "image": STAND_IN_IMAGE, "args": self._arguments}
        pod = {
            "serviceAccountName": self.name,
            "terminationGracePeriodSeconds": 1,
            "containers": [container],
        }
        return {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": self.name, "namespace": self.namespace},
            "spec": {
                "selector": {"matchLabels": {"app": self.name}},
                "template": {"metadata": {"labels": self._labels}, "spec": pod},
            },
        }


def retrying(name: str, namespace: str) -> dict[str, Any]:
    """The VirtualService of a service by which requests that ask for it are sent again."""
    route = [{"destination": {"host": name}}]
    asked = {"headers": {name: {"exact": value} for name, value in RETRIED.items()}}
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "hosts": [f"{name}.{namespace}.svc.cluster.local"],
            "http": [
                {"match": [asked], "route": route, "retries": _RETRIES},
                {"route": route, "retries": {"attempts": 0}},
            ],
        },
    }


def lost(counted: Mapping[str, int]) -> int:
    """How many requests had no good answer."""
    return sum(count for answer, count in counted.items() if not answer.startswith("200 "))


def _ends(edge: str) -> tuple[str, str]:
    source, _, destination = edge.partition(" ")
    return source, destination
