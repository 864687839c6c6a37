"""Histograms as Prometheus has them: cumulative buckets and a sum.

Means are exact as far as the proxies' sums are: Envoy counts whole milliseconds, so that each time
is up to one millisecond too short. Quantiles lie somewhere within a bucket; they are for display,
and are never subtracted from each other.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from services.chassis.prometheus import Sample
from services.perf.telemetry.promql import SUM

Key = TypeVar("Key", bound=Hashable)


@dataclass(slots=True)
class Distribution:
    """Observed values by the upper bounds of their buckets."""

    buckets: dict[float, float] = field(default_factory=dict)
    """Upper bound to the count of all values up to it."""
    total: float = 0.0

    def add(self, bound: str, value: float) -> None:
        """Counts one sample of `promql.histogram`; bounds that are no numbers are left out."""
        if bound == SUM:
            self.total += value
            return
        try:
            number = float(bound)
        except ValueError:
            return
        self.buckets[number] = self.buckets.get(number, 0.0) + value

    @property
    def count(self) -> float:
        return max(self.buckets.values(), default=0.0)

    @property
    def mean(self) -> float:
        return self.total / self.count if self.count else 0.0

    def quantile(self, share: float) -> float:
        """As `histogram_quantile`: linear within a bucket, and the last bound beyond all."""
        wanted = share * self.count
        low, below = 0.0, 0.0
        for bound, upto in sorted(self.buckets.items()):
            if upto >= wanted and upto > below:
                if math.isinf(bound):
                    return low
                return low + (bound - low) * (wanted - below) / (upto - below)
            # Buckets of pods that were set back may decrease by rounding.
            low, below = bound, max(below, upto)
        return low


def merged(distributions: Iterable[Distribution]) -> Distribution:
    """One of all; histograms of different bounds would not add up, and the mesh has one set."""
    whole = Distribution()
    for one in distributions:
        whole.total += one.total
        for bound, count in one.buckets.items():
            whole.buckets[bound] = whole.buckets.get(bound, 0.0) + count
    return whole


def distributions_of(
    samples: Iterable[Sample], key: Callable[[Mapping[str, str]], Key]
) -> dict[Key, Distribution]:
    """Answers of `promql.histogram`, by what `key` makes of the labels."""
    found: dict[Key, Distribution] = {}
    for sample in samples:
        if math.isfinite(sample.value):
            distribution = found.setdefault(key(sample.labels), Distribution())
            distribution.add(sample.labels.get("le", ""), sample.value)
    return {key: one for key, one in found.items() if one.count}
