"""Exports a run for other tools: HdrHistogram's interval log and its table of percentiles.

Both are written with the library `hdrhistogram`, so that its readers, and those of other languages,
take them. Its own log writer is not used: it announces an older format, and its start time raises.
The library is loaded on the first export, not with every worker.
"""

from __future__ import annotations

from datetime import timezone
from typing import TYPE_CHECKING

from services.perf.measurements.histograms import LONGEST_US, Histogram, slot_range
from services.perf.measurements.measurements import Measurement

if TYPE_CHECKING:
    from hdrh.histogram import HdrHistogram

_DIGITS = 3
_TICKS_PER_HALF = 5
_LEGEND = '"StartTimestamp","Interval_Length","Interval_Max","Interval_Compressed_Histogram"'


def hdr_log(measurement: Measurement) -> str:
    """HdrHistogram's interval log, format 1.3: the durations, one line per interval.

    Timestamps count from the start. As the format has it, the maximum is for reading only; the
    counts are in the histogram at the line's end, in microseconds.
    """
    started = measurement.started.astimezone(timezone.utc)
    seconds = f"{started.timestamp():.3f} (seconds since epoch)"
    lines = [
        "#[Histogram log format version 1.3]",
        f"#[StartTime: {seconds}, {started.isoformat()}]",
        f"#[BaseTime: {seconds}]",
        "#[Values are microseconds, Interval_Max is milliseconds]",
        _LEGEND,
    ]
    length_s = measurement.tally.interval_s
    for interval in measurement.tally.intervals:
        histogram = Histogram.of(interval.durations)
        encoded = _hdr(histogram).encode().decode()
        most_ms = histogram.most_us / 1000
        lines.append(f"{interval.index * length_s:.3f},{length_s:.3f},{most_ms:.3f},{encoded}")
    return "\n".join(lines) + "\n"


def hgrm(measurement: Measurement) -> str:
    """HdrHistogram's percentile distribution of the durations, in milliseconds.

    The library has the table's steps. The lines below it are ours: its standard deviation would be
    in another unit than its mean, and neither would be exact.
    """
    histogram = Histogram.of(measurement.tally.durations)
    hdr = _hdr(histogram)
    lines = [f"{'Value':>12} {'Percentile':>14} {'TotalCount':>10} {'1/(1-Percentile)':>14}", ""]
    for step in hdr.get_percentile_iterator(_TICKS_PER_HALF) if histogram.count else ():
        share = step.percentile_level_iterated_to / 100
        row = f"{step.value_iterated_to / 1000:12.3f} {share:2.12f} "
        row += f"{step.total_count_to_this_value:10d}"
        lines.append(row if share >= 1 else f"{row} {1 / (1 - share):14.2f}")
    mean_ms, deviation_ms = histogram.mean_us / 1000, histogram.deviation_us / 1000
    lines += [
        f"#[Mean    = {mean_ms:12.3f}, StdDeviation   = {deviation_ms:12.3f}]",
        f"#[Max     = {histogram.most_us / 1000:12.3f}, Total count    = {histogram.count:12d}]",
        f"#[Buckets = {hdr.bucket_count:12d}, SubBuckets     = {hdr.sub_bucket_count:12d}]",
    ]
    return "\n".join(lines) + "\n"


def _hdr(histogram: Histogram) -> HdrHistogram:
    from hdrh.histogram import HdrHistogram

    hdr = HdrHistogram(1, LONGEST_US, _DIGITS)
    for slot, count in histogram.ascending():
        hdr.record_value(slot_range(slot)[0], count)
    return hdr
