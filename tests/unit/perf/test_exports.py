"""Exports, read back by the library whose formats they are."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from hdrh.histogram import HdrHistogram
from hdrh.log import HistogramLogReader

from services.perf.measurements.histograms import LONGEST_US, slot_range
from services.perf.measurements.measurements import Measurement
from services.perf.measurements.tallies import Tally
from services.perf.results.exports import hdr_log, hgrm
from tests.unit.perf.sample_runs import STARTED, UNUSUAL, measurement, searched, tally

unusual = pytest.mark.parametrize("name", UNUSUAL)


def read_back(text: str, folder: Path) -> list[HdrHistogram]:
    """All intervals of a log, by the library's reader."""
    path = folder / "run.hlog"
    path.write_text(text)
    reader = HistogramLogReader(str(path), HdrHistogram(1, LONGEST_US, 3))
    found = []
    while (interval := reader.get_next_interval_histogram()) is not None:
        found.append(interval)
    assert reader.get_start_time_sec() == pytest.approx(STARTED.timestamp(), abs=0.001)
    reader.close()
    return found


def counts_of(histogram: HdrHistogram) -> dict[int, int]:
    counts = [histogram.get_count_at_index(index) for index in range(histogram.counts_len)]
    return {index: count for index, count in enumerate(counts) if count}


def rows_of(text: str) -> list[list[float]]:
    """The table's rows as numbers."""
    return [[float(word) for word in line.split()] for line in text.splitlines()[2:-3]]


# --- the log -------------------------------------------------------------------------------------


def test_a_log_brings_back_the_counts_of_each_interval(tmp_path: Path) -> None:
    counted = tally(seconds=30, rate=200)
    found = read_back(hdr_log(measurement(counted)), tmp_path)
    assert len(found) == 30
    whole = HdrHistogram(1, LONGEST_US, 3)
    for index, histogram in enumerate(found):
        assert counts_of(histogram) == counted.intervals[index].durations.counts
        began_ms = STARTED.timestamp() * 1000 + index * 1000
        assert histogram.get_start_time_stamp() == pytest.approx(began_ms, abs=1)
        assert histogram.get_end_time_stamp() == pytest.approx(began_ms + 1000, abs=1)
        whole.add(histogram)
    assert counts_of(whole) == counted.durations.counts


def test_a_log_keeps_the_extremes_of_what_can_be_measured(tmp_path: Path) -> None:
    counted = Tally()
    for duration_us in (0, 1, 2047, 2048, LONGEST_US):
        counted.request(at_s=0, duration_us=duration_us, late_us=0, code="200", is_ok=True)
    (found,) = read_back(hdr_log(measurement(counted)), tmp_path)
    assert counts_of(found) == counted.durations.counts


def test_a_log_has_the_marks_of_its_format() -> None:
    head, *rest = hdr_log(measurement()).splitlines()
    assert head == "#[Histogram log format version 1.3]"
    assert rest[0] == (
        "#[StartTime: 1788264000.250 (seconds since epoch), 2026-09-01T12:00:00.250000+00:00]"
    )
    lines = [line for line in rest if re.match(r"\d", line)]
    assert len(lines) == 5
    assert re.fullmatch(r"2\.000,1\.000,\d+\.\d{3},HISTFAAAA[A-Za-z0-9+/=]+", lines[2])


def test_a_log_of_a_search_has_its_steps_end_to_end(tmp_path: Path) -> None:
    steps = [tally(seconds=2, seed=seed) for seed in range(3)]
    found = read_back(hdr_log(searched(steps)), tmp_path)
    assert [counts_of(each) for each in found] == [
        interval.durations.counts
        for step in steps
        for _, interval in sorted(step.intervals.items())
    ]
    assert len(found) == 6


@unusual
def test_any_measurement_has_a_log_that_can_be_read(name: str, tmp_path: Path) -> None:
    measured = UNUSUAL[name]
    found = read_back(hdr_log(measured), tmp_path)
    assert [each.get_total_count() for each in found] == [
        sum(interval.durations.counts) for interval in measured.tally.intervals
    ]


# --- the table -----------------------------------------------------------------------------------


def by_the_library(measured: Measurement) -> str:
    histogram = HdrHistogram(1, LONGEST_US, 3)
    durations = measured.tally.durations
    for slot, count in zip(durations.slots, durations.counts, strict=True):
        histogram.record_value(slot_range(slot)[0], count)
    output = io.BytesIO()
    histogram.output_percentile_distribution(output, 1000.0)
    return output.getvalue().decode()


def test_a_table_has_the_librarys_rows() -> None:
    measured = measurement(tally(seconds=20))
    assert rows_of(hgrm(measured)) == rows_of(by_the_library(measured))
    assert hgrm(measured).splitlines()[:-3] == by_the_library(measured).splitlines()[:-3]


def test_a_tables_end_is_in_the_unit_of_its_rows_and_exact() -> None:
    counted = Tally()
    for duration_us in (1_000, 3_000):
        counted.request(at_s=0, duration_us=duration_us, late_us=0, code="200", is_ok=True)
    mean, largest, shape = hgrm(measurement(counted)).splitlines()[-3:]
    assert mean.split() == ["#[Mean", "=", "2.000,", "StdDeviation", "=", "1.000]"]
    assert largest.split() == ["#[Max", "=", "3.000,", "Total", "count", "=", "2]"]
    assert shape.split() == ["#[Buckets", "=", "22,", "SubBuckets", "=", "2048]"]


@unusual
def test_any_measurement_has_a_table_that_counts_every_request(name: str) -> None:
    rows = rows_of(hgrm(UNUSUAL[name]))
    count = sum(UNUSUAL[name].tally.durations.counts)
    assert (rows[-1][2] if rows else 0) == count
    assert [row[0] for row in rows] == sorted(row[0] for row in rows)
