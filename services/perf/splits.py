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
from itertools import pairwise

from services.perf.verdicts import Confidence, Place, Share

RESOLUTION_MS = 1.0
"""Proxies count whole milliseconds, cut off: a smaller difference says nothing."""
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


_COVERS: dict[tuple[At, At | None], tuple[Place, str]] = {
    (At.SOURCE, At.SOURCE_UPSTREAM): (
        Place.SOURCE_PROXY,
        "the first proxy: reading the request, its filters and faults; waiting for a connection "
        "to what is behind it is not in here",
    ),
    (At.SOURCE, At.WAYPOINT): (
        Place.SOURCE_PROXY,
        "the source's proxy, its waiting for a connection, and the network to the waypoint, "
        "which these metrics cannot tell apart",
    ),
    (At.SOURCE, At.DESTINATION): (
        Place.SOURCE_PROXY,
        "the source's proxy, its waiting for a connection, and the network to the destination's "
        "proxy, which these metrics cannot tell apart",
    ),
    (At.WAYPOINT, At.WAYPOINT_UPSTREAM): (
        Place.DESTINATION_PROXY,
        "the waypoint: reading the request, its filters and faults",
    ),
    (At.WAYPOINT, At.DESTINATION): (
        Place.DESTINATION_PROXY,
        "the waypoint and the network to the destination's proxy, "
        "which these metrics cannot tell apart",
    ),
    (At.DESTINATION, At.DESTINATION_UPSTREAM): (
        Place.DESTINATION_PROXY,
        "the destination's proxy: reading the request, its filters",
    ),
    (At.SOURCE, None): (
        Place.UNKNOWN,
        "the source's proxy, the network and the application, which these metrics cannot tell "
        "apart: no other proxy reports",
    ),
    (At.WAYPOINT, None): (
        Place.UNKNOWN,
        "the waypoint, the destination's ztunnel and the application, which these metrics cannot "
        "tell apart",
    ),
    (At.SOURCE_UPSTREAM, None): (
        Place.APPLICATION,
        "everything behind the first proxy: waiting for a connection, the network, and the "
        "application with any proxy of its own, which these metrics cannot tell apart",
    ),
    (At.WAYPOINT_UPSTREAM, None): (
        Place.APPLICATION,
        "the destination's ztunnel, the network and the application, "
        "which these metrics cannot tell apart",
    ),
    (At.DESTINATION, None): (
        Place.APPLICATION,
        "the destination's proxy and the application, which these metrics cannot tell apart",
    ),
    (At.DESTINATION_UPSTREAM, None): (Place.APPLICATION, "the application"),
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


def split(
    points: Sequence[Point], *, scrapes: float | None, guess: str = "", asked: str = ""
) -> Split:
    """Judges the points, the generator first and then inwards.

    `guess` says how the service was found where the test did not name it. `asked` says why there
    is no point beside the generator's.
    """
    generator, *behind = points
    if not behind or not generator.requests:
        reason = asked or "no proxy on the requests' way reported how long they took"
        return Split(place=Place.UNKNOWN, confidence=Confidence.LOW, reason=reason, shares=[])
    shares = [_share(before, after) for before, after in pairwise([*points, None]) if before]
    doubts = _Doubts()
    _doubt_scrapes(scrapes, doubts)
    if guess:
        doubts.add(Confidence.MEDIUM, guess)
    for point in behind:
        _doubt_counts(point, generator, doubts)
    place = _judge(shares, doubts)
    reason = "; ".join(doubts.reasons) or "all proxies on the way counted the generator's requests"
    return Split(place=place, confidence=doubts.confidence, reason=reason, shares=shares)


def _share(before: Point, after: Point | None) -> Share:
    if before.at is At.GENERATOR and after is not None:
        place = Place.CLIENT
        covers = "the generator, its connections, and the network to the first proxy that reports"
    else:
        place, covers = _COVERS[before.at, after.at if after else None]
    ms = before.mean_ms - (after.mean_ms if after else 0.0)
    return Share(place=place, ms=round(ms, 3), covers=covers)


def _doubt_scrapes(scrapes: float | None, doubts: _Doubts) -> None:
    if scrapes is None:
        doubts.add(Confidence.MEDIUM, "how often the proxies were scraped is not known")
    elif scrapes < 2:
        doubts.add(
            Confidence.LOW,
            f"the run is too short for the scrapes: {scrapes:.0f} in its window, 2 at least are "
            "needed",
        )
    elif scrapes < _FEW_SCRAPES:
        doubts.add(Confidence.MEDIUM, f"only {scrapes:.0f} scrapes in the run's window")


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


def _judge(shares: Sequence[Share], doubts: _Doubts) -> Place:
    total = sum(share.ms for share in shares)
    largest = max(shares, key=lambda share: share.ms)
    if any(share.ms < -RESOLUTION_MS for share in shares):
        doubts.add(Confidence.LOW, "a point counted longer times than the point before it")
    if largest.ms < RESOLUTION_MS:
        doubts.add(
            Confidence.LOW, "no share reaches the one millisecond that proxies can tell apart"
        )
        return Place.UNKNOWN
    others = [share for share in shares if share is not largest]
    if any(largest.ms - share.ms < RESOLUTION_MS for share in others):
        doubts.add(Confidence.LOW, "the largest two shares are less than a millisecond apart")
    elif largest.ms < total / 2:
        doubts.add(Confidence.MEDIUM, "no place has more than half of the time")
    if largest.place is Place.UNKNOWN:
        doubts.add(Confidence.LOW, f"most of the time is in {largest.covers}")
    elif "cannot tell apart" in largest.covers:
        doubts.add(Confidence.MEDIUM, f"its share covers {largest.covers}")
    return largest.place
