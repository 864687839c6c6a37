"""Records of a cluster's objects, with the fields that the graph and the analysis read.

Ten thousand pods as decoded JSON take 150 MB; as these records, whose labels, annotations and
containers are shared by all pods of a workload, a tenth of that. Objects of a mesh's configuration
are few and keep their whole spec.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple, TypeAlias

Labels: TypeAlias = Mapping[str, str]


class Key(NamedTuple):
    """Which object of one cluster. `namespace` is "" for cluster-scoped kinds.

    A tuple, since it is what everything is found by: its hash is four times as fast as that of a
    dataclass.
    """

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        place = f"{self.namespace}/{self.name}" if self.namespace else self.name
        return f"{self.kind.rpartition('/')[2]} {place}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """The fields of every record."""

    key: Key
    uid: str = ""
    labels: Labels = field(default_factory=dict)
    annotations: Labels = field(default_factory=dict)
    created: str = ""
    """RFC 3339, as the API server has it."""

    @property
    def name(self) -> str:
        return self.key.name

    @property
    def namespace(self) -> str:
        return self.key.namespace


@dataclass(frozen=True, slots=True, kw_only=True)
class Namespace(Record):
    is_terminating: bool = False


@dataclass(frozen=True, slots=True)
class Port:
    """A port of a Service or a container. `target` is a number or a container port's name."""

    number: int
    name: str = ""
    protocol: str = "TCP"
    app_protocol: str = ""
    target: str = ""
    node_port: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Service(Record):
    type: str = "ClusterIP"
    """`ClusterIP`, `NodePort`, `LoadBalancer` or `ExternalName`."""
    selector: Labels = field(default_factory=dict)
    ports: tuple[Port, ...] = ()
    cluster_ip: str = ""
    """`None` for a headless one, as Kubernetes has it."""
    external_name: str = ""
    conditions: tuple[Mapping[str, Any], ...] = ()
    """Of its status."""

    @property
    def host(self) -> str:
        """Its name in the mesh, with Kubernetes' default domain."""
        return f"{self.name}.{self.namespace}.svc.cluster.local"


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoints(Record):
    """An EndpointSlice; `ready` and `unready` count its addresses."""

    service: str = ""
    ready: int = 0
    unready: int = 0


@dataclass(frozen=True, slots=True)
class Container:
    name: str
    image: str = ""
    ports: tuple[Port, ...] = ()
    run_as_user: int | None = None
    is_init: bool = False
    variables: tuple[str, ...] = ()
    """Names of the environment variables that have a value, of the few that rules ask about. The
    values may be secret."""


def canonical_name(labels: Labels) -> str:
    """Of the labels that Istio looks at, the first that is set; "" without any."""
    return (
        labels.get("service.istio.io/canonical-name")
        or labels.get("app.kubernetes.io/name")
        or labels.get("app")
        or ""
    )


def canonical_revision(labels: Labels) -> str:
    return (
        labels.get("service.istio.io/canonical-revision")
        or labels.get("app.kubernetes.io/version")
        or labels.get("version")
        or ""
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Runs(Record):
    """A pod, or the template of one."""

    pod_labels: Labels = field(default_factory=dict)
    pod_annotations: Labels = field(default_factory=dict)
    account: str = "default"
    """Name of the service account."""
    containers: tuple[Container, ...] = ()
    """Init containers too: a native sidecar is one."""
    host_network: bool = False
    run_as_user: int | None = None
    """Of the pod's security context."""

    @property
    def app(self) -> str:
        """Canonical service; "" without any label."""
        return canonical_name(self.pod_labels)

    @property
    def version(self) -> str:
        """Canonical revision; "" without any label."""
        return canonical_revision(self.pod_labels)

    @property
    def has_proxy(self) -> bool:
        """Whether Istio's proxy runs in it."""
        return any(container.name == "istio-proxy" for container in self.containers)


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload(Runs):
    """A Deployment, StatefulSet or DaemonSet."""

    selector: Labels = field(default_factory=dict)
    """Its `matchLabels`."""
    wanted: int = 0
    ready: int = 0
    """Replicas."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod(Runs):
    """`labels` and `pod_labels` are the same mapping."""

    owner: Key | None = None
    """The Deployment, StatefulSet, DaemonSet, Job, … that made it; None for a pod of its own. The
    owner of a Deployment's pod is the Deployment, not its ReplicaSet."""
    phase: str = ""
    is_ready: bool = False
    is_terminating: bool = False
    ip: str = ""

    @property
    def has_ended(self) -> bool:
        """Whether it has run to its end, and takes no traffic any more."""
        return self.phase in ("Succeeded", "Failed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(Record):
    """An object of a mesh's configuration, a webhook configuration, or a ConfigMap's `data`."""

    api_version: str = ""
    spec: Mapping[str, Any] = field(default_factory=dict)
    """For kinds without a spec (webhooks, ConfigMaps) the object without its metadata."""
    conditions: tuple[Mapping[str, Any], ...] = ()
    """Of its status; of a route, those that all its parents gave it."""
    addresses: tuple[str, ...] = ()
    """Of its status: what istiod gave a ServiceEntry without addresses."""
    generation: int = 0


class Sync(StrEnum):
    """How far a proxy is with one type of configuration."""

    SYNCED = "synced"
    SENT = "sent"
    """Not acknowledged yet."""
    STALE = "stale"
    """Not acknowledged for long."""
    NOT_SENT = "not sent"
    """The control plane has nothing of this type for the proxy."""
    REJECTED = "rejected"


@dataclass(frozen=True, slots=True)
class Configured:
    """One type of configuration of a proxy."""

    type: str
    """As istioctl calls it: `CDS`, `LDS`, `EDS`, `RDS`, …"""
    sync: Sync
    since: str = ""
    """RFC 3339, where it is stale or rejected: since when that was seen."""
    error: str = ""
    """Why it was rejected, in Envoy's words."""


class Standing(StrEnum):
    """How a proxy stands with its control plane, the worst first."""

    LOST = "lost"
    """No control plane of the cluster knows it."""
    REJECTED = "rejected"
    STALE = "stale"
    UNKNOWN = "unknown"
    """Nobody tells."""
    SYNCED = "synced"


_WORST_FIRST = tuple(Standing)


def worst(standings: Iterable[Standing]) -> Standing:
    """The worst of several; `UNKNOWN` of none."""
    return min(standings, key=_WORST_FIRST.index, default=Standing.UNKNOWN)


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxy(Record):
    """What the control planes, and the proxy's own agent, tell of the proxy in a pod."""

    type: str = ""
    """`sidecar`, `router` (a gateway), `waypoint` or `ztunnel`."""
    version: str = ""
    istiod: Key | None = None
    """The pod of the control plane that it is connected to."""
    istiod_version: str = ""
    configured: tuple[Configured, ...] = ()
    is_lost: bool = False
    """It runs, and no control plane of the cluster has known it for long."""
    expires: str = ""
    """RFC 3339, when its certificate ends; "" when that is not known."""
    is_expiring: bool = False
    """The end is near, and the agent has not renewed the certificate as it should have."""

    @property
    def standing(self) -> Standing:
        if self.is_lost:
            return Standing.LOST
        found = {configured.sync for configured in self.configured}
        if Sync.REJECTED in found:
            return Standing.REJECTED
        if Sync.STALE in found:
            return Standing.STALE
        return Standing.SYNCED if found else Standing.UNKNOWN


@dataclass(frozen=True, slots=True, kw_only=True)
class Istiod(Record):
    """What an istiod tells of itself."""

    fails_pushes: bool = False
    """It has lately failed to make or to send what a proxy should get."""


Object: TypeAlias = Namespace | Service | Endpoints | Workload | Pod | Config | Proxy | Istiod


@dataclass(frozen=True, slots=True)
class Change:
    """One object came (`before` is None), changed, or went (`after` is None)."""

    key: Key
    before: Any
    after: Any
