"""Queries how much counters and histograms grew in a run's window, and reads the answers.

`increase()` was rejected as the rule. It extrapolates to the window's borders, it loses the first
sample of a series that the run itself brought to life, and it needs two samples inside the window.
The text here takes the difference of the values at both borders instead, series by series:

* a series that was there before counts its last value less the one before the window;
* one that began inside the window, at a target that was scraped before, counts from zero;
* one of a target that came in the window counts from its first sample: what it had counted before
  is not known to be of the run;
* one whose counter was set back inside the window is left to `increase()`, which mends that.

Prometheus adds the series up, so an answer has one sample for each group and not for each pod.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeVar

from services.chassis.prometheus import Sample

_SUM = "sum"
"""In the place of a bucket's bound: the sum of the observed values."""

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Window:
    """When a run took place; queries are evaluated at its end."""

    start: datetime
    end: datetime

    @property
    def text(self) -> str:
        """As a PromQL duration."""
        return f"{max(1, round((self.end - self.start).total_seconds() * 1000))}ms"


# --- queries -------------------------------------------------------------------------------------


def grown(selector: str, *, window: Window, by: Sequence[str]) -> str:
    """How much the selected counters of one metric grew, added up by labels; no zeros."""
    return f"{_growth(selector, window=window, by=by)} > 0"


def histogram(metric: str, *, window: Window, by: Sequence[str], matchers: str = "") -> str:
    """Growth of a histogram's buckets and, with `le="sum"`, of its sum, in one answer.

    Empty buckets stay, because they bound the others; histograms that did not grow go.
    """
    labels = f"{{{matchers}}}" if matchers else ""
    buckets = _growth(f"{metric}_bucket{labels}", window=window, by=(*by, "le"))
    count = grown(f"{metric}_count{labels}", window=window, by=by)
    total = grown(f"{metric}_sum{labels}", window=window, by=by)
    return (
        f"({buckets} and on ({', '.join(by)}) {count})"
        f' or label_replace({total}, "le", "{_SUM}", "", "")'
    )


def _growth(selector: str, *, window: Window, by: Sequence[str]) -> str:
    within = f"{selector}[{window.text}]"
    before = f"{selector} offset {window.text}"
    steady = f"min_over_time({within}) >= {before}"
    return (
        f"sum by ({', '.join(by)}) ("
        f"((last_over_time({within}) - {before}) and ({steady}) unless resets({within}) > 0)"
        f" or (increase({within}) and resets({within}) > 0)"
        f" or (last_over_time({within}) and on (job, instance) (up offset {window.text}))"
        f" or (last_over_time({within}) - min_over_time({within}))"
        ")"
    )


def named(queries: Iterable[tuple[str, str]], *, label: str) -> str:
    """Several queries in one: the first text of each pair tells their samples apart."""
    return " or ".join(
        f'label_replace({query}, "{label}", {quoted(name)}, "", "")' for name, query in queries
    )


def any_of(values: Iterable[str]) -> str:
    """Matches exactly these values, as the quoted operand of `=~`."""
    return quoted("|".join(re.escape(value) for value in sorted(set(values))))


def quoted(text: str) -> str:
    """A PromQL string."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


# --- answers -------------------------------------------------------------------------------------


@dataclass(slots=True)
class Distribution:
    """A histogram as Prometheus has it: cumulative buckets and a sum.

    Means are exact as far as the proxies' sums are: Envoy counts whole milliseconds, so that each
    time is up to one millisecond too short. Quantiles lie somewhere within a bucket; they are for
    display, and are never subtracted from each other.
    """

    buckets: dict[float, float] = field(default_factory=dict)
    """Upper bound to the count of all values up to it."""
    total: float = 0.0

    def add(self, bound: str, value: float) -> None:
        """Counts one sample of `histogram`; bounds that are no numbers are left out."""
        if bound == _SUM:
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
    """Adds distributions up. Those of different bounds would not add up; the mesh has one set."""
    whole = Distribution()
    for one in distributions:
        whole.total += one.total
        for bound, count in one.buckets.items():
            whole.buckets[bound] = whole.buckets.get(bound, 0.0) + count
    return whole


def distributions_of(
    samples: Iterable[Sample], key: Callable[[Mapping[str, str]], Key]
) -> dict[Key, Distribution]:
    """Answers of `histogram`, by what `key` makes of the labels."""
    found: dict[Key, Distribution] = {}
    for sample in samples:
        if math.isfinite(sample.value):
            distribution = found.setdefault(key(sample.labels), Distribution())
            distribution.add(sample.labels.get("le", ""), sample.value)
    return {key: one for key, one in found.items() if one.count}
