"""Tallies: what belongs to which interval, merging, and how long the merging of a run takes."""

from __future__ import annotations

import time
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.perf.measurements.tallies import Tally, TallyMessage, merged
from tests.unit.perf.sample_runs import tally


class Request(NamedTuple):
    at_s: float
    duration_us: int
    late_us: int
    code: str
    is_ok: bool


requests = st.lists(
    st.builds(
        Request,
        at_s=st.floats(-1, 12),
        duration_us=st.integers(0, 100_000),
        late_us=st.integers(-1000, 1_000_000),
        code=st.sampled_from(("200", "503", "-1")),
        is_ok=st.booleans(),
    ),
    max_size=30,
)


def counted(*parts: list[Request], interval_s: float = 1.0) -> Tally:
    total = Tally(interval_s=interval_s)
    for part in parts:
        for request in part:
            total.request(**request._asdict())
    return total


def test_a_request_counts_in_all_its_places() -> None:
    total = counted([Request(2.5, 1000, 300, "503", False), Request(2.9, 2000, -50, "200", True)])
    assert (total.requests, total.failed, total.codes) == (2, 1, {"503": 1, "200": 1})
    assert total.durations.total_us == 3000
    assert total.responses.total_us == 3300  # early is not earlier than due
    assert total.failures.total_us == 1000
    assert list(total.intervals) == [2]
    interval = total.intervals[2]
    assert (interval.durations.count, interval.failed) == (2, 1)
    assert total.ended_s == pytest.approx(2.902)
    assert interval.codes == {"503": 1, "200": 1}


@pytest.mark.parametrize(
    ("at_s", "interval_s", "index"),
    [(0, 1, 0), (0.999, 1, 0), (1, 1, 1), (59.9, 5, 11), (60, 5, 12), (-0.2, 1, 0)],
)
def test_a_request_belongs_to_the_interval_in_which_it_began(
    at_s: float, interval_s: float, index: int
) -> None:
    total = counted([Request(at_s, 1, 0, "200", True)], interval_s=interval_s)
    assert list(total.intervals) == [index]


@given(requests, requests, requests)
def test_merging_is_counting_all_in_one(
    a: list[Request], b: list[Request], c: list[Request]
) -> None:
    whole = counted(a, b, c)
    in_order = Tally()
    for part in (a, b, c):
        in_order.merge(counted(part))
    otherwise = merged((counted(part).message() for part in (c, a, b)), interval_s=1.0)
    assert in_order == whole
    assert otherwise.ended_s == pytest.approx(whole.ended_s, abs=1e-6)
    assert otherwise == whole


@given(requests)
def test_a_message_brings_the_tally_back(part: list[Request]) -> None:
    total = counted(part)
    total.sockets, total.bytes_received, total.bytes_sent = 3, 2, 1
    message = TallyMessage.model_validate_json(total.message().model_dump_json())
    assert merged([message], interval_s=1.0) == total
    assert [interval.index for interval in message.intervals] == sorted(total.intervals)


@given(requests)
def test_the_intervals_hold_every_request_once(part: list[Request]) -> None:
    total = counted(part)
    whole = Tally()
    for interval in total.intervals.values():
        whole.durations.merge(interval.durations)
        whole.codes.update(interval.codes)
    assert whole.durations == total.durations
    assert whole.codes == total.codes
    assert sum(interval.failed for interval in total.intervals.values()) == total.failed


def test_merging_leaves_the_parts_as_they_were() -> None:
    part = counted([Request(0, 1, 0, "200", True)])
    total = Tally()
    total.merge(part)
    total.request(at_s=0, duration_us=1, late_us=0, code="200", is_ok=True)
    assert part == counted([Request(0, 1, 0, "200", True)])


def test_an_interval_replaces_what_was_told_of_it_before() -> None:
    total = counted([Request(1, 5, 0, "200", True)])
    newer = counted([Request(1, 5, 0, "200", True), Request(1, 6, 0, "503", False)])
    total.add_interval(newer.interval_messages()[0])
    assert total.intervals == newer.intervals


def test_interval_messages_begin_where_asked() -> None:
    total = counted([Request(at_s, 1, 0, "200", True) for at_s in (0, 1, 3)])
    assert [message.index for message in total.interval_messages(since=1)] == [1, 3]


def test_a_run_of_64_shards_is_merged_in_a_moment() -> None:
    """64 shards, 60 intervals each, 100 requests in each: 384,000 requests.

    The bar is a tenth of a second; here is room for slow machines, and none for the ten times that
    the library's histograms would take.
    """
    shards = [tally(seconds=60, seed=seed).message() for seed in range(4)]
    copies = [shard.model_copy(deep=True) for shard in shards for _ in range(16)]
    began = time.process_time()
    total = merged(copies, interval_s=1.0)
    seconds = time.process_time() - began
    print(f"64 shards of 60 intervals merged in {seconds * 1000:.0f} ms")
    assert total.requests == 384_000
    assert len(total.intervals) == 60
    assert seconds < 0.4
