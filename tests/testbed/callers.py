"""Pods that send requests: what a workload of the mesh sees, through its own sidecar."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tests.testbed.realclusters import RealCluster
from tests.testbed.recipe import STAND_IN_IMAGE


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """What came back of a number of requests."""

    counts: Mapping[str, int]
    """By status and the name of who answered, such as "200 reviews-v1"; a failure by its words."""
    milliseconds: tuple[float, ...]
    body: str
    """Of the last answer."""

    @property
    def headers(self) -> dict[str, list[str]]:
        """The headers that a stand-in saw in the last request."""
        found: dict[str, list[str]] = json.loads(self.body)["headers"]
        return found


class Caller:
    """A Deployment of one pod under an account of its own."""

    def __init__(self, cluster: RealCluster, *, namespace: str, name: str = "caller") -> None:
        self._cluster = cluster
        self.namespace = namespace
        self.name = name

    def start(self) -> None:
        """Makes the account and the Deployment; `ready` waits for the pod."""
        account = {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": self.name, "namespace": self.namespace},
        }
        items = [account, _deployment(self.name, self.namespace)]
        listing = json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
        self._cluster.kubectl("apply", "--filename=-", stdin=listing)

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

    def get(
        self,
        url: str,
        *,
        count: int = 1,
        host: str = "",
        headers: Mapping[str, str] | None = None,
        timeout_s: float = 10.0,
    ) -> Answers:
        """Sends requests one after the other."""
        told = self._cluster.kubectl(
            "exec",
            f"deployment/{self.name}",
            f"--namespace={self.namespace}",
            f"--container={self.name}",
            "--",
            "/stand-in",
            "get",
            f"-n={count}",
            f"-timeout={timeout_s}s",
            *([f"-host={host}"] if host else []),
            *(f"-H={name}:{value}" for name, value in (headers or {}).items()),
            url,
            timeout_s=60.0 + count * timeout_s,
        )
        found = json.loads(told)
        return Answers(
            counts=found["answers"],
            milliseconds=tuple(found["milliseconds"]),
            body=found["body"],
        )


def _deployment(name: str, namespace: str) -> dict[str, Any]:
    labels = {"app": name, "version": "v1"}
    container = {"name": name, "image": STAND_IN_IMAGE, "args": ["pause"]}
    pod = {
        "serviceAccountName": name,
        "terminationGracePeriodSeconds": 1,
        "containers": [container],
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    }
