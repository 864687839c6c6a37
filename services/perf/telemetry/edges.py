"""Istio's standard metrics of a run, edge by edge, and which edges belong to the run.

A sidecar or gateway reports as `source` and `destination`, a waypoint as `waypoint`; a ztunnel
knows connections only, no requests. The load comes from outside of the mesh more often than not:
then the first proxy to report is the gateway's, as source, or the destination's own.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from services.chassis.prometheus import Sample
from services.perf.measurements.measurements import Measurement
from services.perf.telemetry.distributions import Distribution, distributions_of, merged
from services.perf.telemetry.promql import Window, any_of, grown, histogram
from services.perf.telemetry.splits import At, Point
from services.perf.telemetry.verdicts import Edge, ReporterLatency

REQUESTS = "istio_requests_total"
DURATIONS = "istio_request_duration_milliseconds"
CONNECTIONS = "istio_tcp_connections_opened_total"
UNKNOWN = "unknown"

_NO_SERVICE = ("", UNKNOWN, "PassthroughCluster", "BlackHoleCluster", "InboundPassthroughCluster")
_MOST_SERVICES = 50
_REPORTERS = {"source": At.SOURCE, "waypoint": At.WAYPOINT, "destination": At.DESTINATION}
"""From the outermost inwards."""
_ENDS = (
    "reporter",
    "source_workload",
    "source_workload_namespace",
    "destination_service",
    "destination_workload",
    "destination_workload_namespace",
)


@dataclass(frozen=True, slots=True)
class Ends:
    """Names an edge; workloads are `name.namespace`."""

    source: str
    destination: str
    service: str


def _counts() -> defaultdict[str, float]:
    return defaultdict(float)


@dataclass(slots=True)
class Traffic:
    """What was reported of one edge, by reporter."""

    requests: defaultdict[str, float] = field(default_factory=_counts)
    errors: defaultdict[str, float] = field(default_factory=_counts)
    flags: defaultdict[str, float] = field(default_factory=_counts)
    """By flag, of the reporter that saw most."""
    latencies: dict[str, Distribution] = field(default_factory=dict)

    @property
    def reporter(self) -> str:
        """The outermost one: it saw the requests, too, that never reached the next one."""
        return next((name for name in _REPORTERS if name in self.requests), "")


Edges = dict[Ends, Traffic]


@dataclass(frozen=True, slots=True)
class Path:
    """The edges of a run: into the service under test, and out of the workloads behind it."""

    service: str
    into: Edges
    beyond: Edges
    guess: str = ""
    """Why it is this service, where the test named none that the mesh knows."""

    @property
    def services(self) -> set[str]:
        return {ends.service for ends in (*self.into, *self.beyond)}

    @property
    def workloads(self) -> set[str]:
        """All at the ends, but for the unknown ones."""
        both = {w for ends in (*self.into, *self.beyond) for w in (ends.source, ends.destination)}
        return both - {UNKNOWN}

    @property
    def behind(self) -> set[str]:
        """Workloads behind the service."""
        return {ends.destination for ends in self.into} - {UNKNOWN}


def requests_query(window: Window) -> str:
    return grown(REQUESTS, window=window, by=(*_ENDS, "response_code", "response_flags"))


def durations_query(services: Iterable[str], window: Window) -> str:
    matchers = f"destination_service=~{any_of(sorted(services)[:_MOST_SERVICES])}"
    return histogram(DURATIONS, window=window, by=_ENDS, matchers=matchers)


def edges_of(samples: Iterable[Sample]) -> Edges:
    """Answers of `requests_query`."""
    edges: Edges = {}
    flags: dict[tuple[Ends, str], dict[str, float]] = {}
    for sample in samples:
        labels = sample.labels
        ends, reporter = _ends(labels), labels.get("reporter", "")
        traffic = edges.setdefault(ends, Traffic())
        traffic.requests[reporter] += sample.value
        if is_error(labels.get("response_code", "")):
            traffic.errors[reporter] += sample.value
        for flag in labels.get("response_flags", "").split(","):
            if flag not in ("", "-"):
                counts = flags.setdefault((ends, flag), _counts())
                counts[reporter] += sample.value
    for (ends, flag), counts in flags.items():
        # A request that two proxies flagged is one request.
        edges[ends].flags[flag] = max(counts.values())
    return edges


def add_durations(edges: Edges, samples: Iterable[Sample]) -> None:
    """Puts the answers of `durations_query` to their edges."""
    found = distributions_of(samples, lambda labels: (_ends(labels), labels.get("reporter", "")))
    for (ends, reporter), distribution in found.items():
        if ends in edges:
            edges[ends].latencies[reporter] = distribution


def path_of(edges: Edges, measurement: Measurement) -> Path | None:
    """The edges of the run; None when no service can be the one under test."""
    wanted = [measurement.service] if measurement.service else hosts_of(measurement)
    services = {ends.service for ends in edges if is_service(ends.service, wanted)}
    guess = ""
    if not services and not measurement.service:
        services = _busiest(edges)
        guess = f"the service under test was not named; {', '.join(services)} got most requests"
    if not services:
        return None
    into = {ends: traffic for ends, traffic in edges.items() if ends.service in services}
    behind = {ends.destination for ends in into} - {UNKNOWN}
    beyond = {e: t for e, t in edges.items() if e.source in behind and e not in into}
    return Path(service=min(services), into=into, beyond=beyond, guess=guess)


def points_of(path: Path) -> list[Point]:
    """What the proxies on the way measured, from the outermost inwards."""
    seen: defaultdict[str, float] = _counts()
    for ends, traffic in path.into.items():
        seen[ends.source] += max(traffic.requests.values(), default=0.0)
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


def calls_of(path: Path) -> dict[str, tuple[float, float]]:
    """Of each service that the workloads behind call: calls and milliseconds, both in total."""
    found: dict[str, tuple[float, float]] = {}
    for ends, traffic in path.beyond.items():
        outermost = next((traffic.latencies[r] for r in _REPORTERS if r in traffic.latencies), None)
        if outermost is not None:
            calls, ms = found.get(ends.service, (0.0, 0.0))
            found[ends.service] = (calls + outermost.count, ms + outermost.total)
    return found


def told_edges(path: Path) -> list[Edge]:
    """For the verdict, the busiest first."""
    edges = [
        Edge(
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
        for ends, traffic in (*path.into.items(), *path.beyond.items())
    ]
    return sorted(edges, key=lambda edge: -edge.requests)


def latency_of(reporter: str, distribution: Distribution) -> ReporterLatency:
    return ReporterLatency(
        reporter=reporter,
        requests=round(distribution.count, 1),
        mean_ms=round(distribution.mean, 3),
        p50_ms=round(distribution.quantile(0.5), 3),
        p99_ms=round(distribution.quantile(0.99), 3),
    )


def hosts_of(measurement: Measurement) -> list[str]:
    """Of the targets, without ports."""
    found = [
        urlsplit(t.url if "//" in t.url else f"//{t.url}").hostname for t in measurement.targets
    ]
    return [host for host in found if host]


def is_service(host: str, wanted: Iterable[str]) -> bool:
    """Whether a host of the mesh is one of these, each a whole host or `name.namespace`."""
    return any(host == one or host.startswith(f"{one}.") for one in wanted)


def is_error(code: str) -> bool:
    """Status 400 and above; Istio says 0 where there was no answer."""
    return code == "0" or (code.isdigit() and int(code) >= 400)


def _busiest(edges: Edges) -> set[str]:
    counts = _counts()
    for ends, traffic in edges.items():
        if ends.service not in _NO_SERVICE:
            counts[ends.service] += max(traffic.requests.values(), default=0.0)
    return {max(counts, key=lambda service: counts[service])} if counts else set()


def _latency(edges: Edges, reporter: str, *, source: str | None = None) -> Distribution:
    return merged(
        traffic.latencies[reporter]
        for ends, traffic in edges.items()
        if reporter in traffic.latencies and source in (None, ends.source)
    )


def _ends(labels: Mapping[str, str]) -> Ends:
    def workload(side: str) -> str:
        name = labels.get(f"{side}_workload", UNKNOWN)
        return f"{name}.{labels.get(f'{side}_workload_namespace', '')}" if name != UNKNOWN else name

    return Ends(workload("source"), workload("destination"), labels.get("destination_service", ""))
