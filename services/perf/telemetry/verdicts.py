"""The verdict of the mesh's telemetry on a run: where the time went, what was full, how sure it is.

The time is split by means, because means of parts add up and quantiles do not. Each share says what
it covers: no metric tells the network from the proxies at its two ends, and several proxies report
nothing that would tell them from what stands behind them.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from pydantic import Field

from services.chassis.messages.models import Message, Piece

_MOST_EDGES_TOLD = 10


class Place(StrEnum):
    """Where the latency sits."""

    CLIENT = "client"
    SOURCE_PROXY = "source_proxy"
    DESTINATION_PROXY = "destination_proxy"
    APPLICATION = "application"
    UNKNOWN = "unknown"


class Confidence(StrEnum):
    """How far a verdict can be relied on; the reason stands beside it."""

    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"


class Share(Piece):
    """A part of the mean latency."""

    place: Place
    ms: float
    """A difference of two means. Below zero where the two ends counted different requests."""
    covers: str
    """What is in it, and what cannot be told apart in it."""


class Saturated(Piece):
    """A resource at its limit, or requests that a proxy refused because one was."""

    what: str
    """`cpu`, `cpu_throttled`, `memory`, `pending`, an Envoy counter or a response flag."""
    where: str
    value: float
    text: str
    query: str


class Evidence(Piece):
    """A number that the verdict rests on, and the query that gives it again."""

    text: str
    query: str
    value: float


class ReporterLatency(Piece):
    """Requests and latency as the proxy at one end of an edge reported them."""

    reporter: str
    """`source`, `destination` or `waypoint`, as Istio has it; where only Envoy's own statistics
    are there, `downstream` and `upstream` of the first proxy."""
    requests: float
    mean_ms: float
    p50_ms: float
    """Within a bucket of the proxy's histogram: as coarse as its bounds are."""
    p99_ms: float


class Edge(Piece):
    """Requests from one workload to a service and the workload behind it."""

    source: str
    """`workload.namespace`; `unknown` for somebody outside the mesh."""
    destination: str
    service: str
    requests: float
    errors: float
    """Answers with a status of 400 or more, and none at all."""
    flags: dict[str, float] = Field(default_factory=dict)
    """Requests by Envoy's response flag, where there was one."""
    latencies: list[ReporterLatency] = Field(default_factory=list)


class Verdict(Message):
    """The verdict with all that it rests on."""

    start: datetime
    end: datetime
    place: Place
    confidence: Confidence
    reason: str
    """Of the confidence, or why the place is unknown."""
    scrapes: float = 0.0
    """How often a target was scraped in the window; 0 when that is not known."""
    shares: list[Share] = Field(default_factory=list)
    """From the generator inwards; they add up to the generator's mean."""
    saturated: list[Saturated] = Field(default_factory=list)
    evidence: list[Evidence] = Field(default_factory=list)
    missing: list[str] = Field(default_factory=list)
    """Telemetry that was looked for and not found, and what it would have told."""
    edges: list[Edge] = Field(default_factory=list)
    """Those into the service under test and out of its workloads."""

    def text(self) -> str:
        """For people, in plain lines."""
        lines = [f"Latency: {self.place} (confidence {self.confidence}: {self.reason})"]
        lines += [f"  {share.ms:.1f} ms {share.place}: {share.covers}" for share in self.shares]
        lines += [f"Saturated: {one.text}" for one in self.saturated]
        lines += [f"Seen: {one.text}" for one in self.evidence]
        lines += [_told_edge(edge) for edge in self.edges[:_MOST_EDGES_TOLD]]
        if len(self.edges) > _MOST_EDGES_TOLD:
            lines.append(f"Edges: {len(self.edges) - _MOST_EDGES_TOLD} more")
        lines += [f"Not found: {text}" for text in self.missing]
        return "\n".join(lines)


def _told_edge(edge: Edge) -> str:
    seen = "; ".join(
        f"{one.reporter} mean {one.mean_ms:.1f}, p50 {one.p50_ms:.1f}, p99 {one.p99_ms:.1f} ms"
        for one in edge.latencies
    )
    flags = ", ".join(f"{flag} {count:.0f}" for flag, count in edge.flags.items())
    is_known = edge.source != edge.destination  # both unknown where an Envoy tells of itself
    head = (
        f"Edge: {edge.source} to {edge.destination} ({edge.service})"
        if is_known
        else (f"Edge: to {edge.service}")
    )
    counts = f"{edge.requests:.0f} requests, {edge.errors:.0f} errors"
    return ", ".join(part for part in (f"{head}: {counts}", flags, seen) if part)
