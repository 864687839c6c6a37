"""What a comparison sees of one run: its figures, and how well the run itself tells them.

The run is the unit. However many requests it made, they shared one start, one placement of pods and
one hour of the machine, so a run is one observation of each figure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from services.perf.comparison.comparability import stages
from services.perf.comparison.metrics import QUANTILES, Metric
from services.perf.measurements.histograms import Histogram
from services.perf.measurements.measurements import Measurement


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """One run."""

    figures: Mapping[Metric, float]
    """Of the response times, in microseconds; the share of failures; requests per second."""
    variances: Mapping[Metric, float]
    """Of the scaled figures: what happened within the run explains this much."""
    durations: Mapping[Metric, float]
    """The same figures of the durations, which explain and do not decide."""
    requests: int
    failed: int
    has_rate: bool


def observed(run: Measurement) -> Observation:
    """The run as one observation. Takes a few milliseconds."""
    # It brings numpy.
    from services.perf.comparison.resampling import table

    intervals = table(stages(run))
    durations = Histogram.of(run.tally.durations)
    told = {metric: float(durations.percentile_us(q * 100)) for metric, q in QUANTILES.items()}
    return Observation(
        figures=intervals.figures(),
        variances=intervals.variances(),
        durations={**told, Metric.MEAN: durations.mean_us},
        requests=run.tally.requests,
        failed=run.tally.failed,
        has_rate=intervals.has_rate,
    )
