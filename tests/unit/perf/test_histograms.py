"""Histograms against plain lists of values, and against the HdrHistogram library."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable

import msgpack
import orjson
import pytest
from hdrh.histogram import HdrHistogram
from hypothesis import example, given
from hypothesis import strategies as st

from services.perf.measurements.histograms import (
    LONGEST_US,
    Histogram,
    HistogramMessage,
    slot_of,
    slot_range,
)

# Of all sizes, and often next to the borders at powers of two.
values_us = st.one_of(
    st.integers(0, LONGEST_US),
    st.integers(0, 5_000_000),
    st.integers(0, 4096),
    st.integers(0, 31).flatmap(lambda n: st.integers(max(0, 2**n - 2), min(LONGEST_US, 2**n + 2))),
)
lists_us = st.lists(values_us, max_size=60)


def recorded(values: Iterable[int]) -> Histogram:
    histogram = Histogram()
    for value in values:
        histogram.record(value)
    return histogram


def merged(*histograms: Histogram) -> Histogram:
    total = Histogram()
    for histogram in histograms:
        total.merge(histogram)
    return total


def hdr_of(values: Iterable[int]) -> HdrHistogram:
    histogram = HdrHistogram(1, LONGEST_US, 3)
    for value in values:
        assert histogram.record_value(value)
    return histogram


# --- slots ---------------------------------------------------------------------------------------


@given(values_us)
@example(LONGEST_US)
def test_a_slot_is_the_librarys(value_us: int) -> None:
    assert slot_of(value_us) == HdrHistogram(1, LONGEST_US, 3).get_counts_array_index(value_us)


@given(values_us)
def test_a_slot_holds_its_value_and_is_narrow_and_the_next_one_follows(value_us: int) -> None:
    slot = slot_of(value_us)
    low, high = slot_range(slot)
    assert low <= value_us <= high
    assert high - low + 1 <= max(1, low / 1000)
    assert slot_of(low) == slot_of(high) == slot
    assert slot_range(slot + 1)[0] == high + 1


# --- recording and merging -----------------------------------------------------------------------


@given(lists_us)
def test_counts_are_the_librarys(values: list[int]) -> None:
    ours, theirs = recorded(values), hdr_of(values)
    counts = [theirs.get_count_at_index(index) for index in range(theirs.counts_len)]
    assert dict(ours.ascending()) == {slot: n for slot, n in enumerate(counts) if n}
    assert ours.count == theirs.get_total_count() == len(values)


@given(lists_us, st.integers(1, 5))
def test_recording_at_once_is_recording_one_by_one(values: list[int], times: int) -> None:
    at_once = Histogram()
    for value in values:
        at_once.record(value, times)
    assert at_once == recorded(value for value in values for _ in range(times))


@given(lists_us, lists_us, lists_us)
def test_merging_is_recording_all_in_one_in_whatever_order(
    a: list[int], b: list[int], c: list[int]
) -> None:
    first, second, third = recorded(a), recorded(b), recorded(c)
    whole = recorded([*a, *b, *c])
    assert merged(first, second, third) == whole
    assert merged(third, first, second) == whole
    assert merged(first, merged(second, third)) == whole
    assert (first, second, third) == (recorded(a), recorded(b), recorded(c))


@given(lists_us, lists_us)
def test_merging_a_message_is_merging_the_histogram(a: list[int], b: list[int]) -> None:
    total = recorded(a)
    total.merge_message(recorded(b).message())
    assert total == recorded([*a, *b])


def test_a_merged_histogram_shares_nothing_with_its_parts() -> None:
    part = recorded([7])
    total = merged(part)
    total.record(7)
    assert part.count == 1
    assert part == recorded([7])


@given(st.integers(LONGEST_US + 1, 10**15))
def test_what_is_longer_than_an_hour_counts_as_an_hour(value_us: int) -> None:
    assert recorded([value_us]) == recorded([LONGEST_US])


# --- figures -------------------------------------------------------------------------------------


@given(st.lists(values_us, min_size=1, max_size=200), st.floats(0, 100))
@example([5, 6], 50.0)
@example(list(range(1000, 0, -1)), 99.9)
def test_a_percentile_is_within_a_thousandth_of_the_value_at_its_rank(
    values: list[int], percentile: float
) -> None:
    rank = max(1, math.ceil(len(values) * percentile / 100 - 1e-9))
    value = sorted(values)[rank - 1]
    assert abs(recorded(values).percentile_us(percentile) - value) <= value / 1000


@given(st.lists(values_us, min_size=1, max_size=50), st.sampled_from((25, 50, 75, 100)))
def test_a_percentile_is_in_the_librarys_slot(values: list[int], percentile: int) -> None:
    values = values * 4  # so that ranks are whole numbers, which nobody rounds
    theirs = hdr_of(values).get_value_at_percentile(percentile)
    assert slot_of(recorded(values).percentile_us(percentile)) == slot_of(theirs)


@given(st.lists(values_us, min_size=1, max_size=60))
def test_mean_deviation_and_bounds_are_exact(values: list[int]) -> None:
    histogram = recorded(values)
    assert histogram.mean_us == pytest.approx(statistics.fmean(values), rel=1e-12)
    assert histogram.deviation_us == pytest.approx(statistics.pstdev(values), rel=1e-9, abs=1e-9)
    assert (histogram.least_us, histogram.most_us) == (min(values), max(values))
    assert min(values) <= histogram.percentile_us(0) <= histogram.percentile_us(100) <= max(values)


def test_the_deviation_of_long_values_is_not_lost_in_rounding() -> None:
    assert recorded([3_599_999_999, 3_599_999_997]).deviation_us == 1.0


def test_an_empty_histogram_has_figures_of_zero() -> None:
    empty = Histogram()
    assert (empty.percentile_us(99), empty.mean_us, empty.deviation_us) == (0, 0.0, 0.0)
    assert list(empty.ascending()) == []
    assert merged(empty, recorded([3]), empty) == recorded([3])


# --- messages ------------------------------------------------------------------------------------


@given(lists_us)
def test_a_message_brings_the_histogram_back(values: list[int]) -> None:
    histogram = recorded(values)
    message = histogram.message()
    assert message.slots == sorted(message.slots)
    assert Histogram.of(message) == histogram
    in_json = HistogramMessage.model_validate_json(message.model_dump_json())
    assert Histogram.of(in_json) == histogram


def test_sums_beyond_64_bits_travel_in_every_encoding() -> None:
    histogram = Histogram()
    histogram.record(60_000_000, 10_000)  # as many requests that ran into a timeout of a minute
    assert histogram.squares > 2**64
    laid_out = histogram.message().model_dump(mode="json")
    for unpacked in (
        orjson.loads(orjson.dumps(laid_out)),
        msgpack.unpackb(msgpack.packb(laid_out)),
    ):
        assert Histogram.of(HistogramMessage.model_validate(unpacked)) == histogram


def test_a_message_of_unequal_lists_is_refused() -> None:
    with pytest.raises(ValueError, match="zip"):
        Histogram.of(HistogramMessage(slots=[1, 2], counts=[1]))
