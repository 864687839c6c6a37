"""Pods that send requests: what a workload of the mesh sees, through its own sidecar."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tests.testbed.realclusters import RealCluster
from tests.testbed.recipe import STAND_IN_IMAGE

_ALL_DAY = 1_000_000


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


def _ends(edge: str) -> tuple[str, str]:
    source, _, destination = edge.partition(" ")
    return source, destination
