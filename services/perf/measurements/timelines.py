"""A run's intervals in the order of time, for what shows a run over time.

The stages of one test follow each other in one count of intervals. The steps of a search for
saturation are runs of their own that each begin with interval 0; merged they would lie on top of
each other, so here they are laid end to end.
"""

from __future__ import annotations

from services.perf.measurements.measurements import Measurement
from services.perf.measurements.tallies import IntervalMessage


def timeline(measurement: Measurement) -> list[IntervalMessage]:
    """The intervals that hold a request, by ascending index; each index is there once."""
    if measurement.saturation_rate is None:
        return sorted(measurement.tally.intervals, key=lambda interval: interval.index)
    laid: list[IntervalMessage] = []
    for step in measurement.stages:
        intervals = sorted(step.tally.intervals, key=lambda interval: interval.index)
        if not intervals:
            continue
        shift = max(0, laid[-1].index + 1 - intervals[0].index) if laid else 0
        laid += [
            interval.model_copy(update={"index": interval.index + shift}) for interval in intervals
        ]
    return laid
