"""Rates out of readings: resets, gaps, windows."""

from __future__ import annotations

import pytest

from services.topology.telemetry.envoy import Growth


def test_one_reading_tells_nothing() -> None:
    assert Growth(0.0, {"a": 5.0}).rates(window_s=60) == {}


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ({"a": 5.0}, {"a": 25.0}, {"a": 2.0}),
        ({"a": 5.0}, {"a": 5.0}, {}),
        ({}, {"a": 10.0}, {"a": 1.0}),
        ({"a": 5.0}, {}, {}),
        pytest.param({"a": 1e9}, {"a": 30.0}, {"a": 3.0}, id="set back"),
        pytest.param({"a": 1e9}, {"a": 0.0}, {}, id="set back to zero"),
    ],
)
def test_two_readings(
    before: dict[str, float], after: dict[str, float], expected: dict[str, float]
) -> None:
    growth = Growth(100.0, before)
    growth.add(after, at_s=110.0)
    assert growth.rates(window_s=60) == expected


def test_rates_are_over_the_window() -> None:
    growth = Growth(0.0, {"a": 0.0})
    for at_s, value in ((15.0, 1500.0), (30.0, 1530.0), (45.0, 1560.0)):
        growth.add({"a": value}, at_s=at_s)
    assert growth.rates(window_s=60) == {"a": pytest.approx(1560 / 45)}
    assert growth.rates(window_s=30) == {"a": pytest.approx(2.0)}


def test_a_step_longer_than_the_window_is_better_than_none() -> None:
    growth = Growth(0.0, {"a": 0.0})
    growth.add({"a": 60.0}, at_s=600.0)
    assert growth.rates(window_s=60) == {"a": 0.1}


def test_a_reading_of_the_same_moment_changes_nothing() -> None:
    growth = Growth(10.0, {"a": 1.0})
    growth.add({"a": 9.0}, at_s=10.0)
    assert growth.rates(window_s=60) == {}
    assert growth.read_s == 10.0
