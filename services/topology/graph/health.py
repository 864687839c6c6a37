"""Health by Kiali's rules: error rates against tolerances, and replicas.

Tolerances come from Kiali's defaults or from an object's annotation, which replaces them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from math import fsum

from services.topology.cluster.objects import Labels

ANNOTATION = "health.kiali.io/rate"


class Status(IntEnum):
    """Health of a node or an edge; of several, the greatest prevails."""

    NA = 0
    HEALTHY = 1
    DEGRADED = 2
    FAILURE = 3
    NOT_READY = 4

    @property
    def text(self) -> str:
        return _TEXTS[self]


_TEXTS = {
    Status.NA: "NA",
    Status.HEALTHY: "Healthy",
    Status.DEGRADED: "Degraded",
    Status.FAILURE: "Failure",
    Status.NOT_READY: "NotReady",
}


@dataclass(frozen=True, slots=True)
class Tolerance:
    """From which percentage of these answers on things are degraded or failing. A `degraded` of 0
    means any."""

    code: str
    degraded: float
    failure: float
    protocol: str = ".*"
    direction: str = ".*"
    """Regular expressions."""


@dataclass(frozen=True, slots=True, eq=False)
class Limits:
    """An object's tolerances. Compared by identity: it is a key of caches that are asked often."""

    tolerances: tuple[Tolerance, ...]

    def that_mean(self, protocol: str, direction: str, code: str) -> tuple[Tolerance, ...]:
        """Tolerances of one answer."""
        return _that_mean(self, protocol, direction, code)


DEFAULT = Limits(
    (
        Tolerance(r"5\d\d", 0, 10, "http"),
        Tolerance(r"4\d\d", 10, 20, "http"),
        Tolerance(r"[1-9]|1[0-6]", 0, 10, "grpc"),
        Tolerance("-", 0, 10, "http|grpc"),
    )
)


def tolerances(annotations: Labels) -> Limits:
    """Those of an object."""
    text = annotations.get(ANNOTATION)
    return _parsed(text) if text else DEFAULT


@lru_cache(maxsize=256)
def _parsed(text: str) -> Limits:
    """`code,degraded,failure,protocol,direction;…`; what cannot be read is left out, and the
    defaults stay when nothing can."""
    found = []
    for entry in text.split(";"):
        parts = [part.strip() for part in entry.split(",")]
        if len(parts) != 5:
            continue
        code = re.sub("[xX]", r"\\d", parts[0])
        try:
            limits = float(parts[1]), float(parts[2])
            for pattern in (code, parts[3], parts[4]):
                re.compile(pattern)
        except (ValueError, re.error):
            continue
        found.append(Tolerance(code, *limits, parts[3], parts[4]))
    return Limits(tuple(found)) if found else DEFAULT


def of_requests(
    requests: Mapping[str, Mapping[str, float]],
    limits: Limits = DEFAULT,
    direction: str = "inbound",
) -> Status:
    """Worst of all tolerances; NA without requests."""
    found = Status.NA
    for protocol, codes in requests.items():
        total = fsum(codes.values())
        if total <= 0:
            continue
        found = found or Status.HEALTHY
        parts: dict[Tolerance, list[float]] = {}
        for code, rate in codes.items():
            for tolerance in limits.that_mean(protocol, direction, code):
                parts.setdefault(tolerance, []).append(rate)
        for tolerance, rates in parts.items():
            found = max(found, _judged(100 * fsum(rates) / total, tolerance))
    return found


def _judged(ratio: float, tolerance: Tolerance) -> Status:
    if ratio <= 0:
        return Status.HEALTHY
    if ratio >= tolerance.failure:
        return Status.FAILURE
    return Status.DEGRADED if ratio >= tolerance.degraded else Status.HEALTHY


@lru_cache(maxsize=4096)
def _that_mean(limits: Limits, protocol: str, direction: str, code: str) -> tuple[Tolerance, ...]:
    return tuple(
        tolerance
        for tolerance in limits.tolerances
        if re.fullmatch(tolerance.protocol, protocol)
        and re.fullmatch(tolerance.direction, direction)
        and re.fullmatch(tolerance.code, code)
    )


def of_replicas(wanted: int, ready: int) -> Status:
    if wanted == 0:
        return Status.NOT_READY
    if ready == 0:
        return Status.FAILURE
    return Status.HEALTHY if ready >= wanted else Status.DEGRADED


def of_proxies(has_trouble: bool) -> Status:
    """Of a workload's proxies. One that is behind answers as before, so nothing fails yet."""
    return Status.DEGRADED if has_trouble else Status.NA


def worst(statuses: Iterable[Status]) -> Status:
    return max(statuses, default=Status.NA)
