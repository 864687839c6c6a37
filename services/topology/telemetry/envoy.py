"""Traffic from the proxies themselves, where no Prometheus scrapes the mesh.

A proxy that counts Istio's metrics tells edges with both ends. One that does not (Istio leaves them
out on demand, and an Envoy without Istio's extensions has none) tells its clusters: which services
it calls, but not which workloads answer. Such an edge ends at the service.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Generic, Protocol, TypeAlias, TypeVar

from services.chassis.errors import TelemetryUnavailable
from services.chassis.prometheus import Metrics, Sample
from services.topology.telemetry.clusters import flows_of_clusters
from services.topology.telemetry.edges import Edges, IsWaypoint, is_named_waypoint
from services.topology.telemetry.quantiles import Bounds, bounds_of
from services.topology.telemetry.queries import BOUND, DETAILS, DURATIONS, EDGE, REQUESTS, Amount
from services.topology.telemetry.stats import OfCluster, OfEdge, Stats
from services.topology.telemetry.tallies import Tallies
from services.topology.telemetry.traffic import Flow, FlowKey, Flows, Peer

Name = TypeVar("Name", bound=Hashable)


@dataclass(frozen=True, slots=True)
class _Step(Generic[Name]):
    start_s: float
    end_s: float
    grown: Mapping[Name, float]


@dataclass(slots=True)
class Growth(Generic[Name]):
    """How fast the counters of one proxy grow. Each reading is compared with the one before it and
    dropped; the differences are kept for as long as a window. A counter that is lower than before
    was set back by a restart, and has counted what it says since then."""

    read_s: float
    """When the last reading was."""
    _last: Mapping[Name, float]
    _steps: deque[_Step[Name]] = field(default_factory=deque)

    def add(self, counters: Mapping[Name, float], *, at_s: float) -> None:
        """The next reading. A counter that the last one did not have stood at zero there."""
        if at_s <= self.read_s:
            return
        grown: dict[Name, float] = {}
        for name, value in counters.items():
            before = self._last.get(name, 0.0)
            difference = value - before if value >= before else value
            if difference > 0:
                grown[name] = difference
        self._steps.append(_Step(self.read_s, at_s, grown))
        self._last, self.read_s = counters, at_s

    def rates(self, *, window_s: float) -> dict[Name, float]:
        """Per second, over the steps of the window and at least the last one; empty after the first
        reading."""
        while len(self._steps) > 1 and self.read_s - self._steps[0].start_s > window_s:
            self._steps.popleft()
        if not self._steps:
            return {}
        seconds = self.read_s - self._steps[0].start_s
        rates: dict[Name, float] = {}
        for step in self._steps:
            for name, value in step.grown.items():
                rates[name] = rates.get(name, 0.0) + value / seconds
        return rates


Rates: TypeAlias = tuple[Peer, Mapping[OfCluster | OfEdge, float]]
"""Of one proxy."""

_FORGET_AFTER_WINDOWS = 3


@dataclass(frozen=True, slots=True)
class Reading:
    """The counters of one proxy. `proxy` identifies it until it restarts."""

    proxy: str
    peer: Peer
    stats: Stats


@dataclass(frozen=True, slots=True)
class Readings:
    """Of all proxies behind one adapter. `missing` says which could not be read, and why."""

    found: Sequence[Reading]
    missing: Sequence[str] = ()


class Proxies(Protocol):
    """Where proxies are read."""

    async def readings(self) -> Readings:
        """One reading of each; failures are in it, not raised."""
        ...


class EnvoyTelemetry:
    """Rates between the readings of one window; a single reading gives none."""

    name: str = "Envoy"
    tried: tuple[str, ...] = ()
    metrics: Metrics | None = None
    is_shared: bool = False

    def __init__(
        self,
        *proxies: Proxies,
        is_waypoint: IsWaypoint = is_named_waypoint,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`clock` gives seconds: proxies count no time themselves."""
        self.missing: tuple[str, ...] = ()
        """What the last flows lack, and why."""
        self._proxies = proxies
        self._clock = clock
        self._edges = Edges(is_waypoint)
        self._growths: dict[str, tuple[Peer, Growth[OfCluster | OfEdge]]] = {}

    async def flows(self, *, at: datetime, window_s: float) -> Flows:
        """Flows of now: proxies keep no past, so `at` is not looked at."""
        all_readings = await asyncio.gather(*(proxies.readings() for proxies in self._proxies))
        now_s = self._clock()
        missing = [text for readings in all_readings for text in readings.missing]
        found = [reading for readings in all_readings for reading in readings.found]
        if missing and not found:
            raise TelemetryUnavailable("no proxy tells its statistics", cause="; ".join(missing))
        for reading in found:
            self._add(reading, now_s)
        self._forget(now_s - window_s * _FORGET_AFTER_WINDOWS)
        rates = [
            (peer, growth.rates(window_s=window_s))
            for peer, growth in self._growths.values()
            if growth.read_s == now_s
        ]
        self.missing = tuple(missing)
        self._edges.forget()
        bounds = bounds_of(text for reading in found for text in reading.stats.bounds)
        return {**self._of_clusters(rates, bounds), **self._of_edges(rates, bounds)}

    def _add(self, reading: Reading, now_s: float) -> None:
        known = self._growths.get(reading.proxy)
        if known is None:
            self._growths[reading.proxy] = (reading.peer, Growth(now_s, reading.stats.counters))
        else:
            known[1].add(reading.stats.counters, at_s=now_s)

    def _forget(self, before_s: float) -> None:
        gone = [proxy for proxy, (_, growth) in self._growths.items() if growth.read_s < before_s]
        for proxy in gone:
            del self._growths[proxy]

    def _of_clusters(self, rates: Sequence[Rates], bounds: Bounds) -> dict[FlowKey, Flow]:
        """Of the proxies that do not count Istio's metrics."""
        return flows_of_clusters(
            (
                (peer, {name: rate for name, rate in found.items() if isinstance(name, OfCluster)})
                for peer, found in rates
                if not any(isinstance(name, OfEdge) for name in found)
            ),
            bounds=bounds,
            is_waypoint=self._edges.is_waypoint,
        )

    def _of_edges(self, rates: Sequence[Rates], bounds: Bounds) -> Flows:
        """Of the others, by the same rules as in Prometheus."""
        samples: dict[str, list[Sample]] = {}
        for _, found in rates:
            for name, rate in found.items():
                if isinstance(name, OfEdge):
                    labels = {EDGE: name.edge, DETAILS: name.details, BOUND: name.detail}
                    samples.setdefault(name.metric, []).append(Sample(labels, rate))
        tallies = Tallies(self._edges)
        tallies.requests(samples.get(REQUESTS, ()))
        for amount in Amount:
            tallies.amounts(amount, samples.get(amount, ()))
        tallies.durations(samples.get(DURATIONS, ()))
        tallies.security(samples.get(f"security of {REQUESTS}", ()), is_tcp=False)
        tallies.security(samples.get(f"security of {Amount.TCP_RECEIVED}", ()), is_tcp=True)
        return tallies.flows(bounds)
