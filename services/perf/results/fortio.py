"""Writes a run in fortio's form, which Meshery's pages read: JSON with times in seconds.

What that form has no place for (holes, response times, stages, the telemetry's verdict) stands in a
block of its own, `meshbus`, which others skip. Percentiles are those of our histograms; fortio
itself would interpolate them in buckets of a millisecond.

fortio's bounds of buckets seldom lie between two of our slots. They are moved to the nearest border
of slots, so that no slot is torn apart: the counts stay exact, and what a bucket says of its bounds
is true.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from datetime import timezone
from typing import Any

from services.chassis.messages.models import VERSION
from services.perf.definitions.loads import GeneratorName, Protocol
from services.perf.measurements.histograms import Histogram, HistogramMessage, slot_of, slot_range
from services.perf.measurements.measurements import Measurement
from services.perf.measurements.tallies import TallyMessage

# As fortio 1.66 names what our command lines ask of it.
_RUN_TYPES = {
    Protocol.HTTP1: "HTTP",
    Protocol.HTTP2: "HTTP",
    Protocol.GRPC: "GRPC Health for ''",
    Protocol.TCP: "TCP",
}
_PERCENTILES = {
    GeneratorName.FORTIO: (50, 75, 90, 99, 99.9),
    GeneratorName.WRK2: (50, 75, 90, 99, 99.99, 99.999),
}
_OWN_FIELDS = {
    "run",
    "name",
    "mesh",
    "service",
    "cluster",
    "fingerprint",
    "labels",
    "workers",
    "missing",
    "rerun",
    "warnings",
    "saturation_rate",
    "correlation",
}
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


def fortio_result(measurement: Measurement) -> dict[str, Any]:
    """The run as fortio's HTTPRunnerResults, in seconds; lists are never null, unlike fortio's."""
    tally = measurement.tally
    durations = Histogram.of(tally.durations)
    resolution_us = resolution_of(durations)
    percentiles = _PERCENTILES[measurement.generator]
    url = measurement.targets[0].url if measurement.targets else ""
    rate = measurement.requested_rate
    return {
        "RunType": _RUN_TYPES[measurement.protocol],
        "Labels": f"{measurement.name or measurement.run} -_- {url}",
        "StartTime": measurement.started.astimezone(timezone.utc)
        .isoformat()
        .replace("+00:00", "Z"),
        "RequestedQPS": f"{rate:.9g}" if rate > 0 else "max",
        "RequestedDuration": _go_duration(measurement.requested_duration_s),
        "ActualQPS": measurement.actual_rate,
        "ActualDuration": round(measurement.duration_s * 1e9),
        "NumThreads": measurement.connections,
        "Version": f"meshbus {VERSION}",
        "DurationHistogram": fortio_histogram(
            durations, resolution_us=resolution_us, percentiles=percentiles
        ),
        "ErrorsDurationHistogram": fortio_histogram(
            Histogram.of(tally.failures), resolution_us=resolution_us, percentiles=percentiles
        ),
        "Exactly": 0,
        "ID": measurement.run,
        "RetCodes": dict(sorted(tally.codes.items())),
        "URL": url,
        "Resolution": resolution_us / 1e6,
        "SocketCount": tally.sockets,
        "BytesReceived": tally.bytes_received,
        "BytesSent": tally.bytes_sent,
        "load-generator": measurement.generator.value,
        "meshbus": _own_block(measurement),
    }


def _go_duration(seconds: float) -> str:
    """As Go writes durations: 1m30s."""
    minutes, rest_ms = divmod(round(seconds * 1000), 60_000)
    hours, minutes = divmod(minutes, 60)
    text = f"{rest_ms / 1000:g}s"
    if hours:
        return f"{hours}h{minutes}m{text}"
    return f"{minutes}m{text}" if minutes else text


# --- our own block -------------------------------------------------------------------------------


def _own_block(measurement: Measurement) -> dict[str, Any]:
    return {
        **measurement.model_dump(mode="json", by_alias=True, include=_OWN_FIELDS),
        "complete": measurement.is_complete,
        "responseTimes": _times_ms(measurement.tally.responses),
        "stages": [
            {
                "rate": stage.rate,
                "actualRate": stage.actual_rate,
                "durationS": stage.duration_s,
                "holds": stage.holds,
                "reason": stage.reason,
                **_counted(stage.tally),
            }
            for stage in measurement.stages
        ],
        "targets": [
            {"url": target.url, "weight": target.weight, **_counted(target.tally)}
            for target in measurement.targets
        ],
    }


def _counted(tally: TallyMessage) -> dict[str, Any]:
    return {
        "requests": tally.requests,
        "failed": tally.failed,
        "codes": dict(sorted(tally.codes.items())),
        "durations": _times_ms(tally.durations),
        "responseTimes": _times_ms(tally.responses),
    }


def _times_ms(message: HistogramMessage) -> dict[str, float]:
    histogram = Histogram.of(message)
    return {
        "minMs": histogram.least_us / 1000,
        "meanMs": round(histogram.mean_us / 1000, 6),
        "p50Ms": histogram.percentile_us(50) / 1000,
        "p75Ms": histogram.percentile_us(75) / 1000,
        "p90Ms": histogram.percentile_us(90) / 1000,
        "p99Ms": histogram.percentile_us(99) / 1000,
        "p999Ms": histogram.percentile_us(99.9) / 1000,
        "maxMs": histogram.most_us / 1000,
    }


# --- histograms ----------------------------------------------------------------------------------


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
