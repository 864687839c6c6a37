"""Cutting: the numbers add up, and no generator is asked for what it would quietly change."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.chassis.errors import LoadTestMalformed
from services.perf.definitions.loads import LEAST_REQUESTS, Load, LoadTest, Shard, Stage, Target
from services.perf.runs.sharding import apportioned, shards


def load_test(*weights: float, connections: int = 4, stages: list[Stage] | None = None) -> LoadTest:
    return LoadTest(
        targets=[Target(url=f"http://t{i}/", weight=w) for i, w in enumerate(weights or (1.0,))],
        stages=[Stage(rate=100, duration_s=10)] if stages is None else stages,
        connections=connections,
    )


def loads_of(cut: list[Shard], stage: int = 0) -> list[Load]:
    return [load for shard in cut for load in shard.stages[stage]]


def by_target(cut: list[Shard], stage: int = 0) -> dict[int, int]:
    found: Counter[int] = Counter()
    for load in loads_of(cut, stage):
        found[load.index] += load.requests
    return dict(found)


def test_a_plain_test_is_cut_evenly() -> None:
    cut = shards(load_test(connections=8), 4)
    assert [shard.number for shard in cut] == [1, 2, 3, 4]
    assert [(x.requests, x.rate, x.connections) for x in loads_of(cut)] == [(250, 25.0, 2)] * 4
    assert all(shard.duration_s == 10 for shard in cut)


def test_what_does_not_divide_goes_to_the_first_ones() -> None:
    cut = shards(load_test(connections=4, stages=[Stage(rate=10, duration_s=1)]), 3)
    assert [(x.requests, x.connections) for x in loads_of(cut)] == [(4, 2), (3, 1), (3, 1)]
    assert [x.rate for x in loads_of(cut)] == [4.0, 3.0, 3.0]


@pytest.mark.parametrize(
    ("rate", "connections", "workers", "expected"),
    [
        (3, 8, 4, [(3, 1)]),
        (4, 8, 4, [(2, 1), (2, 1)]),
        (7, 8, 2, [(4, 2), (3, 1)]),
        (1, 8, 4, [(1, 1)]),  # fortio makes two of it; nobody can avoid that
        (1000, 3, 8, [(334, 1), (333, 1), (333, 1)]),
        (1000, 1, 8, [(1000, 1)]),
        (1000, 3, 0, [(1000, 3)]),
    ],
)
def test_few_requests_or_connections_make_fewer_shards(
    rate: float, connections: int, workers: int, expected: list[tuple[int, int]]
) -> None:
    test = load_test(connections=connections, stages=[Stage(rate=rate, duration_s=1)])
    assert [(x.requests, x.connections) for x in loads_of(shards(test, workers))] == expected


def test_targets_share_by_weight() -> None:
    test = load_test(3, 1, connections=8, stages=[Stage(rate=80, duration_s=2)])
    cut = shards(test, 2)
    assert by_target(cut) == {0: 120, 1: 40}
    assert [[(x.index, x.requests, x.connections) for x in s.stages[0]] for s in cut] == [
        [(0, 60, 3), (1, 20, 1)],
        [(0, 60, 3), (1, 20, 1)],
    ]


def test_connections_are_not_exceeded_for_the_sake_of_workers() -> None:
    """Four connections for two targets and four workers: a load each, not two loads each."""
    cut = shards(load_test(3, 1, connections=4), 4)
    assert [[(x.index, x.requests, x.connections) for x in s.stages[0]] for s in cut] == [
        [(0, 250, 1)],
        [(0, 250, 1)],
        [(0, 250, 1)],
        [(1, 250, 1)],
    ]


def test_every_target_is_tested_even_with_one_connection() -> None:
    cut = shards(load_test(1, 1, 1, connections=1), 8)
    assert by_target(cut) == {0: 334, 1: 333, 2: 333}
    assert [x.connections for x in loads_of(cut)] == [1, 1, 1]
    assert len(cut) == 3


def test_a_target_whose_share_is_less_than_a_request_is_left_out_of_the_stage() -> None:
    test = load_test(1000, 1, stages=[Stage(rate=10, duration_s=1), Stage(rate=10, duration_s=500)])
    cut = shards(test, 2)
    assert by_target(cut, 0) == {0: 10}
    assert by_target(cut, 1) == {0: 4995, 1: 5}


def test_a_small_stage_bounds_the_shards_of_all() -> None:
    """A worker without a part in the first stage would begin the second one too early."""
    test = load_test(stages=[Stage(rate=2, duration_s=2), Stage(rate=500, duration_s=2)])
    cut = shards(test, 4)
    assert len(cut) == 2
    assert [[len(stage) for stage in shard.stages] for shard in cut] == [[1, 1], [1, 1]]


def test_as_fast_as_possible_is_cut_by_connections() -> None:
    cut = shards(load_test(3, 1, connections=8, stages=[Stage(rate=0, duration_s=5)]), 2)
    assert [(x.index, x.rate, x.requests, x.connections) for x in loads_of(cut)] == [
        (0, 0.0, 0, 3),
        (1, 0.0, 0, 1),
        (0, 0.0, 0, 3),
        (1, 0.0, 0, 1),
    ]


def test_given_stages_count_instead_of_the_tests_own() -> None:
    cut = shards(load_test(), 2, stages=[Stage(rate=6, duration_s=1)])
    assert by_target(cut) == {0: 6}
    assert [len(shard.stages) for shard in cut] == [1, 1]


@pytest.mark.parametrize(
    ("stages", "word"),
    [([], "no stages"), ([Stage(rate=5, duration_s=1), Stage(rate=0.1, duration_s=1)], "stage 2")],
)
def test_nothing_to_send_is_an_error(stages: list[Stage], word: str) -> None:
    with pytest.raises(LoadTestMalformed, match=word):
        shards(load_test(stages=stages), 2)


@pytest.mark.parametrize(
    ("total", "weights", "least", "expected"),
    [
        (10, (1, 1, 1), 0, [4, 3, 3]),
        (10, (9, 1), 1, [9, 1]),
        (10, (99, 1), 1, [9, 1]),
        (3, (1, 1, 1, 1), 1, [1, 1, 1, 1]),
        (5, (8, 1, 1, 1), 1, [2, 1, 1, 1]),
        (8, (10, 8, 1, 1, 1, 1), 1, [2, 2, 1, 1, 1, 1]),
        (0, (1, 2), 0, [0, 0]),
    ],
)
def test_apportioning(
    total: int, weights: tuple[float, ...], least: int, expected: list[int]
) -> None:
    assert apportioned(total, weights, least=least) == expected


def _stage(rate: float, duration_s: float) -> Stage:
    return Stage(rate=rate, duration_s=duration_s)


STAGES = st.builds(
    _stage,
    st.one_of(st.just(0.0), st.floats(min_value=2.0, max_value=1e6, allow_subnormal=False)),
    st.floats(min_value=1.0, max_value=86_400.0, allow_subnormal=False),
)
WEIGHTS = st.lists(st.floats(min_value=1e-6, max_value=1e6), min_size=1, max_size=12)
SMALL = st.lists(st.integers(min_value=1, max_value=9).map(float), min_size=1, max_size=12)


@given(
    weights=st.one_of(WEIGHTS, SMALL),
    connections=st.integers(min_value=1, max_value=200),
    stages=st.lists(STAGES, min_size=1, max_size=4),
    workers=st.integers(min_value=1, max_value=40),
)
def test_what_holds_of_every_cut(
    weights: list[float], connections: int, stages: list[Stage], workers: int
) -> None:
    test = load_test(*weights, connections=connections, stages=stages)
    cut = shards(test, workers)
    assert cut == shards(test, workers)
    assert 1 <= len(cut) <= workers
    assert [shard.number for shard in cut] == list(range(1, len(cut) + 1))
    whole = sum(map(Fraction, weights))
    for number, stage in enumerate(stages):
        loads = loads_of(cut, number)
        assert sum(load.requests for load in loads) == stage.requests
        assert sum(load.connections for load in loads) <= max(connections, len(loads))
        sums = by_target(cut, number)
        for shard in cut:
            indexes = [load.index for load in shard.stages[number]]
            assert indexes
            assert len(set(indexes)) == len(indexes)
        for index, weight in enumerate(weights):
            exact = stage.requests * Fraction(weight) / whole
            assert abs(sums.get(index, 0) - exact) < 1 + Fraction(1, 1000)
        for load in loads:
            assert load.target == test.targets[load.index]
            assert load.duration_s == stage.duration_s
            assert load.rate * load.duration_s == pytest.approx(load.requests)
            if not stage.rate:
                continue
            assert load.requests >= min(LEAST_REQUESTS, sums[load.index])
            assert load.connections == 1 or LEAST_REQUESTS * load.connections <= load.requests


@given(
    connections=st.integers(min_value=1, max_value=64),
    targets=st.integers(min_value=1, max_value=6),
    workers=st.integers(min_value=1, max_value=12),
)
def test_enough_requests_use_all_workers_and_connections(
    connections: int, targets: int, workers: int
) -> None:
    test = load_test(*[1.0] * targets, connections=connections)
    cut = shards(test, workers)
    assert len(cut) == min(workers, max(connections, targets))
    assert sum(load.connections for load in loads_of(cut)) == max(connections, targets)
