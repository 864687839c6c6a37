"""Histograms in fortio's form: counts between its bounds, in seconds.

fortio's bounds seldom lie between two of our slots. They are moved to the nearest border of slots,
so that no slot is torn apart: the counts stay exact, and what a bucket says of its bounds is true.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from typing import Any

from services.perf.measurements.histograms import Histogram, slot_of, slot_range

# Upper bounds of fortio's buckets, in units of its resolution (stats/stats.go of fortio 1.66).
_BOUNDS = (
    *range(1, 12),
    *range(12, 20, 2),
    *range(20, 50, 5),
    *range(50, 100, 10),
    *range(100, 200, 20),
    *range(200, 500, 50),
    *range(500, 1000, 100),
    *(factor * unit for unit in (1000, 10_000) for factor in (1, 2, 3, 4, 5, 7.5)),
    100_000,
)
_COARSE_US = 1000
_FINE_US = 100


def resolution_of(histogram: Histogram) -> int:
    """fortio's -r, in microseconds: finer than its default where a target answers faster."""
    return _FINE_US if 0 < histogram.percentile_us(50) < _COARSE_US else _COARSE_US


def fortio_histogram(
    histogram: Histogram, *, resolution_us: int, percentiles: Sequence[float]
) -> dict[str, Any]:
    """fortio's HistogramData; its lists are never null, unlike fortio's own."""
    return {
        "Count": histogram.count,
        "Min": histogram.least_us / 1e6,
        "Max": histogram.most_us / 1e6,
        "Sum": histogram.total_us / 1e6,
        "Avg": histogram.mean_us / 1e6,
        "StdDev": histogram.deviation_us / 1e6,
        "Data": _buckets(histogram, resolution_us),
        "Percentiles": [
            {"Percentile": percentile, "Value": histogram.percentile_us(percentile) / 1e6}
            for percentile in (percentiles if histogram.count else ())
        ],
    }


def _buckets(histogram: Histogram, resolution_us: int) -> list[dict[str, float]]:
    """Each bucket holds what is at least its start and less than its end; the last one holds the
    maximum as well. Those that would be empty are left out, as fortio does."""
    bounds = [0, *(_border(round(bound * resolution_us)) for bound in _BOUNDS)]
    counts: Counter[int] = Counter()
    for slot, count in histogram.ascending():
        counts[bisect_right(bounds, slot_range(slot)[0]) - 1] += count
    buckets: list[dict[str, float]] = []
    seen = 0
    for index, count in sorted(counts.items()):
        seen += count
        buckets.append(
            {
                "Start": bounds[index] / 1e6,
                "End": bounds[index + 1] / 1e6 if index + 1 < len(bounds) else 0.0,
                "Percent": 100 * seen / histogram.count,
                "Count": count,
            }
        )
    if buckets:
        buckets[0]["Start"] = histogram.least_us / 1e6
        buckets[-1]["End"] = histogram.most_us / 1e6
    return buckets


def _border(value_us: int) -> int:
    """The border between two slots that is nearest to `value_us`."""
    low, high = slot_range(slot_of(value_us))
    return low if value_us - low <= high + 1 - value_us else high + 1
