"""The figures of a run that are compared, and what is needed to estimate them.

Apart from `resampling`, which brings numpy: that takes a tenth of a second to import, and a worker
that only drives load needs none of it.
"""

from __future__ import annotations

from enum import StrEnum

from services.perf.measurements.tallies import TallyMessage

LEAST = 1e-6
"""Below any time and rate; logarithms begin here."""
LEAST_ROWS = 3
"""Intervals that a stage needs so that blocks of them can be drawn."""


class Metric(StrEnum):
    """Figures that are compared."""

    P50 = "p50"
    P90 = "p90"
    P99 = "p99"
    MEAN = "mean"
    FAILED = "failed"
    RATE = "rate"


QUANTILES = {Metric.P50: 0.5, Metric.P90: 0.9, Metric.P99: 0.99}


def span(tally: TallyMessage) -> int:
    """Intervals from the first request to the last one, with those between that hold none."""
    indices = [interval.index for interval in tally.intervals]
    return max(indices) - min(indices) + 1 if indices else 0
