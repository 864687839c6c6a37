"""Traffic from the cluster's own Prometheus as long as there is one, and from the proxies else.

Which Services may be one is looked up among those that are watched; which of them is one, and knows
the mesh, is asked: one small query for each that is not in use. The first that knows the mesh is
taken. One that came later and stands before it in the order takes over; what none of them tells,
the proxies do.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

import structlog

from services.chassis.errors import TelemetryUnavailable
from services.chassis.prometheus import Metrics, MetricsError
from services.topology.telemetry.edges import IsWaypoint, is_named_waypoint
from services.topology.telemetry.places import Place, Places
from services.topology.telemetry.prometheus import PrometheusTelemetry
from services.topology.telemetry.queries import REQUESTS, Amount
from services.topology.telemetry.selecting import Selected
from services.topology.telemetry.traffic import Flows, Telemetry

_MOST_ASKED = 4
_KNOWS_WITHIN_S = 3.0
"""Many an API server does not reach its pods, and says nothing about it for long."""
_DENIED_FOR_S = 60.0
"""How long a right that was missing is not tried again."""
_KNOWN = f'group by (__name__) ({{__name__=~"{REQUESTS}|{Amount.TCP_SENT}"}})'
_UNKNOWING = "it has no metric of the mesh: nothing that it scrapes is a proxy"

log = structlog.get_logger(__name__)


class MetricsDenied(MetricsError):
    """The account may not ask; the text says what it lacks."""


@dataclass(slots=True)
class _Source:
    """One Prometheus that was found."""

    place: Place
    metrics: Metrics
    telemetry: PrometheusTelemetry
    answered_at_s: float | None = None
    """When it last told the traffic."""
    denied_at_s: float | None = None
    denied: str = ""


class Discovered:
    """The traffic of one cluster, from the best source that it has now."""

    is_shared = False

    def __init__(
        self,
        *,
        places: Callable[[], Places],
        reach: Callable[[Place], Metrics],
        otherwise: Telemetry,
        is_waypoint: IsWaypoint = is_named_waypoint,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`reach` opens nothing by itself; `otherwise` is asked when no Prometheus tells."""
        self.name = ""
        self.missing: tuple[str, ...] = ()
        self.tried: tuple[str, ...] = ()
        self.metrics: Metrics | None = None
        self._places = places
        self._reach = reach
        self._otherwise = otherwise
        self._is_waypoint = is_waypoint
        self._clock = clock
        self._sources: dict[Place, _Source] = {}
        self._used: _Source | None = None

    async def flows(self, *, at: datetime, window_s: float) -> Flows:
        """Of a Prometheus that fails after it has told something, nothing else is told for the
        time of a window: it is most likely restarting."""
        places = self._places()
        self._follow(places)
        tried = list(places.notes)
        unfit = await self._unfit_before_used(places.found[:_MOST_ASKED], at)
        flows: Flows | None = None
        for number, place in enumerate(places.found):
            source = self._sources[place]
            if flows is not None:
                tried.append(f"{place}: not asked, {self.name} comes first")
                continue
            if number >= _MOST_ASKED:
                tried.append(f"{place}: not asked, {number} others come first")
                continue
            if why := unfit.get(place):
                tried.append(f"{place}: {why}")
                continue
            is_fit = place in unfit
            found = await self._told(source, at, window_s=window_s, is_fit=is_fit, tried=tried)
            if isinstance(found, str):
                tried.append(f"{place}: {found}")
                continue
            flows = found
            self._use(source)
        if flows is None:
            self._use(None)
            self.tried = tuple(tried)
            flows = await self._otherwise.flows(at=at, window_s=window_s)
            self.missing = self._otherwise.missing
        self.tried = tuple(tried)
        return flows

    def _follow(self, places: Places) -> None:
        """Forgets those that are gone, or are reached otherwise by now."""
        known = self._sources
        self._sources = {place: known.get(place) or self._source(place) for place in places.found}
        if self._used is not None and self._used.place not in self._sources:
            self._used = None

    def _source(self, place: Place) -> _Source:
        metrics: Metrics = self._reach(place)
        if place.labels:
            metrics = Selected(metrics, dict(place.labels))
        telemetry = PrometheusTelemetry(metrics, name=str(place), is_waypoint=self._is_waypoint)
        return _Source(place, metrics, telemetry)

    def _use(self, source: _Source | None) -> None:
        if source is not None:
            self.missing, self.metrics = source.telemetry.missing, source.metrics
            source.answered_at_s = self._clock()
        else:
            self.metrics = None
        name = self._otherwise.name if source is None else source.telemetry.name
        if name != self.name:
            log.info("telemetry_source", source=name)
        self.name, self._used = name, source

    async def _unfit_before_used(self, places: Sequence[Place], at: datetime) -> dict[Place, str]:
        """Why each that goes before the one in use cannot be used; all are asked at once."""
        used = self._used.place if self._used is not None else None
        asked = places[: places.index(used)] if used in places else places
        whys = await asyncio.gather(*(self._unfit(self._sources[place], at) for place in asked))
        return dict(zip(asked, whys, strict=True))

    async def _told(
        self, source: _Source, at: datetime, *, window_s: float, is_fit: bool, tried: list[str]
    ) -> Flows | str:
        """The flows that a Prometheus tells, or why it does not."""
        was_used = source is self._used
        if not (was_used or is_fit) and (why := await self._unfit(source, at)):
            return why
        try:
            flows = await source.telemetry.flows(at=at, window_s=window_s)
        except TelemetryUnavailable as error:
            since = source.answered_at_s
            if was_used and since is not None and self._clock() - since <= window_s:
                self.tried = tuple(tried)
                raise
            return error.cause
        if not flows and was_used and (why := await self._unfit(source, at)):
            return why
        return flows

    async def _unfit(self, source: _Source, at: datetime) -> str:
        """Why a Prometheus is not asked for the traffic; "" for one that knows the mesh."""
        denied_at_s = source.denied_at_s
        if denied_at_s is not None and self._clock() - denied_at_s < _DENIED_FOR_S:
            return source.denied
        try:
            async with asyncio.timeout(_KNOWS_WITHIN_S):
                known = await source.metrics.query(_KNOWN, at=at)
        except MetricsDenied as denied:
            if denied_at_s is None:
                log.warning("telemetry_denied", source=str(source.place), reason=str(denied))
            source.denied_at_s, source.denied = self._clock(), str(denied)
            return source.denied
        except MetricsError as error:
            return str(error)
        except TimeoutError:
            return f"Prometheus did not answer within {_KNOWS_WITHIN_S:g} s"
        source.denied_at_s = None
        return "" if known else _UNKNOWING
