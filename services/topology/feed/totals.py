"""What each cluster comes to: the figures of the fleet, kept up with every delta.

A delta costs as much as it has items: of each item only the few numbers are kept that are summed.
The sums go out once a second at most, however much changes. Of traffic some samples are kept, so
that whoever opens the page sees where it comes from; they begin with this process.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from services.topology.feed import rendering
from services.topology.feed.deltas import (
    DRIFT_PART,
    EDGES,
    FINDINGS_PART,
    INFO_PART,
    NODES,
    Delta,
    Item,
    View,
    part_of,
)
from services.topology.feed.views import ClusterView, Views

_VIEW = View.VERSIONED_APP
_NODES, _EDGES = part_of(_VIEW, NODES), part_of(_VIEW, EDGES)
_COUNTED = frozenset({_NODES, _EDGES, FINDINGS_PART, DRIFT_PART, INFO_PART})
_EVERY_S = 1.0
_SAMPLE_S = 15.0
_MOST_SAMPLES = 240

Clock = Callable[[], float]
"""Unix time."""
_Sample = tuple[int, float, float]
"""Unix time, requests per second, share of errors in percent."""


@dataclass(frozen=True, slots=True)
class _Node:
    """What is summed of one node."""

    is_service: bool = False
    health: str = ""
    requests: float = 0.0
    errors: float = 0.0
    is_in_mesh: bool = False


@dataclass(frozen=True, slots=True)
class _Edge:
    """The requests of one edge, and how many of them were encrypted."""

    rate: float
    secured: float


@dataclass(slots=True)
class Totals:
    """One cluster."""

    cluster: str
    info: Item = field(default_factory=dict)
    nodes: dict[str, _Node] = field(default_factory=dict)
    edges: dict[str, _Edge] = field(default_factory=dict)
    findings: dict[str, str] = field(default_factory=dict)
    """Level by id."""
    drifts: dict[str, str] = field(default_factory=dict)
    """Kind by id."""
    samples: deque[_Sample] = field(default_factory=lambda: deque(maxlen=_MOST_SAMPLES))

    @classmethod
    def of(cls, view: ClusterView) -> Totals:
        """The totals of all that a view has."""
        found = cls(view.cluster)
        found.apply({part: _decoded(view, part) for part in _COUNTED})
        return found

    def apply(self, parts: Mapping[str, Mapping[str, Item | None]]) -> bool:
        """Takes changed items over; False where none of them counts here."""
        if INFO_PART in parts:
            self.info = next((item for item in parts[INFO_PART].values() if item), {})
        for part, known, read in (
            (_NODES, self.nodes, _node),
            (_EDGES, self.edges, _edge),
            (FINDINGS_PART, self.findings, _level),
            (DRIFT_PART, self.drifts, _kind),
        ):
            _put(known, parts.get(part, {}), read)
        return not _COUNTED.isdisjoint(parts)

    def sample(self, now: float) -> None:
        """Remembers the traffic of now, some seconds after the last time."""
        if self.samples and now - self.samples[-1][0] < _SAMPLE_S:
            return
        rate, errors = self._traffic()
        self.samples.append((int(now), rate, errors))

    def told(self, now: float) -> dict[str, Any]:
        """As the page gets it."""
        nodes = self.nodes.values()
        rate, errors = self._traffic()
        secured = sum(edge.secured for edge in self.edges.values())
        encrypted = sum(edge.rate for edge in self.edges.values())
        workloads = [node for node in nodes if not node.is_service]
        return {
            "cluster": self.cluster,
            "name": self.info.get("name") or self.cluster,
            "state": self.info.get("state", "starting"),
            "detail": self.info.get("detail", ""),
            "since": self.info.get("since", ""),
            "telemetry": self.info.get("telemetry") or {},
            "controlPlane": self.info.get("controlPlane") or {},
            "at": int(now),
            "workloads": len(workloads),
            "inMesh": sum(node.is_in_mesh for node in workloads),
            "services": len(self.nodes) - len(workloads),
            "health": dict(Counter(node.health for node in workloads if node.health)),
            "rate": rate,
            "errors": errors,
            "mtls": round(100.0 * secured / encrypted, 1) if encrypted else None,
            "findings": dict(Counter(self.findings.values())),
            "drift": dict(Counter(self.drifts.values())),
        }

    def _traffic(self) -> tuple[float, float]:
        requests = sum(node.requests for node in self.nodes.values())
        errors = sum(node.errors for node in self.nodes.values())
        return round(requests, 2), round(100.0 * errors / requests, 2) if requests else 0.0


@dataclass(slots=True, kw_only=True)
class Fleet:
    """The totals of all clusters, and the browsers that follow them."""

    views: Views
    clock: Clock = time.time
    _totals: dict[str, Totals] = field(default_factory=dict)
    _waiting: dict[asyncio.Event, set[str]] = field(default_factory=dict)
    """Bells of browsers, and the clusters whose change they have not got yet."""
    _changed: set[str] = field(default_factory=set)
    _timer: asyncio.TimerHandle | None = None
    _stop: Callable[[], None] | None = None

    def start(self) -> None:
        """Counts what is there, and each change from now on."""
        for view in self.views.clusters.values():
            self._totals[view.cluster] = Totals.of(view)
        self._stop = self.views.listen(self._heard)

    def close(self) -> None:
        if self._stop is not None:
            self._stop()
        if self._timer is not None:
            self._timer.cancel()

    def listen(self, bell: asyncio.Event) -> None:
        """`bell` rings when something changed."""
        self._waiting[bell] = set()

    def leave(self, bell: asyncio.Event) -> None:
        self._waiting.pop(bell, None)

    def whole(self) -> bytes:
        """The frame with every cluster and its samples."""
        now = self.clock()
        clusters = [
            {**totals.told(now), "samples": list(totals.samples)}
            for totals in self._totals.values()
        ]
        return b'event: fleet\ndata: {"whole":true,"clusters":%b}\n\n' % orjson.dumps(clusters)

    def take(self, bell: asyncio.Event) -> bytes:
        """The frame with what changed since the last time; b"" without anything."""
        waiting = self._waiting.get(bell)
        if not waiting:
            return b""
        now = self.clock()
        clusters = [
            self._totals[name].told(now)
            if name in self._totals
            else {"cluster": name, "gone": True}
            for name in sorted(waiting)
        ]
        waiting.clear()
        return b'event: fleet\ndata: {"clusters":%b}\n\n' % orjson.dumps(clusters)

    def _heard(self, delta: Delta) -> None:
        view = self.views.view(delta.cluster)
        if view is None:
            self._totals.pop(delta.cluster, None)
        elif not delta.parts or delta.cluster not in self._totals:
            # An empty delta says that the view is another one.
            before = self._totals.get(delta.cluster)
            self._totals[delta.cluster] = Totals.of(view)
            if before is not None:
                self._totals[delta.cluster].samples = before.samples
        elif not self._totals[delta.cluster].apply(delta.parts):
            return
        self._changed.add(delta.cluster)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_EVERY_S, self._tell)

    def _tell(self) -> None:
        self._timer = None
        changed, self._changed = self._changed, set()
        now = self.clock()
        for cluster in changed:
            if cluster in self._totals:
                self._totals[cluster].sample(now)
        for bell, waiting in self._waiting.items():
            waiting |= changed
            bell.set()


def _decoded(view: ClusterView, part: str) -> dict[str, Item | None]:
    return {ident: rendering.decoded(text) for ident, text in view.items(part).items()}


def _put(
    known: dict[str, Any], items: Mapping[str, Item | None], read: Callable[[Item], Any]
) -> None:
    for ident, item in items.items():
        found = read(item) if item is not None else None
        if found is None:
            known.pop(ident, None)
        else:
            known[ident] = found


def _level(item: Item) -> str:
    return str(item.get("level", ""))


def _kind(item: Item) -> str:
    return str(item.get("kind", ""))


def _node(item: Item) -> _Node | None:
    if item.get("isBox") or item.get("nodeType") not in ("app", "workload", "service"):
        return None
    health = item.get("healthData")
    status = str(health.get("status", "")) if isinstance(health, Mapping) else ""
    if item["nodeType"] == "service":
        return _Node(is_service=True, health=status)
    requests = errors = 0.0
    for traffic in item.get("traffic") or ():
        rates = traffic.get("rates") or {}
        requests += _number(rates, "httpIn") + _number(rates, "grpcIn")
        errors += sum(_number(rates, name) for name in _ERRORS)
    return _Node(
        health=status,
        requests=requests,
        errors=errors,
        is_in_mesh=not item.get("isOutOfMesh") and not item.get("isOutside"),
    )


_ERRORS = ("httpIn5xx", "httpInNoResponse", "grpcInErr", "grpcInNoResponse")


def _edge(item: Item) -> _Edge | None:
    traffic = item.get("traffic")
    if not isinstance(traffic, Mapping):
        return None
    rates = traffic.get("rates") or {}
    rate = _number(rates, "http") + _number(rates, "grpc")
    return _Edge(rate, rate * _number(item, "isMTLS") / 100.0) if rate else None


def _number(rates: Mapping[str, Any], name: str) -> float:
    try:
        return float(rates.get(name) or 0.0)
    except (TypeError, ValueError):
        return 0.0
