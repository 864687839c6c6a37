"""Collects the answers about one run's window from which its verdict is made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from services.chassis.prometheus import Metrics, MetricsError, Sample
from services.perf.telemetry.promql import Window
from services.perf.telemetry.shares import Point
from services.perf.telemetry.verdicts import Edge, Evidence, Saturated


@dataclass(slots=True)
class Findings:
    """Parts of a verdict. A query that fails makes it poorer, and is listed as missing."""

    metrics: Metrics
    window: Window
    names: set[str] = field(default_factory=set)
    """Metrics that Prometheus has at the window's end."""
    guess: str = ""
    """How the service under test was found, where the test named none that the mesh knows."""
    evidence: list[Evidence] = field(default_factory=list)
    saturated: list[Saturated] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    edges: list[Edge] = field(default_factory=list)

    async def ask(self, query: str, *, what: str) -> list[Sample]:
        """Answer of a query as of the window's end; none when it fails, or there is no query."""
        if not query:
            return []
        try:
            return await self.metrics.query(query, at=self.window.end)
        except MetricsError as error:
            self.missing.append(f"{what}: {error}")
            return []

    def has(self, name: str, *, tells: str) -> bool:
        """Whether there is such a metric; if not, lists it as missing with what it `tells`."""
        if name in self.names:
            return True
        self.missing.append(f"{name}: {tells}")
        return False

    def add_evidence(
        self, text: str, value: float, *, query: str = "", digits: int | None = 3
    ) -> None:
        """Adds a number; without a query it is the generator's own."""
        rounded = value if digits is None else round(value, digits)
        self.evidence.append(Evidence(text=text, query=query, value=rounded))

    def add_point(self, point: Point, *, query: str, to: str = "") -> Point:
        """Adds the mean of a point, and returns the point."""
        text = f"{point.at}: {point.requests:.0f} requests{to}, mean {point.mean_ms:.1f} ms"
        self.add_evidence(text, point.mean_ms, query=query)
        return point

    def add_saturated(self, what: str, where: str, value: float, *, text: str, query: str) -> None:
        """Adds a resource that was at its limit."""
        self.saturated.append(
            Saturated(what=what, where=where, value=round(value, 4), text=text, query=query)
        )


def guessed(counts: Mapping[str, float]) -> tuple[str, str]:
    """The service with most requests, and the doubt that comes with taking it."""
    service = max(counts, key=lambda name: counts[name])
    return service, f"the service under test was not named; {service} got most requests"
