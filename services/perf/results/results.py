"""What a finished run is shown as: fortio's form, SMP's form, and a few lines of text.

Meshery's pages read fortio's JSON, with times in seconds. What that form has no place for (holes,
response times, stages, the telemetry's verdict) stands in a block of its own, `meshbus`, which
others skip. Percentiles are those of our histograms; fortio itself would interpolate them in
buckets of a millisecond.
"""

from __future__ import annotations

from collections import Counter
from datetime import timedelta, timezone
from typing import Any

from google.protobuf.json_format import MessageToDict

from proto import smp_pb2
from services.chassis.bus.queries import VERSION
from services.perf.definitions.loads import GeneratorName, Protocol
from services.perf.measurements.histograms import Histogram, HistogramMessage
from services.perf.measurements.measurements import Measurement, StageResult, TargetResult
from services.perf.measurements.tallies import TallyMessage
from services.perf.results.buckets import fortio_histogram, resolution_of

SMP_VERSION = "v0.6.1"

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
_MOST_TOLD = 5


# --- fortio --------------------------------------------------------------------------------------


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
        "run": measurement.run,
        "name": measurement.name,
        "mesh": measurement.mesh,
        "service": measurement.service,
        "cluster": measurement.cluster,
        "fingerprint": measurement.fingerprint,
        "labels": measurement.labels,
        "workers": measurement.workers,
        "complete": measurement.is_complete,
        "missing": [
            {
                "shard": hole.shard,
                "worker": hole.worker,
                "sinceS": hole.since_s,
                "reason": hole.reason,
            }
            for hole in measurement.missing
        ],
        "rerun": measurement.rerun,
        "warnings": measurement.warnings,
        "responseTimes": _times_ms(measurement.tally.responses),
        "stages": [_stage(stage) for stage in measurement.stages],
        "targets": [_target(target) for target in measurement.targets],
        "saturationRate": measurement.saturation_rate,
        "correlation": measurement.correlation,
    }


def _stage(stage: StageResult) -> dict[str, Any]:
    return {
        "rate": stage.rate,
        "actualRate": stage.actual_rate,
        "durationS": stage.duration_s,
        **_counted(stage.tally),
        "holds": stage.holds,
        "reason": stage.reason,
    }


def _target(target: TargetResult) -> dict[str, Any]:
    return {"url": target.url, "weight": target.weight, **_counted(target.tally)}


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


# --- SMP -----------------------------------------------------------------------------------------


def smp_result(measurement: Measurement, *, details_uri: str) -> dict[str, Any]:
    """The run as SMP's PerformanceTestResult: proto3 JSON with the names of the .proto file."""
    times = _times_ms(measurement.tally.durations)
    labels = dict(measurement.labels)
    if not measurement.is_complete:
        labels["meshbus.complete"] = "false"  # SMP has no place for holes in a result
    result = smp_pb2.PerformanceTestResult(
        smp_version=SMP_VERSION,
        id=measurement.run,
        labels=labels,
        latencies_ms=smp_pb2.PerformanceTestResult.Latency(
            min=times["minMs"],
            average=times["meanMs"],
            p50=times["p50Ms"],
            p90=times["p90Ms"],
            p99=times["p99Ms"],
            max=times["maxMs"],
        ),
        actual_qps=measurement.actual_rate,
        details_uri=details_uri,
        test_id=measurement.name or measurement.run,
        mesh_config_id=measurement.fingerprint,
        env_id=measurement.cluster,
    )
    result.start_time.FromDatetime(measurement.started)
    result.end_time.FromDatetime(measurement.started + timedelta(seconds=measurement.duration_s))
    document: dict[str, Any] = MessageToDict(
        result, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    return document


# --- for people ----------------------------------------------------------------------------------


def summary(measurement: Measurement) -> str:
    """A few plain lines; the first one has the figures."""
    lines = [_figures(measurement)]
    codes = measurement.tally.codes
    if codes:
        told = [
            f"{count} without an answer" if code == "-1" else f"{count} with {code}"
            for code, count in Counter(codes).most_common(_MOST_TOLD)
        ]
        told += [f"{len(codes) - _MOST_TOLD} more codes"] if len(codes) > _MOST_TOLD else []
        lines.append(f"Answers: {', '.join(told)}")
    if measurement.saturation_rate is not None:
        rate = measurement.saturation_rate
        found = f"{told_number(rate)}/s is the highest rate that held" if rate else "No rate held"
        lines.append(f"{found} the objective")
    if measurement.missing:
        told = [f"{hole.shard} (worker {hole.worker})" for hole in measurement.missing[:_MOST_TOLD]]
        more = len(measurement.missing) - _MOST_TOLD
        told += [f"{more} more"] if more > 0 else []
        lines.append(f"Not counted, because their workers were lost: shards {', '.join(told)}")
    return "\n".join(lines)


def _figures(measurement: Measurement) -> str:
    durations = Histogram.of(measurement.tally.durations)
    if not durations.count:
        return f"No request in {told_number(measurement.duration_s)} s"
    rate = measurement.requested_rate
    asked = f"{told_number(rate)}/s asked" if rate > 0 else "as fast as possible"
    failed = measurement.tally.failed
    p50, p90, p99 = (told_ms(durations.percentile_us(p) / 1000) for p in (50, 90, 99))
    return (
        f"{durations.count} requests at {measurement.actual_rate:.1f}/s ({asked}), "
        f"p50 {p50}, p90 {p90}, p99 {p99} ms, {failed} failed ({failed / durations.count:.2%})"
    )


def told_ms(ms: float) -> str:
    """Three digits, and never an exponent."""
    return f"{ms:.0f}" if ms >= 100 else f"{ms:.3g}"


def told_number(value: float) -> str:
    """Two decimals at most, and never an exponent."""
    return f"{round(value, 2):.12g}"
