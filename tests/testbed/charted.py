"""Meshbus as the chart installs it, in the very cluster that it manages: its pods run."""

from __future__ import annotations

import base64
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from deploy.charting import CHART
from deploy.cluster.accounts import SERVER
from deploy.local.installations import SERVICES
from services.chassis.bus.connection import Bus, connect
from services.chassis.settings import ChassisSettings
from tests.real.deploy.charts import RELEASE, Helm, Object
from tests.testbed import images, loopback, shipped
from tests.testbed.clusters import has_condition, kubectl_path
from tests.testbed.processes import Process, wait_until
from tests.testbed.realclusters import RealCluster
from tests.testbed.recipe import RELEASES_IMAGE, RELEASES_IMAGES

NAMESPACE = "meshbus"
PARTS = (*SERVICES, "nats")
_CLASS = "home"
_USER = 65532
_BUS_PORT = 4222
_FORWARDED_WITHIN_S = 60.0
_INSTALLED_WITHIN_S = 300.0
_CLAIMS = f"/api/v1/namespaces/{NAMESPACE}"
# Both nodes together have as many cores as the machine: all that is asked for has to fit on one.
_ASKED = {"resources": {"requests": {"cpu": "50m"}}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What one pod took."""

    part: str
    pod: str
    ready_s: float
    """From its making to ready; Kubernetes tells whole seconds."""
    memory_mb: float
    """Its working set, as kubelet counts it."""
    counted: str
    """When that was."""


class Charted:
    """The release `meshbus` in a namespace of its own, with two of each service on two nodes."""

    def __init__(self, cluster: RealCluster, folder: Path) -> None:
        self.cluster = cluster
        self._folder = folder
        self._store = folder / "store"
        self._helm = Helm(folder / "helm", cluster.kubeconfig)
        self._forwards = 0

    def prepare(self) -> None:
        """What a cluster has before: the images, a volume, and a namespace that takes no pod with
        more rights than it needs."""
        self.cluster.enforce_policies()
        self.cluster.take_in(*shipped.archives(), images.archive(RELEASES_IMAGES, name="releases"))
        self._store.mkdir(parents=True, exist_ok=True)
        # Not on a node: the volume is there on all of them, as one of a network's.
        os.chown(self._store, _USER, _USER)
        self.cluster.api.request("POST", "/api/v1/persistentvolumes", _volume(self._store))
        label = {"pod-security.kubernetes.io/enforce": "restricted"}
        namespace = {"metadata": {"name": NAMESPACE, "labels": label}}
        self.cluster.api.request("POST", "/api/v1/namespaces", namespace)

    def install(self, values: Mapping[str, Any] | None = None) -> None:
        """`helm install`, until all is ready; `values` come over those of the bed."""
        self.helm("install", RELEASE, str(CHART), values={**self._values(), **(values or {})})

    def uninstall(self) -> None:
        """`helm uninstall`; the volume and the keys stay."""
        self.helm("uninstall", RELEASE)

    def helm(self, verb: str, *arguments: str, values: Mapping[str, Any] | None = None) -> str:
        """What Helm prints, who waits until all is ready, or gone."""
        jobs = () if verb == "uninstall" else ("--wait-for-jobs",)
        common = (f"--namespace={NAMESPACE}", "--wait", *jobs, "--timeout=5m")
        return self._helm.run(
            verb, *arguments, *common, values=values, timeout_s=_INSTALLED_WITHIN_S
        )

    def rendered(self, values: Mapping[str, Any]) -> list[Object]:
        """The chart's objects with these values over those of the bed."""
        return self._helm.rendered({**self._values(), **values}, namespace=NAMESPACE)

    def _values(self) -> dict[str, Any]:
        return {
            **dict.fromkeys(SERVICES, _ASKED),
            "gateway": {**_ASKED, "service": {"type": "NodePort"}},
            "perf": {**_ASKED, "replicas": 1},
            "nats": {**_ASKED, "storage": {"className": _CLASS}},
            "istio": {"volume": {"image": {"reference": RELEASES_IMAGE}}, "readOnly": True},
            "network": {
                # Whoever comes by a node's port comes from a node.
                "peers": {"meshery": [{"ipBlock": {"cidr": "198.18.0.0/15"}}]},
                "ports": {"apiservers": [int(self.cluster.server_url.rpartition(":")[2])]},
            },
        }

    # --- ways in ----------------------------------------------------------------------------------

    @property
    def gateway_address(self) -> str:
        """Where Meshery finds it from outside: a port of every node."""
        service = self.cluster.api.request("GET", f"{_CLAIMS}/services/{RELEASE}")
        [port] = service["spec"]["ports"]
        return f"{self.cluster.node.address}:{port['nodePort']}"

    @property
    def kubeconfig_text(self) -> str:
        """The cluster as a Meshery in it reaches it, by the address that the chart registers."""
        return self.cluster.token_kubeconfig_text(server_url=SERVER)

    @asynccontextmanager
    async def operator(self) -> AsyncIterator[Bus]:
        """NATS as the operator, through a forwarded port, as docs/how-to/helm.md has it."""
        port = loopback.take_port()
        self._forwards += 1
        forward = Process(
            "port-forward",
            [
                kubectl_path(),
                f"--kubeconfig={self.cluster.kubeconfig}",
                f"--namespace={NAMESPACE}",
                "port-forward",
                f"{RELEASE}-nats-0",
                f"{port}:{_BUS_PORT}",
            ],
            log=self._folder / f"port-forward-{self._forwards}.log",
        )
        forward.start()
        try:
            wait_until(
                lambda: "Forwarding from" in forward.log.read_text(),
                timeout_s=_FORWARDED_WITHIN_S,
                what="NATS' port to be forwarded",
                processes=[forward],
            )
            settings = ChassisSettings.model_validate(
                {
                    "nats_url": f"nats://{loopback.HOST}:{port}",
                    "nats_seed": self.secret(f"{RELEASE}-keys")["nkey-operator"],
                }
            )
            bus = await connect(settings, service="operator")
            try:
                yield bus
            finally:
                await bus.close()
        finally:
            forward.kill()

    def secret(self, name: str) -> dict[str, str]:
        """A Secret's entries."""
        found = self.cluster.api.request("GET", f"{_CLAIMS}/secrets/{name}")
        return {key: base64.b64decode(value).decode() for key, value in found["data"].items()}

    # --- pods -------------------------------------------------------------------------------------

    def pods(self, part: str) -> list[dict[str, Any]]:
        """The pods of a service, or of NATS, that nobody has asked to end."""
        selector = f"app.kubernetes.io%2Fcomponent%3D{part}"
        found = self.cluster.api.request("GET", f"{_CLAIMS}/pods?labelSelector={selector}")
        return [pod for pod in found["items"] if "deletionTimestamp" not in pod["metadata"]]

    def kill(self, part: str) -> None:
        """SIGKILL for the processes in all of its pods, as the kernel does when memory is short;
        kubelet starts them again."""
        nodes = {node.name: node for node in self.cluster.nodes}
        for pod in self.pods(part):
            for status in pod["status"]["containerStatuses"]:
                ident = status["containerID"].removeprefix("containerd://")
                nodes[pod["spec"]["nodeName"]].kill_container(ident)

    def figures(self) -> list[Figures]:
        """Of each pod, as Kubernetes tells it."""
        used: dict[str, Any] = {}
        for node in self.cluster.nodes:
            told = self.cluster.api.request("GET", f"/api/v1/nodes/{node.name}/proxy/stats/summary")
            for pod in told["pods"]:
                used[pod["podRef"]["name"]] = pod["memory"]
        return [
            Figures(
                part=part,
                pod=pod["metadata"]["name"],
                ready_s=_since(pod, "Ready") - _time(pod["metadata"]["creationTimestamp"]),
                memory_mb=used[pod["metadata"]["name"]]["workingSetBytes"] / 1e6,
                counted=used[pod["metadata"]["name"]]["time"],
            )
            for part in PARTS
            for pod in self.pods(part)
            if pod["metadata"]["name"] in used
        ]

    def are_ready(self) -> bool:
        """Whether each part has its pods and all are ready."""
        return all(
            pods and all(has_condition(pod, "Ready") for pod in pods)
            for pods in map(self.pods, PARTS)
        )


def _since(pod: Mapping[str, Any], name: str) -> float:
    [found] = [each for each in pod["status"]["conditions"] if each["type"] == name]
    return _time(found["lastTransitionTime"])


def _time(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def _volume(folder: Path) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": _CLASS},
        "spec": {
            "capacity": {"storage": "10Gi"},
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": _CLASS,
            "hostPath": {"path": str(folder), "type": "Directory"},
        },
    }
