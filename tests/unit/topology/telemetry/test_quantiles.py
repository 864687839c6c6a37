"""Quantiles of thinned out histograms are those of the whole ones."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.topology.telemetry.quantiles import bounds_of, quantiles

FINITE = (5.0, 10.0, 25.0, 50.0, 100.0)
BOUNDS = bounds_of(["5", "10", "25", "50", "100", "+Inf"])


def thinned(counts: Sequence[int]) -> dict[str, float]:
    """What Prometheus gives of a histogram with so many values in each bucket, the last unbounded;
    values lie in the middle of their buckets."""
    edges = (0.0, *FINITE, 200.0)
    total = sum(counts)
    values = {"count": float(total)}
    values["sum"] = sum(n * (edges[i] + edges[i + 1]) / 2 for i, n in enumerate(counts))
    upto = 0
    for bound, n in zip(FINITE, counts, strict=False):
        upto += n
        if 0 < upto < total:
            values[f"{bound:g}"] = float(upto)
    return values


def whole(counts: Sequence[int], share: float) -> float:
    """`histogram_quantile` of the whole histogram."""
    wanted = share * sum(counts)
    low, below = 0.0, 0
    for bound, n in zip((*FINITE, math.inf), counts, strict=True):
        if n and below + n >= wanted:
            return low if math.isinf(bound) else low + (bound - low) * (wanted - below) / n
        low, below = bound, below + n
    return low


@given(st.lists(st.integers(0, 50), min_size=6, max_size=6).filter(lambda counts: sum(counts) > 0))
def test_quantiles_are_those_of_the_whole_histogram(counts: list[int]) -> None:
    found = quantiles(thinned(counts), BOUNDS)
    expected = {name: whole(counts, s) for name, s in (("50", 0.5), ("95", 0.95), ("99", 0.99))}
    assert {name: found[name] for name in expected} == pytest.approx(expected)


def test_no_requests_have_no_quantiles() -> None:
    assert quantiles({}, BOUNDS) == {}
    assert quantiles({"count": 0.0, "sum": 0.0}, BOUNDS) == {}


def test_all_in_one_bucket_lie_where_their_mean_is() -> None:
    assert quantiles({"count": 4.0, "sum": 120.0}, BOUNDS) == {
        "avg": 30,
        "50": 37.5,
        "95": 48.75,
        "99": 49.75,
    }


def test_a_mean_at_a_bound_is_of_the_bucket_below() -> None:
    assert quantiles({"count": 2.0, "sum": 50.0}, BOUNDS)["50"] == 17.5


def test_beyond_all_bounds_is_the_last_one() -> None:
    assert quantiles({"count": 1.0, "sum": 9000.0}, BOUNDS)["50"] == 100


def test_instant_answers_are_in_the_first_bucket() -> None:
    assert quantiles({"count": 1.0, "sum": 0.0}, BOUNDS)["50"] == 2.5


def test_buckets_that_decrease_by_rounding_do_no_harm() -> None:
    found = quantiles({"10": 2.0000001, "25": 2.0, "count": 4.0, "sum": 80.0}, BOUNDS)
    assert found["50"] == pytest.approx(10, abs=0.001)
    assert 25 <= found["95"] <= 50


def test_full_and_empty_buckets_may_come_too() -> None:
    values = {"5": 0.0, "10": 0.0, "25": 4.0, "50": 4.0, "count": 4.0, "sum": 70.0}
    assert quantiles(values, BOUNDS)["50"] == 17.5


def test_istios_bounds_are_taken_when_prometheus_tells_none() -> None:
    assert bounds_of([], seen=["7"]).before(1_000) == 500
    assert bounds_of([], seen=["7"]).before(10) == 7
    assert bounds_of(["7"]).before(1_000) == 7
