"""The search for the highest rate, against servers whose limit is known by a formula."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.perf.definitions.loads import Objective, Saturation, Stage
from services.perf.measurements.tallies import Tally
from services.perf.runs.saturation import Search, judge


def searched(
    saturation: Saturation, holds: Callable[[float], bool]
) -> tuple[Search, list[tuple[float, bool]]]:
    """The search at its end, and its steps."""
    search = Search(saturation)
    steps = []
    while (rate := search.next_rate()) is not None:
        steps.append((rate, holds(rate)))
        assert len(steps) <= saturation.most_steps
        search.record(*steps[-1])
    return search, steps


def counted(
    responses_ms: list[float], *, waits_ms: float = 0.0, failed: int = 0, span_s: float = 10.0
) -> Tally:
    tally = Tally()
    for number, response_ms in enumerate(responses_ms):
        late_ms = min(waits_ms, response_ms)
        tally.request(
            at_s=span_s * number / len(responses_ms),
            duration_us=round((response_ms - late_ms) * 1000),
            late_us=round(late_ms * 1000),
            code="200" if number >= failed else "503",
            is_ok=number >= failed,
        )
    return tally


# --- the search ----------------------------------------------------------------------------------


def test_the_steps_of_a_search() -> None:
    _, steps = searched(Saturation(lowest=10, highest=160, precision=0.2), lambda rate: rate <= 50)
    assert steps == [
        *((10, True), (20, True), (40, True)),
        *((80, False), (80, False)),  # a failure is asked for twice
        *((60, False), (60, False)),
        *((50, True),),
    ]


def test_the_highest_rate_may_hold() -> None:
    search, steps = searched(Saturation(lowest=30, highest=100), lambda _: True)
    assert [rate for rate, _ in steps] == [30, 60, 100]
    assert search.result == 100


def test_nothing_holds() -> None:
    search, steps = searched(Saturation(lowest=30, highest=100), lambda _: False)
    assert steps == [(30, False), (30, False)]
    assert search.result == 0


def test_asking_twice_changes_nothing_and_answers_must_fit() -> None:
    search = Search(Saturation(lowest=30, highest=100))
    assert search.next_rate() == search.next_rate() == 30
    with pytest.raises(ValueError, match="did not ask for 60"):
        search.record(60, True)
    assert search.next_rate() == 30
    for _ in range(2):
        search.record(30, False)
    assert search.next_rate() is None
    with pytest.raises(ValueError, match="did not ask"):
        search.record(30, True)


def test_the_result_is_known_on_the_way() -> None:
    search = Search(Saturation(lowest=30, highest=100))
    search.record(30, True)
    assert search.result == 30


BOUNDS = st.tuples(
    st.floats(min_value=0.5, max_value=1000), st.floats(min_value=1.1, max_value=1e5)
).map(lambda pair: (pair[0], min(1e6, pair[0] * pair[1])))


@given(
    bounds=BOUNDS,
    precision=st.floats(min_value=0.005, max_value=0.5),
    place=st.floats(min_value=0, max_value=1),
)
def test_the_knee_is_found_within_the_precision(
    bounds: tuple[float, float], precision: float, place: float
) -> None:
    lowest, highest = bounds
    knee = lowest * (highest / lowest) ** place
    search, _ = searched(
        Saturation(lowest=lowest, highest=highest, precision=precision), lambda rate: rate <= knee
    )
    assert search.result <= knee
    assert search.result >= knee * (1 - precision) * (1 - 1e-9)


@given(bounds=BOUNDS, precision=st.floats(min_value=0, max_value=0.5), data=st.data())
def test_the_search_ends_whatever_the_answers_are(
    bounds: tuple[float, float], precision: float, data: st.DataObject
) -> None:
    saturation = Saturation(lowest=bounds[0], highest=bounds[1], precision=precision)
    search, steps = searched(saturation, lambda _: data.draw(st.booleans()))
    assert search.result in {0.0, *(rate for rate, holds in steps if holds)}


@given(failures=st.sets(st.integers(min_value=0, max_value=30)), knee=st.floats(20, 900))
def test_a_step_that_fails_by_chance_changes_nothing(failures: set[int], knee: float) -> None:
    """Whichever steps fail once: what is asked for again holds."""
    saturation = Saturation(lowest=10, highest=1000, precision=0.05)
    clean, _ = searched(saturation, lambda rate: rate <= knee)
    steps: Iterator[int] = iter(range(1000))
    disturbed: set[float] = set()

    def noisy(rate: float) -> bool:
        if next(steps) in failures and rate not in disturbed:
            disturbed.add(rate)
            return False
        return rate <= knee

    search, _ = searched(saturation, noisy)
    assert search.result == clean.result


# --- simulated servers ---------------------------------------------------------------------------


def m_m_1(rate: float, *, served: float, span_s: float) -> tuple[Tally, float]:
    """What a server of `served` requests/s makes of Poisson arrivals; and how long it takes.

    Below its limit its response times are exponential, with the mean 1 / (served - rate). At the
    limit no step is long enough for that: the queue is then as long as arrivals and services differ
    by chance, about the root of twice their number. Above it, it grows besides as long as requests
    come.
    """
    count = round(rate * span_s)
    took_s = max(span_s, count / served)
    mean_s = math.sqrt(2 * count) / served
    if rate < served:
        mean_s = min(mean_s, 1 / (served - rate))
    responses_ms = []
    for number in range(count):
        share = (number + 0.5) / count
        response_s = -math.log(1 - share) * mean_s + share * (took_s - span_s)
        responses_ms.append(1000 * response_s)
    return counted(responses_ms, waits_ms=1e9), took_s


@pytest.mark.parametrize("served", [37.0, 240.0, 1111.0])
@pytest.mark.parametrize("limit_ms", [60.0, 250.0])
def test_the_knee_of_a_queue(served: float, limit_ms: float) -> None:
    """p99 = ln(100) / (served - rate), so the limit gives the highest rate that holds it."""
    knee = served - math.log(100) / (limit_ms / 1000)
    precision = 0.02
    saturation = Saturation(lowest=5, highest=5000, step_duration_s=4, precision=precision)
    objective = Objective(p99_ms=limit_ms)

    def holds(rate: float) -> bool:
        tally, took_s = m_m_1(rate, served=served, span_s=4)
        stage = Stage(rate=rate, duration_s=4)
        return judge(stage, tally, duration_s=took_s, objective=objective)[0]

    search, _ = searched(saturation, holds)
    if knee < saturation.lowest:
        assert search.result == 0
        return
    # A step has few requests, so its p99 is a little off: that of 1,000 may be that of the 990th.
    count = knee * 4
    blur = max(1.5 / count * 100 / math.log(100), 0.01) * (served - knee) / knee
    assert knee * (1 - precision - blur) <= search.result <= knee * (1 + blur)


def test_a_noisy_server() -> None:
    """One step in six is disturbed; the knee is found all the same, in nearly every search."""
    chance = random.Random(7)
    saturation = Saturation(lowest=10, highest=2000, step_duration_s=4, precision=0.05)
    objective = Objective(p99_ms=100)
    knee = 300 - math.log(100) / 0.1
    near = 0
    for _ in range(60):

        def holds(rate: float) -> bool:
            tally, took_s = m_m_1(rate, served=300, span_s=4)
            if chance.random() < 1 / 6:
                tally.merge(counted([2000.0] * (1 + tally.requests // 20)))
            stage = Stage(rate=rate, duration_s=4)
            return judge(stage, tally, duration_s=took_s, objective=objective)[0]

        search, _ = searched(saturation, holds)
        near += abs(search.result / knee - 1) <= 0.08
    assert near >= 42


# --- judging -------------------------------------------------------------------------------------

STAGE = Stage(rate=100, duration_s=10)


def test_an_objective_that_is_held() -> None:
    objective = Objective(p50_ms=10, p90_ms=10, p99_ms=10, error_ratio=0)
    assert judge(STAGE, counted([10.0] * 1000), duration_s=10, objective=objective) == (True, "")


@pytest.mark.parametrize(
    ("objective", "words"),
    [
        (Objective(p50_ms=5), "the p50 response time is 10 ms, the limit is 5 ms"),
        (Objective(p90_ms=5), "the p90 response time is 10 ms, the limit is 5 ms"),
        (Objective(p99_ms=100), "the p99 response time is 400 ms, the limit is 100 ms"),
        (Objective(), "20 of 1000 requests failed (2 %), the limit is 1 %"),
        (
            Objective(error_ratio=None, rate_ratio=0.99),
            "98 of 100 requests/s were reached (98 %), at least 99 % are wanted",
        ),
    ],
)
def test_why_it_does_not_hold(objective: Objective, words: str) -> None:
    tally = counted([10.0] * 980 + [400.0] * 20, failed=20)
    tally.responses.most_us = 400_000
    holds, reason = judge(STAGE, tally, duration_s=1000 / 98, objective=objective)
    assert not holds
    assert words in reason
    assert judge(STAGE, tally, duration_s=1000 / 98, objective=Objective(error_ratio=0.02)) == (
        True,
        "",
    )


def test_all_reasons_are_told() -> None:
    tally = counted([10.0] * 500, failed=500)
    _, reason = judge(STAGE, tally, duration_s=10, objective=Objective(p50_ms=1, p99_ms=1))
    assert len(reason.split("; ")) == 4


def test_waiting_counts_although_the_durations_are_short() -> None:
    """A saturated server answers each request fast, once it has begun with it."""
    tally = counted([500.0] * 1000, waits_ms=490.0)
    assert tally.durations.percentile_us(99) < 11_000
    holds, reason = judge(STAGE, tally, duration_s=10, objective=Objective(p99_ms=100))
    assert not holds
    assert "is 500" in reason or "is 499" in reason


def test_no_request_at_all_never_holds() -> None:
    objective = Objective(error_ratio=None, rate_ratio=0)
    assert judge(STAGE, Tally(), duration_s=10, objective=objective)[0] is False


def test_as_fast_as_possible_has_no_rate_to_reach() -> None:
    stage = Stage(rate=0, duration_s=10)
    assert judge(stage, counted([1.0] * 3), duration_s=10, objective=Objective())[0]


def test_a_generator_that_ends_with_its_last_request_is_not_faster_than_asked() -> None:
    """90 requests of 100 in the first nine seconds are 90 % of the rate, not all of it."""
    tally = counted([1.0] * 900)
    assert not judge(STAGE, tally, duration_s=9, objective=Objective())[0]
