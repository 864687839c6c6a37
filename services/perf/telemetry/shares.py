"""Splits the mean latency of a run into shares by the points of the requests' path.

The path is generator → source's proxy → waypoint → destination's proxy → application. Each point's
time holds all that lies behind it, so the difference of two neighbours is what lies between them.
Which points there are depends on the mesh and on what is scraped; what each difference covers, and
what it cannot tell apart, is written down once, in `_COVERS`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum, auto

from services.perf.telemetry.verdicts import Confidence, Place, Share

_RESOLUTION_MS = 1.0
"""Proxies count whole milliseconds, cut off: a smaller difference says nothing."""
_LEAST_SCRAPES = 2.0
_FEW_SCRAPES = 4.0
_CLOSE = 0.1
_FAR = 0.5


class At(StrEnum):
    """Points of the path at which times are measured."""

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
    """Requests and their mean latency at one point."""

    at: At
    requests: float
    mean_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """The shares of a mean, and the place of the largest."""

    place: Place
    confidence: Confidence
    reason: str
    shares: list[Share]


Doubts = Iterator[tuple[Confidence, str]]
"""Why a verdict is worth less than it could be, each with the most that it is still worth."""

_MIXED = ", which these metrics cannot tell apart"
_TO_FIRST_REPORT = (
    Place.CLIENT,
    "the generator, its connections, the network, and any proxy before the first that reports"
    + _MIXED,
)
_COVERS: dict[tuple[At, At | None], tuple[Place, str]] = {
    (At.GENERATOR, At.SOURCE): (
        Place.CLIENT,
        "the generator, its connections, and the network to the first proxy",
    ),
    (At.GENERATOR, At.SOURCE_UPSTREAM): (
        Place.UNKNOWN,
        "the generator, the network, and the first proxy's own part" + _MIXED,
    ),
    (At.GENERATOR, At.WAYPOINT): _TO_FIRST_REPORT,
    (At.GENERATOR, At.DESTINATION): _TO_FIRST_REPORT,
    (At.SOURCE, At.SOURCE_UPSTREAM): (
        Place.SOURCE_PROXY,
        (
            "the first proxy: reading the request, its filters and faults, but not its waiting for "
            "a connection"
        ),
    ),
    (At.SOURCE, At.WAYPOINT): (
        Place.SOURCE_PROXY,
        "the source's proxy, its waiting for a connection, and the network to the waypoint"
        + _MIXED,
    ),
    (At.SOURCE, At.DESTINATION): (
        Place.SOURCE_PROXY,
        "the source's proxy, its waiting for a connection, and the network to the destination's "
        "proxy" + _MIXED,
    ),
    (At.WAYPOINT, At.WAYPOINT_UPSTREAM): (
        Place.DESTINATION_PROXY,
        "the waypoint: reading the request, its filters and faults",
    ),
    (At.WAYPOINT, At.DESTINATION): (
        Place.DESTINATION_PROXY,
        "the waypoint, and the network to the destination's proxy" + _MIXED,
    ),
    (At.DESTINATION, At.DESTINATION_UPSTREAM): (
        Place.DESTINATION_PROXY,
        "the destination's proxy: reading the request, its filters",
    ),
    (At.SOURCE, None): (
        Place.UNKNOWN,
        "the source's proxy, the network, and the application behind it" + _MIXED,
    ),
    (At.WAYPOINT, None): (
        Place.UNKNOWN,
        "the waypoint, the destination's ztunnel, and the application" + _MIXED,
    ),
    (At.SOURCE_UPSTREAM, None): (
        Place.APPLICATION,
        "the first proxy's waiting for a connection, the network, and the application with any "
        "proxy of its own" + _MIXED,
    ),
    (At.WAYPOINT_UPSTREAM, None): (
        Place.APPLICATION,
        "the network, the destination's ztunnel, and the application" + _MIXED,
    ),
    (At.DESTINATION, None): (
        Place.APPLICATION,
        "the destination's proxy and the application" + _MIXED,
    ),
    (At.DESTINATION_UPSTREAM, None): (Place.APPLICATION, "the application"),
}
"""What lies between two points, or behind the last one."""


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
    shares = []
    for point, following in zip(points, [*behind, None], strict=True):
        place, covers = _COVERS[point.at, following.at if following else None]
        ms = point.mean_ms - (following.mean_ms if following else 0.0)
        shares.append(Share(place=place, ms=ms, covers=covers))
    ascending = sorted(shares, key=lambda share: share.ms)
    doubts = [
        *_doubts_of_scrapes(scrapes),
        *([(Confidence.MEDIUM, guess)] if guess else []),
        *_doubts_of_counts(generator, behind),
        *_doubts_of_shares(ascending),
    ]
    order = list(Confidence)
    return Split(
        place=ascending[-1].place if ascending[-1].ms >= _RESOLUTION_MS else Place.UNKNOWN,
        confidence=max((each for each, _ in doubts), key=order.index, default=Confidence.HIGH),
        reason="; ".join(reason for _, reason in doubts)
        or "all proxies on the way counted the generator's requests",
        shares=[share.model_copy(update={"ms": round(share.ms, 3)}) for share in shares],
    )


def _doubts_of_scrapes(scrapes: float | None) -> Doubts:
    if scrapes is None:
        yield Confidence.MEDIUM, "how often the proxies were scraped is not known"
    elif scrapes < _LEAST_SCRAPES:
        yield Confidence.LOW, _too_short(scrapes)
    elif scrapes < _FEW_SCRAPES:
        yield Confidence.MEDIUM, f"only {scrapes:.0f} scrapes in the run's window"


def _too_short(scrapes: float) -> str:
    return f"the run is too short: {scrapes:.0f} scrapes in its window, at least 2 are needed"


def _doubts_of_counts(generator: Point, behind: Sequence[Point]) -> Doubts:
    """Means may be compared only if both ends counted much the same requests."""
    for point in behind:
        ratio = point.requests / generator.requests
        if abs(ratio - 1) > _CLOSE:
            # Both directions: half as many and twice as many are equally far.
            confidence = Confidence.MEDIUM if _FAR <= ratio <= 1 / _FAR else Confidence.LOW
            counts = f"{point.requests:.0f} requests, the generator {generator.requests:.0f}"
            why = "other traffic, retries, or requests outside the scrapes"
            yield confidence, f"{point.at} counted {counts}: {why}"


def _doubts_of_shares(ascending: Sequence[Share]) -> Doubts:
    largest = ascending[-1]
    if ascending[0].ms < -_RESOLUTION_MS:
        yield Confidence.LOW, "a point counted longer times than the point before it"
    if largest.ms < _RESOLUTION_MS:
        yield Confidence.LOW, "no share reaches the one millisecond that proxies can tell apart"
        return
    if largest.ms - ascending[-2].ms < _RESOLUTION_MS:
        yield Confidence.LOW, "the largest two shares are less than a millisecond apart"
    elif largest.ms < sum(share.ms for share in ascending) / 2:
        yield Confidence.MEDIUM, "no place has more than half of the time"
    if largest.place is Place.UNKNOWN:
        yield Confidence.LOW, f"most of the time is in {largest.covers}"
    elif largest.covers.endswith(_MIXED):
        yield Confidence.MEDIUM, f"its share covers {largest.covers}"
