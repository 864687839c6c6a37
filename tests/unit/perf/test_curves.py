"""A run as a reader draws it: small, finite, and the same figures as everywhere else."""

from __future__ import annotations

import math
from typing import Any

import orjson
import pytest

from services.perf.measurements.histograms import Histogram
from services.perf.results.curves import PERCENTILES, curves
from services.perf.results.series import rates
from tests.unit.perf.sample_runs import UNUSUAL, measurement, searched, tally


@pytest.mark.parametrize("name", UNUSUAL)
def test_unusual_runs_have_curves_of_finite_numbers(name: str) -> None:
    found = curves(UNUSUAL[name])
    # JSON has no NaN: orjson would write null for it, and hide that.
    _finite(found)
    assert orjson.loads(orjson.dumps(found))["run"] == UNUSUAL[name].run


def _finite(value: Any) -> None:
    match value:
        case float():
            assert math.isfinite(value)
        case dict():
            for one in value.values():
                _finite(one)
        case list() | tuple():
            for one in value:
                _finite(one)


def test_the_figures_are_those_of_all_requests() -> None:
    run = measurement()
    found = curves(run)
    durations = Histogram.of(run.tally.durations)
    assert found["figures"]["requests"] == run.tally.requests
    assert found["figures"]["p99_ms"] == durations.percentile_us(99) / 1000
    assert found["codes"] == [["200", 475], ["503", 25]]
    line = dict(found["durations"])
    assert [*line] == [*PERCENTILES]
    assert line[0] == durations.least_us / 1000
    assert line[100] == durations.most_us / 1000
    assert sorted(line.values()) == [*line.values()]
    assert found["rates"] == [(at, rate) for at, rate in rates(run)]


def test_a_second_without_a_request_is_a_gap() -> None:
    counted = tally(seconds=3)
    del counted.intervals[1]
    found = curves(measurement(counted, duration_s=3.0))
    assert found["latencies"]["p50"][1] == (1.5, None)
    assert found["rates"][1] == (1.5, 0)


def test_a_long_run_stays_small() -> None:
    run = measurement(tally(seconds=600, rate=20), duration_s=600.0)
    assert len(orjson.dumps(curves(run))) < 100_000
    assert len(run.model_dump_json()) > 4 * len(orjson.dumps(curves(run)))


def test_steps_of_a_search_have_figures_of_their_own() -> None:
    found = curves(searched([tally(seconds=2, rate=50), tally(seconds=2, rate=100)]))
    assert [stage["figures"]["requests"] for stage in found["stages"]] == [100, 200]
