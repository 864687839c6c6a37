"""Tells a regression from noise: whether runs after a change differ from those before it.

A change counts when it is neither small nor chance: larger than the threshold, and more than runs
of the same thing differ by. Neither alone is enough. Runs of the same thing differ by a few
percent, because machines drift; and the p99 of a short run moves by more than a tenth for nothing.
docs/explanation/comparison.md has the method and its measured rates.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from math import exp, log
from statistics import fmean

from pydantic import Field

from services.chassis.messages.models import Message, Piece
from services.perf.comparison.comparability import keeps_rate, obstacles, remarks
from services.perf.comparison.differences import (
    DECIDING,
    LEAST_DEGREES,
    TIMES,
    Difference,
    Sides,
    differences,
)
from services.perf.comparison.metrics import LEAST, QUANTILES, Metric
from services.perf.comparison.observations import observed
from services.perf.measurements.measurements import Measurement

_FEW_FAILED = 0.005
LEAST_PAIRS = LEAST_DEGREES + 1


class Outcome(StrEnum):
    """Verdict of a comparison."""

    REGRESSION = "regression"
    IMPROVEMENT = "improvement"
    SAME = "same"
    """No change larger than the threshold was found; the intervals tell what may be hidden."""
    INCONCLUSIVE = "inconclusive"
    """Nothing was proven: too few runs, or a large change that chance may have made."""


class Change(Piece):
    """One figure before and after."""

    metric: Metric
    before: float
    """Of a side's runs. Response times in milliseconds, the rate in requests per second, failures
    as a share."""
    after: float
    change: float
    """Relative to `before`: 0.1 is a tenth more. Of failures the difference of the shares."""
    low: float | None = None
    """Bounds of the change's confidence interval; None where the figure is not tested."""
    high: float | None = None
    counts: bool = False
    """Whether the change is beyond both chance and the threshold, and so decides the verdict."""
    decides: bool = False
    """Whether the figure may decide; the others explain."""
    p_value: float | None = None
    """The chance of so large a change in this direction if nothing had changed, before it is
    corrected for the number of figures."""

    @classmethod
    def of(cls, difference: Difference) -> Change:
        unit = 1e-3 if difference.metric in TIMES else 1.0
        ends = difference.interval
        low, high = map(difference.relative, ends) if ends else (None, None)
        return cls(
            metric=difference.metric,
            before=difference.before * unit,
            after=difference.after * unit,
            change=difference.relative(difference.distance),
            low=low,
            high=high,
            counts=difference.counts,
            decides=difference.error is not None and difference.metric in DECIDING,
            p_value=difference.p_value,
        )

    @property
    def is_worse(self) -> bool:
        return self.change < 0 if self.metric is Metric.RATE else self.change > 0

    def text(self) -> str:
        """For people, in one line."""
        if self.low is None or self.high is None:
            return f"{self.metric}: {self.values}, not tested"
        unit = " points" if self.metric is Metric.FAILED else "%"
        verdict = (": worse" if self.is_worse else ": better") if self.counts else ""
        bounds = f"{self.low * 100:+.1f} to {self.high * 100:+.1f}"
        return f"{self.metric}: {self.values}, {self.change * 100:+.1f}{unit} ({bounds}){verdict}"

    @property
    def values(self) -> str:
        """Before and after, with their units."""
        match self.metric:
            case Metric.FAILED:
                return f"{self.before:.2%} to {self.after:.2%}"
            case Metric.RATE:
                return f"{self.before:.4g}/s to {self.after:.4g}/s"
        return f"{self.before:.3g} to {self.after:.3g} ms"


class Comparison(Message):
    """Some runs against others."""

    verdict: Outcome
    before: list[str]
    """Ids of the runs."""
    after: list[str]
    changes: list[Change] = Field(default_factory=list)
    """Of the response times, the failures and the rate."""
    durations: list[Change] = Field(default_factory=list)
    """Of what the generator measured from sending on: these explain, and are not tested. Where they
    stay and the response times grow, requests queue before they are sent."""
    is_paired: bool = False
    """The runs alternated, and each before was held against its own after."""
    threshold: float
    level: float
    """Chance of a false alarm over all figures and looks."""
    look_level: float | None = None
    """The part of it that this look may give; None where nothing was tested."""
    method: str = ""
    notes: list[str] = Field(default_factory=list)
    """Why it is inconclusive, and what else the reader should know."""

    @property
    def headline(self) -> str:
        """The verdict with the figures that people ask for first, in one line."""
        told = [
            f"{each.metric} {each.values}"
            for each in self.changes
            if each.metric in (Metric.P50, Metric.P99, Metric.FAILED)
        ]
        return ", ".join([str(self.verdict), *told])

    @property
    def numbers(self) -> tuple[tuple[str, float], ...]:
        """The figures of both sides by name, for events."""
        pairs = [("pairs", float(len(self.after)))] if self.is_paired else []
        for each in self.changes:
            unit = "_ms" if each.metric in TIMES else ""
            pairs += [
                (f"{each.metric}{unit}_before", each.before),
                (f"{each.metric}{unit}_after", each.after),
            ]
        return tuple(pairs)

    @property
    def is_within(self) -> bool:
        """Whether no figure that may decide is apart by more than the threshold, proven or not."""
        return bool(self.changes) and not any(
            abs(each.change) > (_FEW_FAILED if each.metric is Metric.FAILED else self.threshold)
            for each in self.changes
            if each.metric in DECIDING
        )

    def text(self) -> str:
        """For people, in plain lines; the first one is the verdict."""
        is_worse = self.verdict is Outcome.REGRESSION
        deciding = ", ".join(e.metric for e in self.changes if e.counts and e.is_worse == is_worse)
        match self.verdict:
            case Outcome.SAME:
                head = f"same, no change of more than {self.threshold * 100:.3g}% was found"
            case Outcome.INCONCLUSIVE:
                head = str(self.verdict)
            case _:
                head = f"{self.verdict} ({deciding})"
        lines = [each.text() for each in self.changes]
        if self.durations:
            told = ", ".join(f"{each.metric} {each.values}" for each in self.durations)
            lines.append(f"durations, which do not decide: {told}")
        return "\n".join([head, *lines, *self.notes])


def compare(
    before: Sequence[Measurement],
    after: Sequence[Measurement],
    *,
    threshold: float = 0.1,
    level: float = 0.01,
    is_paired: bool = False,
    looks: Sequence[int] = (),
    history: Sequence[Measurement] = (),
) -> Comparison:
    """Compares runs of one test before and after a change. Takes milliseconds for each run.

    `is_paired` says that the first run before belongs to the first one after, and so on. `looks`
    are the numbers of runs a side at which this comparison is made, of which this is one: they
    share the level. `history` are runs of the service that were judged alike.
    """
    comparison = Comparison(
        verdict=Outcome.INCONCLUSIVE,
        before=[run.run for run in before],
        after=[run.run for run in after],
        is_paired=is_paired,
        threshold=threshold,
        level=level,
        notes=obstacles(before, after),
    )
    if comparison.notes:
        return comparison
    alike = [run for run in history if not obstacles([run], before)]
    sides = Sides(
        before=[observed(run) for run in before],
        after=[observed(run) for run in after],
        is_paired=is_paired,
        history=[observed(run) for run in alike],
    )
    return judged(
        comparison,
        sides,
        looks=looks,
        is_rate_kept=keeps_rate(before, after),
        notes=remarks(before, after),
    )


def judged(
    comparison: Comparison,
    sides: Sides,
    *,
    looks: Sequence[int] = (),
    is_rate_kept: bool = True,
    notes: Sequence[str] = (),
) -> Comparison:
    """`comparison` with the verdict that the runs of the two sides give."""
    look_level = comparison.level
    if looks:
        # It brings numpy.
        from services.perf.comparison.spending import levels

        look_level = levels(comparison.level, tuple(looks))[looks.index(len(sides.after))]
    found, untested = differences(
        sides, threshold=comparison.threshold, level=look_level, is_rate_kept=is_rate_kept
    )
    changes = [Change.of(difference) for difference in found]
    is_enough = sides.degrees >= LEAST_DEGREES
    verdict, reasons = _verdict(found, changes) if is_enough else _too_few(sides)
    tested = sum(change.decides for change in changes)
    return comparison.model_copy(
        update={
            "verdict": verdict,
            "changes": changes,
            "durations": _explaining(sides),
            "look_level": look_level if is_enough else None,
            "method": _method(sides, look_level, tested) if is_enough else "",
            "notes": [*reasons, *untested, *notes],
        }
    )


def _method(sides: Sides, level: float, tested: int) -> str:
    pairing = "paired" if sides.is_paired else "unpaired"
    return (
        f"{pairing} t test of one figure a run with a moderated variance; response times; "
        f"level {level:.3%} for {tested} figures together (Bonferroni)"
    )


def _explaining(sides: Sides) -> list[Change]:
    told = []
    for metric in TIMES:
        old, new = (
            exp(fmean(log(max(run.durations[metric], LEAST)) for run in side)) / 1000
            for side in (sides.before, sides.after)
        )
        change = new / old - 1 if old > LEAST else 0.0
        told.append(Change(metric=metric, before=old, after=new, change=change))
    return told


def _too_few(sides: Sides) -> tuple[Outcome, list[str]]:
    runs = f"{len(sides.before)} before and {len(sides.after)} after"
    needed = "three pairs are" if sides.is_paired else "three on each side are"
    return Outcome.INCONCLUSIVE, [
        f"Too few runs to know how far runs differ among each other: {runs}; {needed} enough"
    ]


def _verdict(found: Sequence[Difference], changes: Sequence[Change]) -> tuple[Outcome, list[str]]:
    """The verdict, and notes about figures that do not decide."""
    tested = [one for one in found if one.error is not None and one.metric in DECIDING]
    noisy = [one.metric for one in tested if one.is_too_noisy]
    notes = [f"Too noisy to see four times the threshold: {', '.join(noisy)}"] if noisy else []
    counting = [change for change in changes if change.counts]
    if counting:
        is_worse = any(change.is_worse for change in counting)
        return Outcome.REGRESSION if is_worse else Outcome.IMPROVEMENT, notes
    doubtful = ", ".join(one.metric for one in tested if one.is_doubtful)
    if doubtful:
        doubt = f"Larger than the threshold and not proven: {doubtful}; longer or more runs tell"
        return Outcome.INCONCLUSIVE, [doubt, *notes]
    if all(one.is_too_noisy for one in found if one.metric in QUANTILES):
        return Outcome.INCONCLUSIVE, notes
    return Outcome.SAME, notes
