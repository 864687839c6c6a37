"""Traffic from the Prometheus that scrapes the mesh: nine queries, however large the mesh is."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime

from services.chassis.errors import TelemetryUnavailable
from services.chassis.memory import uncollected
from services.chassis.prometheus import Metrics, MetricsError, Sample
from services.topology.telemetry import queries
from services.topology.telemetry.edges import Edges, IsWaypoint, is_named_waypoint
from services.topology.telemetry.quantiles import bounds_of
from services.topology.telemetry.queries import Amount
from services.topology.telemetry.tallies import Tallies
from services.topology.telemetry.traffic import Flows

_REQUESTS = "requests"
_DURATIONS = "response times"
_BOUNDS = "bounds of response times"
_SECURITY = "security of requests"
_TCP_SECURITY = "security of TCP connections"
_AMOUNTS = {
    Amount.TCP_SENT: "TCP bytes sent",
    Amount.TCP_RECEIVED: "TCP bytes received",
    Amount.GRPC_SENT: "gRPC messages sent",
    Amount.GRPC_RECEIVED: "gRPC messages received",
}


class PrometheusTelemetry:
    """Without requests there are no flows; anything else that Prometheus does not tell is missing
    from them, and told in `missing` until the next time."""

    def __init__(
        self,
        metrics: Metrics,
        *,
        name: str = "Prometheus",
        tried: tuple[str, ...] = (),
        is_shared: bool = False,
        is_waypoint: IsWaypoint = is_named_waypoint,
    ) -> None:
        """`is_waypoint` knows waypoints better than by their names."""
        self.name = name
        self.tried = tried
        self.missing: tuple[str, ...] = ()
        """What the last flows lack, and why."""
        self.metrics: Metrics | None = metrics
        self.is_shared = is_shared
        self._metrics = metrics
        self._edges = Edges(is_waypoint)

    async def flows(self, *, at: datetime, window_s: float) -> Flows:
        answers = await self._asked(_texts(window_s), at)
        self._edges.forget()
        with uncollected():
            return self._read(answers)

    def _read(self, answers: Mapping[str, Sequence[Sample]]) -> Flows:
        tallies = Tallies(self._edges)
        tallies.requests(answers[_REQUESTS])
        for amount, what in _AMOUNTS.items():
            tallies.amounts(amount, answers[what])
        tallies.durations(answers[_DURATIONS])
        tallies.security(answers[_SECURITY], is_tcp=False)
        tallies.security(answers[_TCP_SECURITY], is_tcp=True)
        bounds = (labels.get(queries.BOUND, "") for labels, _ in answers[_BOUNDS])
        return tallies.flows(bounds_of(bounds, seen=tallies.seen_bounds))

    async def _asked(self, texts: Mapping[str, str], at: datetime) -> dict[str, list[Sample]]:
        """All answers; those of secondary queries are empty where Prometheus fails."""
        found = await asyncio.gather(*(self._ask(text, at) for text in texts.values()))
        answers: dict[str, list[Sample]] = {}
        missing = []
        for what, answer in zip(texts, found, strict=True):
            if isinstance(answer, MetricsError):
                if what == _REQUESTS:
                    raise TelemetryUnavailable(
                        "Prometheus does not tell the mesh's traffic", cause=str(answer)
                    )
                missing.append(f"{what}: {answer}")
                answer = []
            answers[what] = answer
        self.missing = tuple(missing)
        return answers

    async def _ask(self, text: str, at: datetime) -> list[Sample] | MetricsError:
        try:
            return await self._metrics.query(text, at=at)
        except MetricsError as error:
            return error


def _texts(window_s: float) -> dict[str, str]:
    """All queries by their names for people."""
    return {
        _REQUESTS: queries.requests(window_s),
        **{what: queries.amounts(amount, window_s) for amount, what in _AMOUNTS.items()},
        _DURATIONS: queries.durations(window_s),
        _BOUNDS: queries.BOUNDS,
        _SECURITY: queries.security(queries.REQUESTS, window_s),
        _TCP_SECURITY: queries.security(Amount.TCP_RECEIVED, window_s),
    }
