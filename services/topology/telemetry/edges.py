"""Which edge of the mesh a report is about: Istio's labels, and the mistakes that are in them.

The rules are those of Kiali's telemetry. An edge's text is read once and kept; a mesh has some
thousands of them, and asks each several times for each answer of Prometheus.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from services.topology.telemetry.queries import ENDS, SEPARATOR
from services.topology.telemetry.traffic import Called, FlowKey, Peer, Protocol

UNKNOWN = "unknown"
PROTOCOLS = tuple(Protocol)
PASSTHROUGH, BLACK_HOLE = "PassthroughCluster", "BlackHoleCluster"
_NO_SERVICES = (PASSTHROUGH, BLACK_HOLE, "InboundPassthroughCluster")
_EGRESS = "istio-egressgateway"
_MULTICLUSTER = ".global"
_MOST_OLD = 1_000
"""Edges that may be kept beside twice those of one answer."""

IsWaypoint: TypeAlias = Callable[[Peer], bool]


def is_named_waypoint(peer: Peer) -> bool:
    """Whether a workload has the name that Istio gives to waypoints by default."""
    return peer.workload == "waypoint" or peer.workload.endswith("-waypoint")


@dataclass(frozen=True, slots=True)
class Edge:
    """One edge without its protocol."""

    number: int
    """Equal for all texts that mean the same edge."""
    keys: tuple[FlowKey, ...]
    """By the place of the protocol in `PROTOCOLS`."""
    host: str
    waypoint: str

    @property
    def pair(self) -> tuple[Peer, Peer]:
        """Source and destination, over all services."""
        return self.keys[0].source, self.keys[0].destination


class _Kept(dict[str, Edge | None]):
    """Reads an edge's text at its first look-up."""

    def __init__(self, read: Callable[[str], Edge | None]) -> None:
        super().__init__()
        self._read = read

    def __missing__(self, text: str) -> Edge | None:
        edge = self[text] = self._read(text)
        return edge


@dataclass(slots=True)
class Edges:
    """All edges that were read so far."""

    is_waypoint: IsWaypoint = is_named_waypoint
    of: Mapping[str, Edge | None] = field(init=False)
    """The edge behind each joined text; None for telemetry that is known to be wrong."""
    _kept: _Kept = field(init=False)
    _numbers: dict[tuple[Peer, Called, Peer], int] = field(default_factory=dict)
    _present: int = 0
    """How many one answer needed, the first one since nothing was kept; 0 before it."""

    def __post_init__(self) -> None:
        self.of = self._kept = _Kept(self._edge)

    def forget(self) -> None:
        """Called between two answers: when most edges are those of workloads that are gone, all
        are dropped, and the next answer reads its own again."""
        if not self._present:
            self._present = len(self._kept)
        elif len(self._kept) > 2 * self._present + _MOST_OLD:
            self._kept.clear()
            self._numbers.clear()
            self._present = 0

    def made(self, source: Peer, called: Called, destination: Peer, *, host: str = "") -> Edge:
        """An edge whose ends are known."""
        number = self._numbers.setdefault((source, called, destination), len(self._numbers))
        waypoint = ""
        if self.is_waypoint(destination):
            waypoint = "to"
        elif self.is_waypoint(source):
            waypoint = "from"
        keys = tuple(FlowKey(source, called, destination, protocol) for protocol in PROTOCOLS)
        return Edge(number, keys, host, waypoint)

    def _edge(self, text: str) -> Edge | None:
        labels = text.split(SEPARATOR)
        if len(labels) != len(ENDS):
            return None
        told_cluster = labels[0]
        source = Peer(*map(known, labels[:5]))
        if source.namespace and (source.is_unknown or told_cluster == UNKNOWN):
            return None
        destination = Peer(*map(known, labels[5:10]))
        namespace, name, host = map(known, labels[10:])
        if source.is_unknown:
            namespace, name = _of_other_cluster(namespace, name)
        egress_namespace = _egress_namespace(host) if host == name else ""
        if egress_namespace:
            called = Called(source.cluster, egress_namespace, _EGRESS, host)
            destination = Peer(source.cluster, egress_namespace, _EGRESS, _EGRESS, "latest")
            return self.made(source, called, destination, host=host)
        # A destination in an unknown cluster is taken for one in the source's (istio/istio#29373).
        cluster = destination.cluster or (source.cluster if namespace else "")
        if namespace and not cluster and labels[5] == UNKNOWN:
            return None
        if not destination.workload and host and host == name and _is_address(host):
            return None
        has_host = name and name not in _NO_SERVICES
        called = Called(cluster, namespace, name, host if has_host else "")
        if destination.is_unknown:
            destination = Peer()
        elif cluster != destination.cluster:
            _, *rest = map(known, labels[5:10])
            destination = Peer(cluster, *rest)
        return self.made(source, called, destination, host=host)


def known(label: str) -> str:
    return "" if label == UNKNOWN else label


def _of_other_cluster(namespace: str, name: str) -> tuple[str, str]:
    """`reviews.shop.global` is how another cluster called `reviews` in `shop`."""
    parts = name.removesuffix(_MULTICLUSTER).split(".")
    if name.endswith(_MULTICLUSTER) and len(parts) == 2:
        return parts[1], parts[0]
    return namespace, name


def _egress_namespace(host: str) -> str:
    """The namespace of the egress gateway's own host, "" for all others."""
    first, _, rest = host.partition(".")
    namespace, _, domain = rest.partition(".")
    return namespace if first == _EGRESS and domain.startswith("svc.") else ""


def _is_address(host: str) -> bool:
    """Whether a service's name is an address, as reported while pods come and go."""
    bare = host
    if host.startswith("["):
        bare = host[1:].partition("]")[0]
    elif host.count(":") == 1:
        bare = host.partition(":")[0]
    try:
        ipaddress.ip_address(bare)
    except ValueError:
        return False
    return True
