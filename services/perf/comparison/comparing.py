"""Tells a regression from noise: whether runs after a change differ from those before it.

A change counts when it is neither small nor chance: larger than the threshold, and with an interval
that lies wholly beyond half of it. Neither alone is enough. Two runs of the same thing differ
significantly by a few percent, because machines drift; and the p99 of a short run moves by more
than a tenth for nothing. docs/explanation/comparison.md has the method and its measured rates.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from pydantic import Field

from services.chassis.messages.models import Message, Piece
from services.perf.comparison.comparability import keeps_rate, obstacles, remarks, stages
from services.perf.comparison.differences import DURATIONS, Difference, differences
from services.perf.comparison.resampling import RESAMPLES, Metric, table
from services.perf.measurements.measurements import Measurement


class Outcome(StrEnum):
    """Verdict of a comparison."""

    REGRESSION = "regression"
    IMPROVEMENT = "improvement"
    SAME = "same"
    """No change larger than the threshold was found; the intervals tell what may be hidden."""
    INCONCLUSIVE = "inconclusive"


class Change(Piece):
    """One figure before and after."""

    metric: Metric
    before: float
    """Durations in milliseconds, the rate in requests per second, failures as a share."""
    after: float
    change: float
    """Relative to `before`: 0.1 is a tenth more. Of failures the difference of the shares."""
    low: float | None = None
    """Bounds of the change's confidence interval; None where the figure is not tested."""
    high: float | None = None
    counts: bool = False
    """Whether the change is beyond both chance and the threshold, and so decides the verdict."""

    @classmethod
    def of(cls, difference: Difference) -> Change:
        unit = 1e-3 if difference.metric in DURATIONS else 1.0
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
        )

    @property
    def is_worse(self) -> bool:
        return self.change < 0 if self.metric is Metric.RATE else self.change > 0

    def text(self) -> str:
        """For people, in one line."""
        unit = "%"
        match self.metric:
            case Metric.FAILED:
                values, unit = f"{self.before:.2%} to {self.after:.2%}", " points"
            case Metric.RATE:
                values = f"{self.before:.4g}/s to {self.after:.4g}/s"
            case _:
                values = f"{self.before:.3g} to {self.after:.3g} ms"
        if self.low is None or self.high is None:
            return f"{self.metric}: {values}, not tested"
        verdict = (": worse" if self.is_worse else ": better") if self.counts else ""
        bounds = f"{self.low * 100:+.1f} to {self.high * 100:+.1f}"
        return f"{self.metric}: {values}, {self.change * 100:+.1f}{unit} ({bounds}){verdict}"


class Comparison(Message):
    """Some runs against others."""

    verdict: Outcome
    before: list[str]
    """Ids of the runs."""
    after: list[str]
    changes: list[Change] = Field(default_factory=list)
    threshold: float
    level: float
    """Chance of a false alarm over all figures, as far as the runs show how they vary."""
    method: str = ""
    notes: list[str] = Field(default_factory=list)
    """Why it is inconclusive, and what else the reader should know."""

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
        return "\n".join([head, *(each.text() for each in self.changes), *self.notes])


def compare(
    before: Sequence[Measurement],
    after: Sequence[Measurement],
    *,
    threshold: float = 0.1,
    level: float = 0.01,
) -> Comparison:
    """Compares runs of one test before and after a change. Takes tens of milliseconds."""
    comparison = Comparison(
        verdict=Outcome.INCONCLUSIVE,
        before=[run.run for run in before],
        after=[run.run for run in after],
        threshold=threshold,
        level=level,
        notes=obstacles(before, after),
    )
    if comparison.notes:
        return comparison
    old, new = (table([stages(run) for run in side]) for side in (before, after))
    found, untested = differences(
        old, new, threshold=threshold, level=level, is_rate_kept=keeps_rate(before, after)
    )
    changes = [Change.of(difference) for difference in found]
    verdict, reasons = _verdict(found, changes)
    tested = sum(difference.error is not None for difference in found)
    block_s = max(old.block_s, new.block_s)
    method = (
        f"block bootstrap over intervals, {RESAMPLES} resamples of blocks of {block_s:g} s; "
        f"{1 - level / tested:.2%} intervals of {tested} figures"
    )
    return comparison.model_copy(
        update={
            "verdict": verdict,
            "changes": changes,
            "method": method,
            "notes": [*reasons, *untested, *remarks(before, after)],
        }
    )


def _verdict(found: Sequence[Difference], changes: Sequence[Change]) -> tuple[Outcome, list[str]]:
    """The verdict, and notes about figures that do not decide."""
    noisy = [one.metric for one in found if one.error is not None and one.is_too_noisy]
    notes = [f"Too noisy to see twice the threshold: {', '.join(noisy)}"] if noisy else []
    counting = [change for change in changes if change.counts]
    if counting:
        is_worse = any(change.is_worse for change in counting)
        return Outcome.REGRESSION if is_worse else Outcome.IMPROVEMENT, notes
    doubtful = ", ".join(one.metric for one in found if one.is_doubtful)
    if doubtful:
        doubt = f"Larger than the threshold and not proven: {doubtful}; longer or more runs tell"
        return Outcome.INCONCLUSIVE, [doubt, *notes]
    if all(one.is_too_noisy for one in found if one.metric in DURATIONS):
        return Outcome.INCONCLUSIVE, notes
    return Outcome.SAME, notes
