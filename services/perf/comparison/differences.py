"""The difference of one figure between two sides, its error, and when it is large or chance.

Differences are taken in logarithms, in which a tenth more is as far as a tenth less seen from the
other side; swapped sides give the mirrored answer. Only the share of failures, which may be 0, is
subtracted as it is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from services.perf.comparison.resampling import LEAST, QUANTILES, Metric, Table, scaled

DURATIONS = (Metric.P50, Metric.P90, Metric.P99, Metric.MEAN)

_LEAST_US = 200.0
"""A small machine measures durations no better than this."""
_LEAST_FAILED = 0.005
"""Shares of failures that differ by less are the same."""
_MOST_FAILED = 0.1
"""With a larger share of failures, durations tell how fast the target refuses."""
_LEAST_BEYOND = 10
"""Requests that must be slower than a quantile: 1000 in all for p99. With fewer it is the time of
one request or two, and blocks drawn from the same few say nothing about its error."""
_DOUBTFUL = 2.0
"""Standard errors from which a large change is suspicious, though not proven."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One figure before and after; durations in microseconds."""

    metric: Metric
    before: float
    after: float
    error: float | None
    """Standard error of the difference; None where the figure is not tested."""
    reach: float
    """Standard errors from the difference to the end of its confidence interval."""
    threshold: float

    @property
    def distance(self) -> float:
        """From before to after: a logarithm, or a difference of shares."""
        if self.metric is Metric.FAILED:
            return self.after - self.before
        return math.log(max(self.after, LEAST) / max(self.before, LEAST))

    @property
    def interval(self) -> tuple[float, float] | None:
        if self.error is None:
            return None
        margin = self.reach * self.error
        return self.distance - margin, self.distance + margin

    @property
    def bar(self) -> float:
        """The difference beyond which a change is large."""
        if self.metric is Metric.FAILED:
            return max(_LEAST_FAILED, self.threshold * min(self.before, self.after))
        return math.log1p(self.threshold)

    @property
    def is_large(self) -> bool:
        is_seen = self.metric not in DURATIONS or abs(self.after - self.before) >= _LEAST_US
        return is_seen and abs(self.distance) > self.bar

    @property
    def counts(self) -> bool:
        """Large, and so far from chance that not even half of the threshold is in the interval."""
        if self.error is None:
            return False
        return self.is_large and abs(self.distance) - self.reach * self.error > self.bar / 2

    @property
    def is_doubtful(self) -> bool:
        """Large and suspicious, but not proven."""
        if self.error is None or self.counts:
            return False
        return self.is_large and abs(self.distance) > _DOUBTFUL * self.error

    @property
    def is_too_noisy(self) -> bool:
        """Whether even a change of twice the threshold would be hidden in the interval."""
        return self.error is None or self.reach * self.error > 2 * max(self.bar, math.log1p(0.05))

    def relative(self, distance: float) -> float:
        """As people count: relative to the value before, or a difference of shares."""
        return distance if self.metric is Metric.FAILED else math.expm1(min(distance, 50.0))


def differences(
    old: Table, new: Table, *, threshold: float, level: float, is_rate_kept: bool
) -> tuple[list[Difference], list[str]]:
    """Of all figures, and why some are not tested."""
    metrics, notes = _tested(old, new, is_rate_kept=is_rate_kept)
    # Bonferroni: the level is shared by the figures, so that all intervals hold together.
    reach = quantile_of_t(level / len(metrics), old.degrees + new.degrees)
    errors, before, after = _errors(old, new), old.figures(), new.figures()
    found = [
        Difference(
            metric=metric,
            before=before[metric],
            after=after[metric],
            error=errors[metric] if metric in metrics else None,
            reach=reach,
            threshold=threshold,
        )
        for metric in Metric
    ]
    return found, notes


def quantile_of_t(tails: float, degrees: float) -> float:
    """What both tails of Student's t together exceed with this chance (Gaver and Kafadar 1984;
    good to a few percent from 4 degrees of freedom on)."""
    normal = NormalDist().inv_cdf(1 - tails / 2)
    return math.sqrt(degrees * math.expm1(normal**2 * (degrees - 1.5) / (degrees - 1) ** 2))


def _tested(old: Table, new: Table, *, is_rate_kept: bool) -> tuple[set[Metric], list[str]]:
    metrics, notes = set(Metric), []
    fewest = min(float(side.requests.sum()) for side in (old, new))
    for metric, quantile in QUANTILES.items():
        needed = round(_LEAST_BEYOND / (1 - quantile))
        if fewest < needed:
            metrics.discard(metric)
            notes.append(f"{metric} needs {needed} requests on each side; there are {fewest:.0f}")
    if not (is_rate_kept and old.has_rate and new.has_rate):
        metrics.discard(Metric.RATE)
    if max(float(side.failed.sum() / side.requests.sum()) for side in (old, new)) > _MOST_FAILED:
        metrics.difference_update(DURATIONS)
        notes.append("Too many requests failed for the durations to be compared")
    return metrics, notes


def _errors(old: Table, new: Table) -> dict[Metric, float]:
    """Standard errors of the differences.

    Where a side has several runs, they show how far runs differ among each other, and that counts
    for both sides if it is more than what their blocks explain.
    """
    sides = [(each, each.figures_of_runs(), each.variances()) for each in (old, new)]
    freedom = max(1, old.runs + new.runs - 2)
    errors = {}
    for metric in Metric:
        squares = (float(np.var(scaled(metric, runs[metric]))) * t.runs for t, runs, _ in sides)
        between = sum(squares) / freedom
        total = sum(max(blocks[metric], between / t.runs) for t, _, blocks in sides)
        errors[metric] = math.sqrt(total)
    return errors
