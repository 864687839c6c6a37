"""Quantiles of response times, as `histogram_quantile` has them, of thinned out histograms.

A histogram comes without its empty and its full buckets. What is missing before the first bucket
that came is empty, what is missing after the last one is full. Where none came, all values lie in
one bucket, and their mean says in which.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from services.topology.telemetry.queries import COUNT, SUM

QUANTILES = (("50", 0.5), ("95", 0.95), ("99", 0.99))
AVERAGE = "avg"
# Istio's own, for when Prometheus does not tell the bounds.
_USUAL_BOUNDS = (
    *(0.5, 1, 5, 10, 25, 50, 100, 250, 500),
    *(1_000, 2_500, 5_000, 10_000, 30_000, 60_000),
    *(300_000, 600_000, 1_800_000, 3_600_000),
)


@dataclass(frozen=True, slots=True)
class Bounds:
    """The finite bounds of all buckets, in order, and by their texts."""

    all: Sequence[float]
    numbers: Mapping[str, float]

    def before(self, bound: float) -> float:
        place = bisect_left(self.all, bound)
        return self.all[place - 1] if place else 0.0

    def after(self, bound: float) -> float:
        place = bisect_right(self.all, bound)
        return self.all[place] if place < len(self.all) else math.inf


def bounds_of(texts: Iterable[str], *, seen: Iterable[str] = ()) -> Bounds:
    """Bounds that Prometheus tells and those of buckets that came; Istio's own where it is silent
    about them."""
    known = _numbers(texts)
    numbers = {**known, **_numbers(seen)}
    usual = () if known else _USUAL_BOUNDS
    return Bounds(tuple(sorted({*numbers.values(), *usual})), numbers)


def quantiles(values: Mapping[str, float], bounds: Bounds) -> dict[str, float]:
    """Quantiles and mean in milliseconds; empty without requests.

    `values` are by the bucket's bound as text, with `count` and `sum`.
    """
    count = values.get(COUNT, 0.0)
    if not count > 0:
        return {}
    mean = values.get(SUM, 0.0) / count
    curve = _curve(values, count=count, mean=mean, bounds=bounds)
    found = {AVERAGE: mean}
    later = iter(curve)
    low, below = next(later)
    bound, upto = next(later)
    for name, share in QUANTILES:
        wanted = share * count
        while upto < wanted:
            low, below = bound, upto
            bound, upto = next(later)
        if bound == math.inf:
            found[name] = low
        else:
            found[name] = low + (bound - low) * (wanted - below) / (upto - below)
    return found


def _curve(
    values: Mapping[str, float], *, count: float, mean: float, bounds: Bounds
) -> list[tuple[float, float]]:
    """Points of the cumulative distribution: it begins empty and ends full."""
    numbers = bounds.numbers
    came = [(numbers[text], value) for text, value in values.items() if text in numbers]
    if not came:
        # A mean that is a bound belongs to the bucket that ends there.
        low = bounds.before(mean)
        return [(low, 0.0), (bounds.after(low) if low else bounds.all[0], count)]
    came.sort()
    points = [(bounds.before(came[0][0]), 0.0)]
    highest = 0.0
    for bound, value in came:
        # Rates of buckets may decrease by rounding, and by pods that were set back.
        if value > highest:
            highest = value if value < count else count
        points.append((bound, highest))
    if highest < count:
        points.append((bounds.after(came[-1][0]), count))
    return points


def _numbers(texts: Iterable[str]) -> dict[str, float]:
    found = {}
    for text in texts:
        try:
            number = float(text)
        except ValueError:
            continue
        if math.isfinite(number):
            found[text] = number
    return found
