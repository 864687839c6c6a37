"""Reads Istio's standard metrics of a run, edge by edge, and finds the edges that belong to it.

A sidecar or gateway reports as `source` and `destination`, a waypoint as `waypoint`; a ztunnel
knows connections only, no requests. The load comes from outside of the mesh more often than not:
then the first proxy to report is the gateway's, as source, or the destination's own.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from services.chassis.prometheus import Sample
from services.perf.measurements.measurements import Measurement
from services.perf.telemetry.findings import Findings, guessed
from services.perf.telemetry.promql import (
    Distribution,
    any_of,
    distributions_of,
    grown,
    histogram,
    merged,
)
from services.perf.telemetry.shares import At, Point
from services.perf.telemetry.verdicts import Edge, ReporterLatency

REQUESTS = "istio_requests_total"
DURATIONS = "istio_request_duration_milliseconds"
CONNECTIONS = "istio_tcp_connections_opened_total"
UNKNOWN = "unknown"

_NO_SERVICE = ("", UNKNOWN, "PassthroughCluster", "BlackHoleCluster", "InboundPassthroughCluster")
_MOST_SERVICES = 50
_REPORTERS = {"source": At.SOURCE, "waypoint": At.WAYPOINT, "destination": At.DESTINATION}
"""From the outermost inwards."""
_LABELS = (
    "reporter",
    "source_workload",
    "source_workload_namespace",
    "destination_service",
    "destination_workload",
    "destination_workload_namespace",
)
_FLAGS = {
    "UO": "were refused by a circuit breaker",
    "UH": "found no healthy endpoint",
    "UF": "could not connect to an endpoint",
    "URX": "used up their retries or connection attempts",
    "DC": "were given up by the client",
    "UT": "timed out at the proxy",
    "UC": "lost the connection to the endpoint",
}
"""Response flags of something full or broken. Where Istio is as it comes, its proxies export next
to no statistics of clusters, and these are all that shows what a circuit breaker refused."""


class Ends(NamedTuple):
    """Names an edge; workloads are `name.namespace`."""

    source: str
    destination: str
    service: str


def _counts() -> defaultdict[str, float]:
    return defaultdict(float)


@dataclass(slots=True)
class Traffic:
    """Requests, errors and latencies of one edge, by the proxy that reported them."""

    requests: defaultdict[str, float] = field(default_factory=_counts)
    errors: defaultdict[str, float] = field(default_factory=_counts)
    flagged: defaultdict[str, defaultdict[str, float]] = field(
        default_factory=lambda: defaultdict(_counts)
    )
    """By response flag and reporter."""
    latencies: dict[str, Distribution] = field(default_factory=dict)

    @property
    def reporter(self) -> str:
        """The outermost one: it saw the requests, too, that never reached the next one."""
        return next((name for name in _REPORTERS if name in self.requests), "")

    @property
    def flags(self) -> dict[str, float]:
        """Requests by flag. One that two proxies flagged is one request."""
        return {flag: max(counts.values()) for flag, counts in self.flagged.items()}


Edges = dict[Ends, Traffic]


@dataclass(frozen=True, slots=True)
class Path:
    """The edges of a run: into the service under test, and out of the workloads behind it."""

    into: Edges
    beyond: Edges
    guess: str = ""

    @property
    def service(self) -> str:
        return min(ends.service for ends in self.into)

    @property
    def edges(self) -> Edges:
        return {**self.into, **self.beyond}

    @property
    def workloads(self) -> set[str]:
        """All at the ends, but for the unknown ones."""
        return {name for ends in self.edges for name in (ends.source, ends.destination)} - {UNKNOWN}

    @property
    def behind(self) -> set[str]:
        """Workloads behind the service."""
        return {ends.destination for ends in self.into} - {UNKNOWN}


async def path_of(findings: Findings, measurement: Measurement) -> Path | None:
    """Finds the edges of the run; None when no service can be the one under test."""
    if REQUESTS not in findings.names:
        if CONNECTIONS in findings.names:
            lacking = "only connections are reported, as ztunnels do; a waypoint would report "
            lacking += "requests and how long they took"
        else:
            lacking = "requests and errors by edge, as Istio's proxies count them"
        findings.missing.append(f"{REQUESTS}: {lacking}")
        return None
    by = (*_LABELS, "response_code", "response_flags")
    query = grown(REQUESTS, window=findings.window, by=by)
    path = _chosen(_edges_of(await findings.ask(query, what=REQUESTS)), measurement)
    if path is None:
        service = measurement.service or "any service"
        findings.missing.append(f"{REQUESTS}: requests to {service} in the window")
        return None
    for ends, traffic in path.edges.items():
        for flag, count in sorted(traffic.flags.items()):
            if flag in _FLAGS:
                requests = f"{count:.0f} requests of {ends.source} to {ends.service}"
                text = f"{requests} {_FLAGS[flag]} ({flag})"
                findings.add_saturated(flag, ends.service, count, text=text, query=query)
    return path


async def points_of(findings: Findings, path: Path) -> list[Point]:
    """Reads how long requests took at each proxy, from the outermost inwards."""
    points, edges = [], path.edges
    if findings.has(f"{DURATIONS}_count", tells="how long requests took at each proxy"):
        services = sorted({ends.service for ends in edges})[:_MOST_SERVICES]
        matchers = f"destination_service=~{any_of(services)}"
        query = histogram(DURATIONS, window=findings.window, by=_LABELS, matchers=matchers)
        samples = await findings.ask(query, what=DURATIONS)
        found = distributions_of(
            samples, lambda labels: (_ends(labels), labels.get("reporter", ""))
        )
        for (ends, reporter), distribution in found.items():
            if ends in edges:
                edges[ends].latencies[reporter] = distribution
        points = _points(path)
        for point in points:
            findings.add_point(point, query=query, to=f" to {path.service}")
        _add_calls(findings, path, query=query)
    reported = [_reported(ends, traffic) for ends, traffic in edges.items()]
    findings.edges += sorted(reported, key=lambda edge: -edge.requests)
    return points


def latency_of(reporter: str, distribution: Distribution) -> ReporterLatency:
    return ReporterLatency(
        reporter=reporter,
        requests=round(distribution.count, 1),
        mean_ms=round(distribution.mean, 3),
        p50_ms=round(distribution.quantile(0.5), 3),
        p99_ms=round(distribution.quantile(0.99), 3),
    )


def is_error(code: str) -> bool:
    """Status 400 and above; Istio says 0 where there was no answer."""
    return code == "0" or (code.isdigit() and int(code) >= 400)


# --- edges ---------------------------------------------------------------------------------------


def _edges_of(samples: Iterable[Sample]) -> Edges:
    edges: defaultdict[Ends, Traffic] = defaultdict(Traffic)
    for labels, count in samples:
        traffic, reporter = edges[_ends(labels)], labels.get("reporter", "")
        traffic.requests[reporter] += count
        if is_error(labels.get("response_code", "")):
            traffic.errors[reporter] += count
        for flag in labels.get("response_flags", "").split(","):
            if flag not in ("", "-"):
                traffic.flagged[flag][reporter] += count
    return edges


def _ends(labels: Mapping[str, str]) -> Ends:
    def workload(side: str) -> str:
        name = labels.get(f"{side}_workload", UNKNOWN)
        return f"{name}.{labels.get(f'{side}_workload_namespace', '')}" if name != UNKNOWN else name

    return Ends(workload("source"), workload("destination"), labels.get("destination_service", ""))


def _chosen(edges: Edges, measurement: Measurement) -> Path | None:
    wanted = measurement.services
    services = {
        ends.service
        for ends in edges
        if any(ends.service == one or ends.service.startswith(f"{one}.") for one in wanted)
    }
    guess = ""
    if not services and not measurement.service:
        counts = _counts()
        for ends, traffic in edges.items():
            if ends.service not in _NO_SERVICE:
                counts[ends.service] += max(traffic.requests.values())
        if counts:
            service, guess = guessed(counts)
            services = {service}
    if not services:
        return None
    into = {ends: traffic for ends, traffic in edges.items() if ends.service in services}
    behind = {ends.destination for ends in into} - {UNKNOWN}
    beyond = {e: t for e, t in edges.items() if e.source in behind and e not in into}
    return Path(into, beyond, guess)


def _reported(ends: Ends, traffic: Traffic) -> Edge:
    return Edge(
        source=ends.source,
        destination=ends.destination,
        service=ends.service,
        requests=round(traffic.requests[traffic.reporter], 1),
        errors=round(traffic.errors[traffic.reporter], 1),
        flags={flag: round(count, 1) for flag, count in traffic.flags.items()},
        latencies=[
            latency_of(reporter, traffic.latencies[reporter])
            for reporter in _REPORTERS
            if reporter in traffic.latencies
        ],
    )


# --- times ---------------------------------------------------------------------------------------


def _points(path: Path) -> list[Point]:
    seen = _counts()
    for ends, traffic in path.into.items():
        seen[ends.source] += max(traffic.requests.values())
    first = max(seen, key=lambda source: seen[source])
    points: list[Point] = []
    for reporter, at in _REPORTERS.items():
        whole = _latency(path.into, reporter, source=first)
        if not whole.count and at is not At.SOURCE:
            # Further inwards the same requests may come under another name, or under none.
            whole = _latency(path.into, reporter)
        if whole.count:
            points.append(Point(at, whole.count, whole.mean))
    return points


def _latency(edges: Edges, reporter: str, *, source: str | None = None) -> Distribution:
    return merged(
        traffic.latencies[reporter]
        for ends, traffic in edges.items()
        if reporter in traffic.latencies and source in (None, ends.source)
    )


def _add_calls(findings: Findings, path: Path, *, query: str) -> None:
    """Adds the calls that the workloads behind the service made, and how long they took."""
    calls, times = _counts(), _counts()
    for ends, traffic in path.beyond.items():
        outermost = next((traffic.latencies[r] for r in _REPORTERS if r in traffic.latencies), None)
        if outermost is not None:
            calls[ends.service] += outermost.count
            times[ends.service] += outermost.total
    requests = sum(traffic.requests[traffic.reporter] for traffic in path.into.values())
    for service in sorted(calls):
        ms = times[service] / requests
        text = (
            f"application: {calls[service] / requests:.2f} calls to {service} for each request, "
            f"{ms:.1f} ms together; less where they overlap"
        )
        findings.add_evidence(text, ms, query=query)
