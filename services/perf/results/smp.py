"""Writes a run in SMP's form: proto3 JSON of a `PerformanceTestResult`."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from google.protobuf.json_format import MessageToDict

from proto import smp_pb2
from services.perf.measurements.histograms import Histogram
from services.perf.measurements.measurements import Measurement

SMP_VERSION = "v0.6.1"


def smp_result(measurement: Measurement, *, details_uri: str) -> dict[str, Any]:
    """The result with the names of the .proto file."""
    durations = Histogram.of(measurement.tally.durations)
    p50, p90, p99 = (durations.percentile_us(percentile) / 1000 for percentile in (50, 90, 99))
    labels = dict(measurement.labels)
    if not measurement.is_complete:
        labels["meshbus.complete"] = "false"  # SMP has no place for holes in a result
    result = smp_pb2.PerformanceTestResult(
        smp_version=SMP_VERSION,
        id=measurement.run,
        labels=labels,
        latencies_ms=smp_pb2.PerformanceTestResult.Latency(
            min=durations.least_us / 1000,
            average=round(durations.mean_us / 1000, 6),
            p50=p50,
            p90=p90,
            p99=p99,
            max=durations.most_us / 1000,
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
