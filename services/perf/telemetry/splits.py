"""Where the latency of a run sits: a judgement on the means that the points of its way measured.

The way is generator → source's proxy → waypoint → destination's proxy → application. Each point's
time holds all that lies behind it, so the difference of two neighbours is what lies between them.
Which points there are depends on the mesh and on what is scraped; what each difference covers, and
what it cannot tell apart, is written down once, in `_COVERS`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum, auto

from services.perf.telemetry.verdicts import Confidence, Place, Share

RESOLUTION_MS = 1.0
"""Proxies count whole milliseconds, cut off: a smaller difference says nothing."""
_LEAST_SCRAPES = 2.0
_FEW_SCRAPES = 4.0
_CLOSE = 0.1
_FAR = 0.5


class At(StrEnum):
    """Points of the way at which times are measured."""

    GENERATOR = auto()
    SOURCE = auto()
    SOURCE_UPSTREAM = auto()
    """From when the first proxy has the whole request and passes it on, until the answer's end."""
    WAYPOINT = auto()
    WAYPOINT_UPSTREAM = auto()
    DESTINATION = auto()
    DESTINATION_UPSTREAM = auto()


@dataclass(frozen=True, slots=True)
class Point:
    """What one point measured."""

    at: At
    requests: float
    mean_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """The shares of a mean, and what they say."""

    place: Place
    confidence: Confidence
    reason: str
    shares: list[Share]


@dataclass(frozen=True, slots=True)
class _Cover:
    """What lies between two points, or behind the last one."""

    place: Place
    text: str
    is_mixed: bool = True
    """Several things, of which these metrics do not tell which."""

    @property
    def told(self) -> str:
        return self.text + (", which these metrics cannot tell apart" if self.is_mixed else "")


_CLIENT_AND_PROXIES = _Cover(
    Place.CLIENT,
    "the generator, its connections, the network, and any proxy before the first that reports",
)
_COVERS: dict[tuple[At, At | None], _Cover] = {
    (At.GENERATOR, At.SOURCE): _Cover(
        Place.CLIENT,
        "the generator, its connections, and the network to the first proxy",
        is_mixed=False,
    ),
    (At.GENERATOR, At.SOURCE_UPSTREAM): _Cover(
        Place.UNKNOWN, "the generator, the network, and the first proxy's own part"
    ),
    (At.GENERATOR, At.WAYPOINT): _CLIENT_AND_PROXIES,
    (At.GENERATOR, At.DESTINATION): _CLIENT_AND_PROXIES,
    (At.SOURCE, At.SOURCE_UPSTREAM): _Cover(
        Place.SOURCE_PROXY,
        "the first proxy: reading the request, its filters and faults, but not its waiting for a "
        "connection",
        is_mixed=False,
    ),
    (At.SOURCE, At.WAYPOINT): _Cover(
        Place.SOURCE_PROXY,
        "the source's proxy, its waiting for a connection, and the network to the waypoint",
    ),
    (At.SOURCE, At.DESTINATION): _Cover(
        Place.SOURCE_PROXY,
        "the source's proxy, its waiting for a connection, and the network to the destination's "
        "proxy",
    ),
    (At.WAYPOINT, At.WAYPOINT_UPSTREAM): _Cover(
        Place.DESTINATION_PROXY,
        "the waypoint: reading the request, its filters and faults",
        is_mixed=False,
    ),
    (At.WAYPOINT, At.DESTINATION): _Cover(
        Place.DESTINATION_PROXY,
        "the waypoint, and the network to the destination's proxy",
    ),
    (At.DESTINATION, At.DESTINATION_UPSTREAM): _Cover(
        Place.DESTINATION_PROXY,
        "the destination's proxy: reading the request, its filters",
        is_mixed=False,
    ),
    (At.SOURCE, None): _Cover(
        Place.UNKNOWN, "the source's proxy, the network, and the application behind it"
    ),
    (At.WAYPOINT, None): _Cover(
        Place.UNKNOWN, "the waypoint, the destination's ztunnel, and the application"
    ),
    (At.SOURCE_UPSTREAM, None): _Cover(
        Place.APPLICATION,
        "the first proxy's waiting for a connection, the network, and the application with any "
        "proxy of its own",
    ),
    (At.WAYPOINT_UPSTREAM, None): _Cover(
        Place.APPLICATION, "the network, the destination's ztunnel, and the application"
    ),
    (At.DESTINATION, None): _Cover(
        Place.APPLICATION, "the destination's proxy and the application"
    ),
    (At.DESTINATION_UPSTREAM, None): _Cover(Place.APPLICATION, "the application", is_mixed=False),
}


@dataclass(slots=True)
class _Doubts:
    """Why a verdict is worth less than it could be."""

    confidence: Confidence = Confidence.HIGH
    reasons: list[str] = field(default_factory=list)

    def add(self, confidence: Confidence, reason: str) -> None:
        order = list(Confidence)
        self.confidence = max(self.confidence, confidence, key=order.index)
        self.reasons.append(reason)


def split(points: Sequence[Point], *, scrapes: float | None, guess: str = "") -> Split:
    """Judges the points, the generator first and then inwards.

    `guess` says how the service was found where the test did not name it.
    """
    generator, *behind = points
    if not behind or not generator.requests:
        reason = "no proxy on the requests' way reported how long they took"
        if scrapes is not None and scrapes < _LEAST_SCRAPES:
            reason = _too_short(scrapes)
        return Split(place=Place.UNKNOWN, confidence=Confidence.LOW, reason=reason, shares=[])
    ends = [*points[1:], None]
    parts = [
        (
            _COVERS[before.at, after.at if after else None],
            before.mean_ms - (after.mean_ms if after else 0.0),
        )
        for before, after in zip(points, ends, strict=True)
    ]
    doubts = _Doubts()
    _doubt_scrapes(scrapes, doubts)
    if guess:
        doubts.add(Confidence.MEDIUM, guess)
    for point in behind:
        _doubt_counts(point, generator, doubts)
    place = _judge(parts, doubts)
    reason = "; ".join(doubts.reasons) or "all proxies on the way counted the generator's requests"
    shares = [Share(place=cover.place, ms=round(ms, 3), covers=cover.told) for cover, ms in parts]
    return Split(place=place, confidence=doubts.confidence, reason=reason, shares=shares)


def _doubt_scrapes(scrapes: float | None, doubts: _Doubts) -> None:
    if scrapes is None:
        doubts.add(Confidence.MEDIUM, "how often the proxies were scraped is not known")
    elif scrapes < _LEAST_SCRAPES:
        doubts.add(Confidence.LOW, _too_short(scrapes))
    elif scrapes < _FEW_SCRAPES:
        doubts.add(Confidence.MEDIUM, f"only {scrapes:.0f} scrapes in the run's window")


def _too_short(scrapes: float) -> str:
    return f"the run is too short: {scrapes:.0f} scrapes in its window, at least 2 are needed"


def _doubt_counts(point: Point, generator: Point, doubts: _Doubts) -> None:
    """Means may be compared only if both ends counted much the same requests."""
    ratio = point.requests / generator.requests
    if abs(ratio - 1) <= _CLOSE:
        return
    # Both directions: half as many and twice as many are equally far.
    confidence = Confidence.LOW if not _FAR <= ratio <= 1 / _FAR else Confidence.MEDIUM
    doubts.add(
        confidence,
        f"{point.at} counted {point.requests:.0f} requests, the generator "
        f"{generator.requests:.0f}: other traffic, retries, or requests outside the scrapes",
    )


def _judge(parts: Sequence[tuple[_Cover, float]], doubts: _Doubts) -> Place:
    ascending = sorted(parts, key=lambda part: part[1])
    if ascending[0][1] < -RESOLUTION_MS:
        doubts.add(Confidence.LOW, "a point counted longer times than the point before it")
    cover, ms = ascending[-1]
    if ms < RESOLUTION_MS:
        doubts.add(
            Confidence.LOW, "no share reaches the one millisecond that proxies can tell apart"
        )
        return Place.UNKNOWN
    if ms - ascending[-2][1] < RESOLUTION_MS:
        doubts.add(Confidence.LOW, "the largest two shares are less than a millisecond apart")
    elif ms < sum(ms for _, ms in parts) / 2:
        doubts.add(Confidence.MEDIUM, "no place has more than half of the time")
    if cover.place is Place.UNKNOWN:
        doubts.add(Confidence.LOW, f"most of the time is in {cover.told}")
    elif cover.is_mixed:
        doubts.add(Confidence.MEDIUM, f"its share covers {cover.told}")
    return cover.place
