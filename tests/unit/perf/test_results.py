"""Results in fortio's form, in SMP's form, and in words.

tests/real/perf/test_forms.py holds fortio's own results against ours.
"""

from __future__ import annotations

import itertools
import math
from datetime import timedelta, timezone
from typing import Any

import orjson
import pytest
from google.protobuf.json_format import ParseDict
from hypothesis import given
from hypothesis import strategies as st

from proto import smp_pb2
from services.perf.definitions.loads import GeneratorName, Protocol
from services.perf.measurements.histograms import LONGEST_US, Histogram
from services.perf.measurements.measurements import MissingShard, StageResult
from services.perf.measurements.tallies import Tally
from services.perf.results.fortio import fortio_histogram, fortio_result, resolution_of
from services.perf.results.smp import smp_result
from services.perf.results.summaries import format_ms, format_number, summary
from tests.unit.perf.sample_runs import STARTED, UNUSUAL, measurement, tally

# fortio's default bounds in milliseconds, as its sources and its results have them.
FORTIO_MS = [*range(12), 12, 14, 16, 18, 20, 25, 30, 35, 40, 45, 50, 60, 70, 80, 90, 100, 120, 140]
FORTIO_MS += [160, 180, 200, 250, 300, 350, 400, 450, 500, 600, 700, 800, 900, 1000, 2000, 3000]
FORTIO_MS += [4000, 5000, 7500, 10000, 20000, 30000, 40000, 50000, 75000, 100000]
LOST = [MissingShard(shard=n, worker=f"w-{n}", since_s=3.5, reason="gone") for n in range(1, 8)]

unusual = pytest.mark.parametrize("name", UNUSUAL)


def recorded(values: list[int]) -> Histogram:
    histogram = Histogram()
    for value in values:
        histogram.record(value)
    return histogram


def answered(duration_us: int, times: int = 1) -> Tally:
    counted = Tally()
    for _ in range(times):
        counted.request(at_s=0, duration_us=duration_us, late_us=0, code="200", is_ok=True)
    return counted


# --- fortio's buckets ----------------------------------------------------------------------------


@given(
    st.lists(st.one_of(st.integers(0, LONGEST_US), st.integers(0, 300_000)), max_size=80),
    st.sampled_from((100, 1000)),
)
def test_buckets_hold_exactly_the_values_that_they_say(values: list[int], unit_us: int) -> None:
    form = fortio_histogram(recorded(values), resolution_us=unit_us, percentiles=[50])
    buckets = form["Data"]
    bounds = [(round(b["Start"] * 1e6), round(b["End"] * 1e6)) for b in buckets]
    for bucket, (start, end) in zip(buckets, bounds, strict=True):
        is_last = bucket is buckets[-1]
        inside = [v for v in values if start <= v and (v <= end if is_last else v < end)]
        assert bucket["Count"] == len(inside) > 0
    assert sum(bucket["Count"] for bucket in buckets) == form["Count"] == len(values)
    assert all(before[1] <= after[0] for before, after in itertools.pairwise(bounds))
    if values:
        assert (bounds[0][0], bounds[-1][1]) == (min(values), max(values))
        assert buckets[-1]["Percent"] == 100


def test_bounds_are_fortios_but_for_the_width_of_a_slot() -> None:
    # One request in each of fortio's buckets, and one beyond the last one.
    middles = [(a + b) * 500 for a, b in itertools.pairwise(FORTIO_MS)]
    form = fortio_histogram(recorded([*middles, 200_000_000]), resolution_us=1000, percentiles=[])
    inner = [bucket["Start"] * 1000 for bucket in form["Data"][1:]]
    assert inner == pytest.approx(FORTIO_MS[1:], rel=0.0005)
    assert inner[:5] == [1, 2, 3, 4, 5]
    assert [bucket["Count"] for bucket in form["Data"]] == [1] * len(FORTIO_MS)


@pytest.mark.parametrize(
    ("values", "resolution_us"), [([], 1000), ([999, 999, 5000], 100), ([999, 1000, 1000], 1000)]
)
def test_fast_targets_get_finer_buckets(values: list[int], resolution_us: int) -> None:
    assert resolution_of(recorded(values)) == resolution_us


def test_a_fast_targets_buckets_are_tenths_of_a_millisecond() -> None:
    form = fortio_result(measurement(answered(250)))
    assert form["Resolution"] == 0.0001
    assert form["DurationHistogram"]["Data"] == [
        {"Start": 0.00025, "End": 0.00025, "Percent": 100.0, "Count": 1}
    ]


# --- fortio --------------------------------------------------------------------------------------


def test_a_result_has_what_pages_read() -> None:
    form = fortio_result(measurement())
    assert form["RunType"] == "HTTP"
    assert form["Labels"] == "checkout -_- http://checkout.shop:8080/cart"
    assert form["URL"] == "http://checkout.shop:8080/cart"
    assert form["StartTime"] == "2026-09-01T12:00:00.250000Z"
    assert (form["RequestedQPS"], form["RequestedDuration"]) == ("100", "5s")
    assert (form["ActualQPS"], form["ActualDuration"]) == (100.0, 5_000_000_000)
    assert (form["NumThreads"], form["SocketCount"]) == (8, 4)
    assert (form["BytesReceived"], form["BytesSent"]) == (12_345, 678)
    assert (form["RetCodes"], form["load-generator"]) == ({"200": 475, "503": 25}, "fortio")
    assert form["ErrorsDurationHistogram"]["Count"] == 25


def test_the_histogram_is_in_seconds() -> None:
    form = fortio_result(measurement(answered(2_500_000, times=4)))["DurationHistogram"]
    assert {name: form[name] for name in ("Count", "Min", "Max", "Sum", "Avg", "StdDev")} == {
        "Count": 4,
        "Min": 2.5,
        "Max": 2.5,
        "Sum": 10.0,
        "Avg": 2.5,
        "StdDev": 0.0,
    }
    assert [each["Value"] for each in form["Percentiles"]] == [2.5] * 5


@pytest.mark.parametrize(
    ("generator", "percentiles"),
    [
        (GeneratorName.FORTIO, [50, 75, 90, 99, 99.9]),
        (GeneratorName.WRK2, [50, 75, 90, 99, 99.99, 99.999]),
    ],
)
def test_each_generator_has_the_percentiles_that_meshery_asks_it_for(
    generator: GeneratorName, percentiles: list[float]
) -> None:
    counted = tally()
    form = fortio_result(measurement(counted, generator=generator))
    told = form["DurationHistogram"]["Percentiles"]
    assert [each["Percentile"] for each in told] == percentiles
    for each in told:
        expected_us = counted.durations.percentile_us(each["Percentile"])
        assert each["Value"] == pytest.approx(expected_us / 1e6)


@pytest.mark.parametrize(
    ("protocol", "run_type"),
    [
        (Protocol.HTTP1, "HTTP"),
        (Protocol.HTTP2, "HTTP"),
        (Protocol.GRPC, "GRPC Health for ''"),
        (Protocol.TCP, "TCP"),
    ],
)
def test_the_run_type_is_fortios(protocol: Protocol, run_type: str) -> None:
    assert fortio_result(measurement(protocol=protocol))["RunType"] == run_type


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(0, "0s"), (0.5, "0.5s"), (59.9999, "1m0s"), (90, "1m30s"), (3600, "1h0m0s"), (5.25, "5.25s")],
)
def test_durations_are_written_as_go_writes_them(seconds: float, told: str) -> None:
    form = fortio_result(measurement(requested_duration_s=seconds))
    assert form["RequestedDuration"] == told


@pytest.mark.parametrize(
    ("rate", "told"), [(0.0, "max"), (100.0, "100"), (0.5, "0.5"), (1_000_000.0, "1000000")]
)
def test_a_rate_of_zero_is_the_greatest(rate: float, told: str) -> None:
    assert fortio_result(measurement(requested_rate=rate))["RequestedQPS"] == told


def test_times_of_another_zone_are_told_in_utc() -> None:
    east = STARTED.astimezone(timezone(timedelta(hours=3)))
    assert fortio_result(measurement(started=east))["StartTime"] == "2026-09-01T12:00:00.250000Z"


def test_our_block_has_what_fortio_has_no_place_for() -> None:
    counted = tally()
    held = StageResult(
        rate=50, duration_s=5, actual_rate=49.5, tally=counted.message(), holds=True, reason=""
    )
    own = fortio_result(
        measurement(
            counted,
            missing=LOST[:1],
            rerun=[2],
            warnings=["slow"],
            stages=[held],
            saturation_rate=340.0,
            correlation={"place": "client"},
        )
    )["meshbus"]
    assert (own["run"], own["workers"], own["complete"], own["rerun"]) == ("run-1", 2, False, [2])
    assert own["missing"] == [{"shard": 1, "worker": "w-1", "sinceS": 3.5, "reason": "gone"}]
    assert (own["warnings"], own["saturationRate"]) == (["slow"], 340.0)
    assert own["correlation"] == {"place": "client"}
    assert own["responseTimes"]["p99Ms"] == counted.responses.percentile_us(99) / 1000
    stage, target = own["stages"][0], own["targets"][0]
    assert (stage["rate"], stage["actualRate"], stage["holds"]) == (50, 49.5, True)
    assert (stage["requests"], stage["failed"]) == (target["requests"], target["failed"])
    assert target["durations"]["p50Ms"] == counted.durations.percentile_us(50) / 1000
    assert target["url"] == "http://checkout.shop:8080/cart"


@unusual
def test_any_measurement_has_a_result_that_is_json(name: str) -> None:
    form = fortio_result(UNUSUAL[name])
    # orjson writes NaN as null; nothing here may be one.
    assert orjson.loads(orjson.dumps(form)) == _finite(form)
    histogram = form["DurationHistogram"]
    assert isinstance(histogram["Data"], list)
    assert isinstance(histogram["Percentiles"], list)
    assert sum(bucket["Count"] for bucket in histogram["Data"]) == histogram["Count"]


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_finite(each) for each in value]
    assert not isinstance(value, float) or math.isfinite(value)
    return value


# --- SMP -----------------------------------------------------------------------------------------


def test_an_smp_result_has_its_latencies_in_milliseconds() -> None:
    counted = answered(2_500, times=3)
    form = smp_result(measurement(counted), details_uri="nats://perf/results/run-1.json")
    assert form["latencies_ms"] == dict.fromkeys(
        ("min", "average", "p50", "p90", "p99", "max"), 2.5
    )
    assert (form["start_time"], form["end_time"]) == (
        "2026-09-01T12:00:00.250Z",
        "2026-09-01T12:00:05.250Z",
    )
    assert form["actual_qps"] == pytest.approx(0.6)
    assert form["details_uri"] == "nats://perf/results/run-1.json"
    assert (form["id"], form["test_id"]) == ("run-1", "checkout")
    assert (form["mesh_config_id"], form["env_id"]) == ("f1b2", "kind-a")
    assert form["labels"] == {"team": "shop"}


def test_an_smp_result_says_that_it_is_not_whole() -> None:
    form = smp_result(measurement(missing=LOST[:1]), details_uri="")
    assert form["labels"] == {"team": "shop", "meshbus.complete": "false"}


@unusual
def test_any_measurement_has_an_smp_result_that_reads_as_one(name: str) -> None:
    form = smp_result(UNUSUAL[name], details_uri="x")
    read = ParseDict(orjson.loads(orjson.dumps(form)), smp_pb2.PerformanceTestResult())
    assert read.id == UNUSUAL[name].run
    assert set(form) == {field.name for field in smp_pb2.PerformanceTestResult.DESCRIPTOR.fields}, (
        "zeros are told, too"
    )


# --- in words ------------------------------------------------------------------------------------


def test_a_summary_tells_figures_and_answers() -> None:
    counted = Tally()
    for number in range(100):
        counted.request(
            at_s=0,
            duration_us=1_500 if number < 95 else 1_230_000,
            late_us=0,
            code="200" if number < 99 else "-1",
            is_ok=number < 99,
        )
    told = summary(measurement(counted, duration_s=2.0, requested_rate=60.0))
    assert told.splitlines() == [
        "100 requests at 50.0/s (60/s asked), p50 1.5, p90 1.5, p99 1230 ms, 1 failed (1.00%)",
        "Answers: 99 with 200, 1 without an answer",
    ]


def test_a_summary_tells_of_full_speed_holes_and_searches() -> None:
    told = summary(measurement(requested_rate=0.0, missing=LOST, saturation_rate=340.0))
    figures, _, search, holes = told.splitlines()
    assert "100.0/s (as fast as possible)" in figures
    assert search == "340/s is the highest rate that held the objective"
    assert "shards 1 (worker w-1), 2 (worker w-2)" in holes
    assert holes.endswith(", 2 more")
    assert "No rate held the objective" in summary(measurement(saturation_rate=0.0))


@unusual
def test_any_measurement_has_a_short_summary_without_an_alarming_word(name: str) -> None:
    told = summary(UNUSUAL[name])
    assert 1 <= len(told.splitlines()) <= 4
    # Meshery's command line takes details with this word for a failure.
    assert "error" not in told.lower()


def test_a_summary_of_nothing_says_so() -> None:
    assert summary(UNUSUAL["no request"]) == "No request in 5 s"


@pytest.mark.parametrize(
    ("value", "told"), [(0.001, "0.001"), (1.2345, "1.23"), (99.97, "100"), (1234.5, "1234")]
)
def test_milliseconds_have_three_digits_and_no_exponent(value: float, told: str) -> None:
    assert format_ms(value) == told


def test_numbers_have_no_exponent() -> None:
    assert [format_number(n) for n in (1_000_000.0, 133.3333, 5.0)] == ["1000000", "133.33", "5"]
