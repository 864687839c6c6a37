"""The port to Prometheus, and what was asked of it for one run with what came of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from services.chassis.prometheus import MetricsError, Sample
from services.perf.telemetry.promql import Window
from services.perf.telemetry.verdicts import Edge, Evidence, Saturated


class Metrics(Protocol):
    """A Prometheus, or what speaks like one."""

    async def query(self, text: str, *, at: datetime) -> list[Sample]:
        """Result of an instant query; raises `MetricsError`."""


@dataclass(slots=True)
class Findings:
    """Collects what a verdict will hold. Telemetry that fails makes it poorer, and is told."""

    metrics: Metrics
    window: Window
    names: set[str] = field(default_factory=set)
    """Metrics that Prometheus has at the window's end."""
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
        """Whether there is such a metric; if not, what it would have told is told as missing."""
        if name in self.names:
            return True
        self.missing.append(f"{name}: {tells}")
        return False

    def see(self, text: str, value: float, *, query: str = "") -> None:
        """Keeps a number; without a query it is the generator's own."""
        self.evidence.append(Evidence(text=text, query=query, value=round(value, 3)))

    def fill(self, what: str, where: str, value: float, *, text: str, query: str) -> None:
        """Keeps something that was full."""
        self.saturated.append(
            Saturated(what=what, where=where, value=round(value, 4), text=text, query=query)
        )
