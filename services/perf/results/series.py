"""Computes the series that charts draw: a second and a value for each interval.

Intervals without a request are there too: their rate is 0, and their latency is a gap. An interval
in which a run ended counts with the part of it that the run lasted.
"""

from __future__ import annotations

import math
from collections import Counter

from services.perf.measurements.histograms import Histogram
from services.perf.measurements.measurements import Measurement
from services.perf.measurements.tallies import IntervalMessage

Points = list[tuple[float, float]]
"""Seconds after the start (the middle of an interval), and the value there."""
Failures = dict[str, Points]

_PERCENTILES = (50, 90, 99)
_MOST_CODES = 3
_OTHERS = "other codes"
_SHORTEST_PART = 0.2
_LONGEST_CODE = 24
_FINE_ANSWERS = frozenset({"OK", "SERVING"})


def latencies(measurement: Measurement) -> dict[str, Points]:
    """p50, p90 and p99 of the durations in milliseconds; NaN where there was no request."""
    lines: dict[str, Points] = {f"p{percentile}": [] for percentile in _PERCENTILES}
    for at, _, interval in _intervals(measurement):
        histogram = Histogram.of(interval.durations) if interval else Histogram()
        for percentile in _PERCENTILES:
            value = histogram.percentile_us(percentile) / 1000 if histogram.count else math.nan
            lines[f"p{percentile}"].append((at, value))
    return lines


def rates(measurement: Measurement) -> Points:
    """Requests per second."""
    return [
        (at, (interval.requests if interval else 0) / seconds)
        for at, seconds, interval in _intervals(measurement)
    ]


def failures(measurement: Measurement) -> Failures:
    """Failed requests per second by code, the most frequent first; codes that are rare together."""
    if not measurement.tally.failed:
        return {}
    totals = {code: n for code, n in measurement.tally.codes.items() if _is_failure(code)}
    chosen = [code for code, _ in Counter(totals).most_common(_MOST_CODES)]
    names = [*chosen, _OTHERS] if len(totals) > len(chosen) or not totals else chosen
    lines: Failures = {name: [] for name in names}
    for at, seconds, interval in _intervals(measurement):
        counts = interval.codes if interval else {}
        for code in chosen:
            lines[code].append((at, counts.get(code, 0) / seconds))
        if _OTHERS in lines:
            named = sum(counts.get(code, 0) for code in chosen)
            failed = interval.failed if interval else 0
            lines[_OTHERS].append((at, max(0, failed - named) / seconds))
    return lines


def format_code(code: str) -> str:
    """A code for people, in letters that every font has."""
    if code == "-1":
        return "no answer"
    return code.encode("ascii", "replace").decode()[:_LONGEST_CODE]


def _is_failure(code: str) -> bool:
    """As fortio judges: 2xx and 418 are fine, and SERVING or OK where it is not HTTP."""
    if code.isdecimal():
        return not (200 <= int(code) < 300 or int(code) == 418)
    return code not in _FINE_ANSWERS


def _intervals(measurement: Measurement) -> list[tuple[float, float, IntervalMessage | None]]:
    """Middle, length and content of each interval from the first to the last."""
    found = {interval.index: interval for interval in measurement.tally.intervals}
    length_s = measurement.tally.interval_s
    last = max(found, default=-1)
    rows: list[tuple[float, float, IntervalMessage | None]] = []
    for index in range(last + 1):
        begin = index * length_s
        seconds = length_s
        if index == last and measurement.saturation_rate is None:
            left = measurement.duration_s - begin
            if index > 0 and left < _SHORTEST_PART * length_s:
                break  # a few stragglers would look like a jump of the rate
            seconds = min(length_s, max(left, _SHORTEST_PART * length_s))
        rows.append((begin + seconds / 2, seconds, found.get(index)))
    return rows
