"""Writes a run as what a reader draws: figures, curves and tables, without its histograms.

A measurement holds every histogram of every second, which is much for a browser and says nothing
to it. This is a few dozen kilobytes, in milliseconds and requests per second.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

from services.perf.measurements.histograms import Histogram
from services.perf.measurements.measurements import Measurement
from services.perf.measurements.tallies import TallyMessage
from services.perf.results.series import Points, failures, format_code, latencies, rates
from services.perf.results.summaries import summary

PERCENTILES = (0, 10, 25, 50, 75, 90, 95, 99, 99.5, 99.9, 99.95, 99.99, 100)
"""Of the latency curve: the more the nearer to the end, where the times grow."""
_MOST_CODES = 20
_MOST_STAGES = 100
_EXCLUDED = {"stages", "targets", "tally"}


def curves(measurement: Measurement) -> dict[str, Any]:
    """The run's facts as the measurement has them, and beside them what is to be drawn.

    Points are pairs of seconds after the start and a value; null where there was no request.
    """
    return {
        **measurement.model_dump(mode="json", exclude=_EXCLUDED),
        "summary": summary(measurement),
        "is_complete": measurement.is_complete,
        "actual_rate": measurement.actual_rate,
        "figures": _figures(measurement.tally),
        "durations": _latency(measurement.tally, "durations"),
        "responses": _latency(measurement.tally, "responses"),
        "latencies": {name: _points(line) for name, line in latencies(measurement).items()},
        "rates": _points(rates(measurement)),
        "failures": {format_code(c): _points(line) for c, line in failures(measurement).items()},
        "codes": [
            [format_code(code), count]
            for code, count in Counter(measurement.tally.codes).most_common(_MOST_CODES)
        ],
        "stages": [
            {
                **stage.model_dump(mode="json", exclude={"tally"}),
                "figures": _figures(stage.tally),
            }
            for stage in measurement.stages[:_MOST_STAGES]
        ],
        "targets": [
            {
                **target.model_dump(mode="json", exclude={"tally"}),
                "figures": _figures(target.tally),
            }
            for target in measurement.targets[:_MOST_STAGES]
        ],
    }


def _figures(tally: TallyMessage) -> dict[str, float | None]:
    durations, responses = Histogram.of(tally.durations), Histogram.of(tally.responses)
    return {
        "requests": tally.requests,
        "failed": tally.failed,
        **{f"p{p}_ms": _ms(durations, p) for p in (50, 90, 99)},
        **{f"response_p{p}_ms": _ms(responses, p) for p in (50, 90, 99)},
    }


def _latency(tally: TallyMessage, kind: str) -> list[tuple[float, float]]:
    """The latency curve: percentiles and their times; empty without a request."""
    histogram = Histogram.of(getattr(tally, kind))
    if not histogram.count:
        return []
    ends: dict[float, int] = {0: histogram.least_us, 100: histogram.most_us}
    return [(p, (ends[p] if p in ends else histogram.percentile_us(p)) / 1000) for p in PERCENTILES]


def _ms(histogram: Histogram, percentile: float) -> float | None:
    return histogram.percentile_us(percentile) / 1000 if histogram.count else None


def _points(line: Points) -> list[tuple[float, float | None]]:
    return [(round(at, 3), None if math.isnan(value) else round(value, 4)) for at, value in line]
