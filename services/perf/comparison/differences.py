"""The difference of one figure between two sides of runs, its error, and when it counts.

Differences are taken in logarithms, in which a tenth more is as far as a tenth less seen from the
other side; swapped sides give the mirrored answer. Only the share of failures, which may be 0, is
subtracted as it is.

The test is Student's t on one figure for each run, with a moderated variance (Smyth 2004): three
runs a side tell next to nothing about how far runs differ, so what they show is pooled with what is
expected of runs anyway, as if that had been seen in eight more. Where the runs contradict what is
expected, they are believed alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from services.perf.comparison.metrics import LEAST, QUANTILES, Metric
from services.perf.comparison.observations import Observation
from services.perf.comparison.quantiles import quantile_of_t, tail_of_t

TIMES = (Metric.P50, Metric.P90, Metric.P99, Metric.MEAN)
DECIDING = (Metric.P50, Metric.P90, Metric.P99, Metric.FAILED, Metric.RATE)
"""The mean follows these and would only cost a share of the level."""

LEAST_DEGREES = 2
"""Of the runs' own spread: three pairs, or four runs of which each side has one at least. With
fewer, nothing but what is expected of runs in general would stand for how far these differ."""

_SPREAD = {Metric.FAILED: 0.002}
_USUAL_SPREAD = 0.073
"""Standard deviation of runs of the same test on one installation, beyond what varies within them;
of failures a share. Less would raise false alarms where runs spread by a tenth, more would miss
changes of a third by three pairs (`python -m tests.bench.gate`)."""
_WORTH = 8
"""Degrees of freedom that this expectation is worth."""
_CONTRADICTED = 4.5
"""Runs whose variance is so many times the expected one do not vary as expected: by chance two or
three degrees of freedom show that once in twenty comparisons."""
_MOST_HISTORY = 4

_LEAST_US = 200.0
"""A small machine measures times no better than this."""
_LEAST_FAILED = 0.005
"""Shares of failures that differ by less are the same."""
_MOST_FAILED = 0.1
"""With a larger share of failures, times tell how fast the target refuses."""
_LEAST_BEYOND = 10
"""Requests of a side that must be slower than a quantile: 1000 in all for p99."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One figure before and after; times in microseconds."""

    metric: Metric
    before: float
    after: float
    error: float | None
    """Standard error of the difference; None where the figure is not tested."""
    degrees: int = 1
    level: float = 0.0
    """The chance of a finding in one direction that is not there."""
    threshold: float

    @property
    def distance(self) -> float:
        """From before to after: a logarithm, or a difference of shares."""
        if self.metric is Metric.FAILED:
            return self.after - self.before
        return math.log(max(self.after, LEAST) / max(self.before, LEAST))

    @property
    def margin(self) -> float:
        """From the difference to either end of its interval."""
        return quantile_of_t(self.level, self.degrees) * (self.error or 0.0)

    @property
    def interval(self) -> tuple[float, float] | None:
        if self.error is None:
            return None
        return self.distance - self.margin, self.distance + self.margin

    @property
    def p_value(self) -> float | None:
        """The chance of so large a difference, in this direction, between sides that are alike."""
        if self.error is None:
            return None
        return tail_of_t(abs(self.distance) / max(self.error, LEAST), self.degrees)

    @property
    def bar(self) -> float:
        """The difference beyond which a change is large."""
        if self.metric is Metric.FAILED:
            return max(_LEAST_FAILED, self.threshold * min(self.before, self.after))
        return math.log1p(self.threshold)

    @property
    def is_large(self) -> bool:
        is_seen = self.metric not in TIMES or abs(self.after - self.before) >= _LEAST_US
        return is_seen and abs(self.distance) > self.bar

    @property
    def counts(self) -> bool:
        """Large, and not by chance."""
        if self.error is None or self.metric not in DECIDING:
            return False
        return self.is_large and abs(self.distance) > self.margin

    @property
    def is_doubtful(self) -> bool:
        """Large, but not proven."""
        is_deciding = self.error is not None and self.metric in DECIDING
        return is_deciding and self.is_large and not self.counts

    @property
    def is_too_noisy(self) -> bool:
        """Whether even a change of four times the threshold would be hidden in the interval."""
        return self.error is None or self.margin > 4 * max(self.bar, math.log1p(0.05))

    def relative(self, distance: float) -> float:
        """As people count: relative to the value before, or a difference of shares."""
        return distance if self.metric is Metric.FAILED else math.expm1(min(distance, 50.0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Sides:
    """The runs of a comparison."""

    before: Sequence[Observation]
    after: Sequence[Observation]
    is_paired: bool
    """The runs alternated: each before has its after, and what both shared falls out."""
    history: Sequence[Observation] = field(default_factory=list)
    """Earlier runs of the service, alike among themselves: they tell how far its runs differ."""

    @property
    def degrees(self) -> int:
        """Of the runs' own spread."""
        if self.is_paired:
            return len(self.before) - 1
        return len(self.before) + len(self.after) - 2

    @property
    def runs(self) -> list[Observation]:
        return [*self.before, *self.after]

    def mean(self, metric: Metric, side: Sequence[Observation]) -> float:
        """The figure of a side: the mean of its runs, of times and rates the geometric one."""
        centre = _mean(_values(metric, side))
        return centre if metric is Metric.FAILED else math.exp(centre)

    def error(self, metric: Metric) -> tuple[float, int]:
        """Standard error of the difference of the sides' means, and its degrees of freedom."""
        old, new = _values(metric, self.before), _values(metric, self.after)
        expected, worth = self._expected(metric)
        if self.is_paired:
            apart = [after - before for before, after in zip(old, new, strict=True)]
            own = _squares(apart) / self.degrees
            expected, share = 2 * expected, 1 / len(old)
        else:
            own = (_squares(old) + _squares(new)) / self.degrees
            share = 1 / len(old) + 1 / len(new)
        if own > _CONTRADICTED * expected:
            return math.sqrt(own * share), self.degrees
        degrees = worth + self.degrees
        variance = (worth * expected + self.degrees * own) / degrees
        return math.sqrt(variance * share), degrees

    def _expected(self, metric: Metric) -> tuple[float, int]:
        """Variance that is expected between runs, and the degrees of freedom that it is worth."""
        within = _mean([run.variances[metric] for run in self.runs])
        expected = _SPREAD.get(metric, _USUAL_SPREAD) ** 2 + within
        seen = min(_MOST_HISTORY, len(self.history) - 1)
        if seen < LEAST_DEGREES:
            return expected, _WORTH
        shown = _squares(_values(metric, self.history)) / (len(self.history) - 1)
        return (_WORTH * expected + seen * shown) / (_WORTH + seen), _WORTH + seen


def differences(
    sides: Sides, *, threshold: float, level: float, is_rate_kept: bool
) -> tuple[list[Difference], list[str]]:
    """Of all figures, and why some are not tested. `level` is for all figures together."""
    metrics, notes = _tested(sides, is_rate_kept=is_rate_kept)
    # Bonferroni: the level is shared by the figures that decide.
    own_level = level / max(1, len(metrics.intersection(DECIDING)))
    found = []
    for metric in Metric:
        error, degrees = sides.error(metric) if metric in metrics else (None, 1)
        found.append(
            Difference(
                metric=metric,
                before=sides.mean(metric, sides.before),
                after=sides.mean(metric, sides.after),
                error=error,
                degrees=degrees,
                level=own_level,
                threshold=threshold,
            )
        )
    return found, notes


def _values(metric: Metric, runs: Sequence[Observation]) -> list[float]:
    """On the scale of the difference, as `resampling.scaled` has it for arrays."""
    figures = [run.figures[metric] for run in runs]
    if metric is Metric.FAILED:
        return figures
    return [math.log(max(figure, LEAST)) for figure in figures]


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _squares(values: Sequence[float]) -> float:
    """The sum of the squared distances from the mean."""
    mean = _mean(values)
    return math.fsum((value - mean) ** 2 for value in values)


def _tested(sides: Sides, *, is_rate_kept: bool) -> tuple[set[Metric], list[str]]:
    if sides.degrees < LEAST_DEGREES:
        return set(), []
    metrics, notes = set(Metric), []
    requests = [sum(run.requests for run in side) for side in (sides.before, sides.after)]
    failed = [sum(run.failed for run in side) for side in (sides.before, sides.after)]
    for metric, quantile in QUANTILES.items():
        needed = round(_LEAST_BEYOND / (1 - quantile))
        if min(requests) < needed:
            metrics.discard(metric)
            notes.append(
                f"{metric} needs {needed} requests on each side; there are {min(requests)}"
            )
    if not (is_rate_kept and all(run.has_rate for run in sides.runs)):
        metrics.discard(Metric.RATE)
    if max(bad / count for bad, count in zip(failed, requests, strict=True)) > _MOST_FAILED:
        metrics.difference_update(TIMES)
        notes.append("Too many requests failed for the times to be compared")
    return metrics, notes
