"""Measurements: what is derived from them, and their intervals in the order of time."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.perf.measurements.measurements import (
    Measurement,
    MissingShard,
    interval_of,
)
from services.perf.measurements.tallies import Tally, merged
from tests.unit.perf.sample_runs import UNUSUAL, measurement, searched, tally


@pytest.mark.parametrize(
    ("duration_s", "interval_s"),
    [(0, 1), (0.5, 1), (600, 1), (600.1, 2), (1200, 2), (86_400, 144)],
)
def test_intervals_are_a_second_and_longer_where_they_would_be_too_many(
    duration_s: float, interval_s: float
) -> None:
    assert interval_of(duration_s) == interval_s


@given(st.floats(0, 10 * 86_400))
def test_there_are_never_more_than_600_intervals(duration_s: float) -> None:
    assert math.ceil(duration_s / interval_of(duration_s)) <= 600


@pytest.mark.parametrize("number", [1, 3, 40])
def test_merged_tallies_are_one_tally(number: int) -> None:
    """Whether they are added one after the other or as arrays."""
    parts = [tally(seed=seed) for seed in range(number)]
    whole = Tally()
    for part in parts:
        whole.merge(part)
    assert merged((part.message() for part in parts), interval_s=1.0) == whole
    assert merged([], interval_s=5.0) == Tally(interval_s=5.0)


def test_the_rate_is_that_of_the_time_it_took() -> None:
    assert measurement(duration_s=4.0).actual_rate == 125.0
    assert measurement(duration_s=0.0).actual_rate == 0.0


def test_a_missing_shard_makes_a_result_incomplete() -> None:
    hole = MissingShard(shard=1, worker="w", since_s=1, reason="lost")
    assert measurement().is_complete
    assert not measurement(missing=[hole]).is_complete


@pytest.mark.parametrize("name", [*UNUSUAL, "usual"])
def test_a_kept_measurement_is_read_back_as_it_was(name: str) -> None:
    kept = UNUSUAL.get(name) or measurement()
    assert Measurement.model_validate_json(kept.model_dump_json()) == kept


# --- in the order of time ------------------------------------------------------------------------


def at(*seconds: float, duration_us: int = 10) -> Tally:
    total = Tally()
    for at_s in seconds:
        total.request(at_s=at_s, duration_us=duration_us, late_us=0, code="200", is_ok=True)
    return total


def indexes(measured: Measurement) -> list[int]:
    return [interval.index for interval in measured.tally.intervals]


def test_intervals_are_in_the_order_of_time() -> None:
    assert indexes(measurement(at(4, 0, 2))) == [0, 2, 4]
    assert indexes(measurement(Tally())) == []


def test_the_steps_of_a_search_follow_each_other() -> None:
    steps = [at(0, 1, duration_us=10), at(0, 1, duration_us=20), Tally(), at(0, duration_us=30)]
    search = searched(steps)
    assert indexes(search) == [0, 1, 2, 3, 4]
    told = [interval.durations.total_us for interval in search.tally.intervals]
    assert told == [10, 10, 20, 20, 30]
    assert [[i.index for i in stage.tally.intervals] for stage in search.stages] == [
        [0, 1],
        [2, 3],
        [],
        [4],
    ]
