"""Whether a regression is told from noise, on simulated runs whose truth is known.

Within a run the level of the latency wanders (an autoregression from interval to interval), between
runs it drifts. `python -m tests.bench.gate` measures the rates of error over thousands of
comparisons; tests/real/perf/false_alarms.py with a real server and fortio.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from services.perf.comparison.comparing import Change, Comparison, Outcome, compare
from services.perf.comparison.metrics import Metric
from services.perf.comparison.observations import observed
from services.perf.comparison.quantiles import quantile_of_t, tail_of_t
from services.perf.comparison.spending import levels
from services.perf.definitions.loads import GeneratorName, Protocol
from services.perf.measurements.histograms import Histogram
from services.perf.measurements.measurements import (
    Measurement,
    MissingShard,
    StageResult,
    TargetResult,
)
from services.perf.measurements.tallies import Interval, Tally

LEVEL = 0.01
COUNTS = pytest.mark.parametrize("count", [15, pytest.param(300, marks=pytest.mark.full)])
"""How many comparisons a rate is judged by."""
Ints = npt.NDArray[np.int64]


def durations(
    rng: np.random.Generator,
    *,
    intervals: int = 30,
    rate: int = 100,
    ms: float = 20.0,
    wander: float = 0.04,
    memory: float = 0.5,
    drift: float = 0.0,
) -> Ints:
    """Durations in microseconds, by interval: lognormal around a level that wanders."""
    level = np.zeros(intervals)
    here = rng.normal(0, wander)
    for index in range(intervals):
        here = memory * here + rng.normal(0, wander * np.sqrt(1 - memory**2))
        level[index] = here
    level += rng.normal(0, drift) if drift else 0.0
    noise = rng.normal(0, 0.5, (intervals, rate))
    return np.rint(1000 * ms * np.exp(level[:, np.newaxis] + noise)).astype(np.int64)


def tally(
    rows: Sequence[Sequence[int]] | Ints, *, failed: float = 0.0, first: int = 0, held_us: int = 0
) -> Tally:
    """Counts of these durations; of each interval this share has failed. `held_us` is what every
    tenth request waited before it was sent."""
    found = Tally()
    for index, row in enumerate(rows, start=first):
        interval = found.intervals[index] = Interval()
        for value, times in zip(*np.unique(np.asarray(row), return_counts=True), strict=True):
            interval.durations.record(int(value), int(times))
            held = int(times) if held_us and value % 10 == 0 else 0
            interval.responses.record(int(value), int(times) - held)
            interval.responses.record(int(value) + held_us, held)
        interval.failed = round(failed * len(row))
        interval.codes["200"] = len(row) - interval.failed
        found.durations.merge(interval.durations)
        found.responses.merge(interval.responses)
    for _ in range(sum(interval.failed for interval in found.intervals.values())):
        found.failures.record(1000)
    return found


def run_of(counts: Tally, *, name: str = "run", rate: float = 100, **changes: Any) -> Measurement:
    seconds = float(max(1, len(counts.intervals)))
    message = counts.message()
    stage = StageResult(rate=rate, duration_s=seconds, actual_rate=rate, tally=message)
    made = Measurement(
        run=name,
        generator=GeneratorName.FORTIO,
        protocol=Protocol.HTTP1,
        started=datetime(2026, 9, 1, 12, tzinfo=timezone.utc),
        duration_s=seconds,
        requested_duration_s=seconds,
        requested_rate=rate,
        connections=4,
        workers=1,
        stages=[stage],
        tally=message,
    )
    return made.model_copy(update=changes)


def simulated(seed: int, *, failed: float = 0.0, held_us: int = 0, **shape: Any) -> Measurement:
    rows = durations(np.random.default_rng(seed), **shape)
    return run_of(tally(rows, failed=failed, held_us=held_us), name=f"run-{seed}")


def three(seed: int, **shape: Any) -> list[Measurement]:
    """Runs of one side; sides with different seeds have no run in common."""
    return [simulated(1000 * seed + number, **shape) for number in range(3)]


def thrice(*rows: Sequence[Sequence[int]] | Ints, **changes: Any) -> list[Measurement]:
    """Three runs that counted exactly the same."""
    return [run_of(tally(each), **changes) for each in rows for _ in range(3)]


def change(comparison: Comparison, metric: Metric) -> Change:
    return next(each for each in comparison.changes if each.metric is metric)


def counting(comparison: Comparison) -> set[Metric]:
    return {each.metric for each in comparison.changes if each.counts}


# --- rates of error ------------------------------------------------------------------------------


def sides(
    count: int, *, slower: float = 1.0, drift: float = 0.02
) -> Iterator[tuple[list[Measurement], list[Measurement]]]:
    for seed in range(count):
        yield three(2 * seed, drift=drift), three(2 * seed + 1, drift=drift, ms=20 * slower)


@COUNTS
def test_identical_services_raise_no_more_alarms_than_the_level_allows(count: int) -> None:
    verdicts = [compare(a, b, is_paired=True, level=LEVEL).verdict for a, b in sides(count)]
    assert verdicts.count(Outcome.REGRESSION) <= LEVEL * count
    assert verdicts.count(Outcome.IMPROVEMENT) <= LEVEL * count
    assert verdicts.count(Outcome.INCONCLUSIVE) <= 0.1 * count


@COUNTS
def test_a_service_that_is_30_percent_slower_is_caught(count: int) -> None:
    verdicts = [compare(a, b, is_paired=True).verdict for a, b in sides(count, slower=1.3)]
    assert verdicts.count(Outcome.REGRESSION) >= 0.95 * count


def test_runs_that_drift_far_raise_no_alarm_by_their_requests() -> None:
    """Each run has thousands of requests, and all the same there are three runs a side."""
    before = [simulated(seed, ms=ms) for seed, ms in enumerate((17, 20, 24))]
    after = [simulated(9 + seed, ms=ms) for seed, ms in enumerate((21, 26, 23))]
    assert compare(before, after).verdict is Outcome.INCONCLUSIVE


def test_one_run_against_one_tells_nothing_however_far_apart_they_are() -> None:
    comparison = compare([simulated(1)], [simulated(2, ms=60)])
    assert comparison.verdict is Outcome.INCONCLUSIVE
    assert comparison.look_level is None
    assert change(comparison, Metric.P50).change == pytest.approx(2, rel=0.1)
    assert not any(each.decides or each.low is not None for each in comparison.changes)
    assert any(note.startswith("Too few runs") for note in comparison.notes)
    two = [simulated(3), simulated(4)]
    slower = [simulated(5, ms=60), simulated(6, ms=60)]
    assert compare(two, slower, is_paired=True).verdict is Outcome.INCONCLUSIVE


def test_a_single_run_is_held_against_the_runs_of_a_baseline() -> None:
    assert compare(three(1), [simulated(9, ms=30)]).verdict is Outcome.REGRESSION
    assert compare(three(1), [simulated(9)]).verdict is Outcome.SAME


def test_what_both_runs_of_a_pair_share_falls_out() -> None:
    """A machine that gets slower by a third while the pairs are made."""
    levels_ms = (20, 23, 27)
    before = [simulated(seed, ms=ms) for seed, ms in enumerate(levels_ms)]
    after = [simulated(9 + seed, ms=ms * 1.3) for seed, ms in enumerate(levels_ms)]
    assert compare(before, after, is_paired=True).verdict is Outcome.REGRESSION
    assert compare(before, after).verdict is not Outcome.REGRESSION


def test_runs_that_show_how_far_they_differ_widen_the_interval() -> None:
    alike = [simulated(seed, ms=20) for seed in range(4)]
    apart = [simulated(seed, ms=ms) for seed, ms in enumerate((14, 18, 22, 29))]
    slower = [simulated(9, ms=30)]
    assert compare(alike, slower).verdict is Outcome.REGRESSION
    assert compare(apart, slower).verdict is not Outcome.REGRESSION
    widths = [width(compare(side, slower)) for side in (alike, apart)]
    assert widths[1] > 2 * widths[0]


def test_earlier_runs_of_a_service_tell_how_far_its_runs_differ() -> None:
    before, after = three(1), three(2)
    steady = [simulated(100 + number, wander=0.01) for number in range(5)]
    restless = [simulated(100 + n, ms=ms) for n, ms in enumerate((12, 16, 20, 26, 34))]
    alone = width(compare(before, after))
    assert width(compare(before, after, history=steady)) < alone
    assert width(compare(before, after, history=restless)) > 1.5 * alone
    other = [run.model_copy(update={"connections": 99}) for run in restless]
    assert width(compare(before, after, history=other)) == alone


def test_more_runs_make_the_interval_narrower() -> None:
    few, many = (
        width(compare(*([simulated(n + side) for n in range(runs)] for side in (0, 100))))
        for runs in (3, 8)
    )
    assert 0 < many < 0.75 * few


def test_a_further_look_is_paid_for() -> None:
    before, after = ([simulated(n + side) for n in range(4)] for side in (0, 100))
    whole = compare(before, after, is_paired=True)
    looks = (3, 4, 5, 6)
    second = compare(before, after, is_paired=True, looks=looks)
    first = compare(before[:3], after[:3], is_paired=True, looks=looks)
    assert whole.look_level == LEVEL
    assert 0.5 * LEVEL < (first.look_level or 0) < LEVEL
    assert (second.look_level or 1) < 0.5 * (first.look_level or 0)
    assert width(second) > width(whole)


def test_the_looks_together_spend_the_level() -> None:
    looks = (3, 4, 5, 6)
    bounds = [NormalDist().inv_cdf(1 - share) for share in levels(0.05, looks)]
    sums = np.random.default_rng(1).normal(size=(200_000, looks[-1])).cumsum(axis=1)
    found = np.zeros(len(sums), dtype=bool)
    for runs, bound in zip(looks, bounds, strict=True):
        found |= sums[:, runs - 1] > bound * np.sqrt(runs)
    assert found.mean() == pytest.approx(0.05, rel=0.04)
    assert levels(0.01, (3,)) == (0.01,)


def width(comparison: Comparison) -> float:
    found = change(comparison, Metric.P50)
    return (found.high or 0) - (found.low or 0)


# --- what counts ---------------------------------------------------------------------------------


def test_a_regression_tells_each_figure_with_its_interval() -> None:
    comparison = compare(three(1), three(2, ms=28), is_paired=True)
    assert comparison.verdict is Outcome.REGRESSION
    assert counting(comparison) >= {Metric.P50, Metric.P90}
    p50 = change(comparison, Metric.P50)
    assert p50.low is not None
    assert p50.high is not None
    assert p50.p_value is not None
    assert 0.1 < p50.low < 0.4 < p50.high < 0.9
    assert p50.p_value < 0.001
    assert p50.before == pytest.approx(20, rel=0.1)
    first, *lines = comparison.text().splitlines()
    assert first.startswith("regression (p50, p90")
    assert lines[0].startswith("p50: ")
    assert lines[0].endswith(": worse")
    assert comparison.headline.startswith("regression, p50 ")
    assert dict(comparison.numbers)["p50_ms_after"] == pytest.approx(28, rel=0.1)


def test_swapped_sides_give_the_mirrored_answer() -> None:
    one, other = three(1), three(2, ms=28)
    there, back = compare(one, other), compare(other, one)
    assert back.verdict is Outcome.IMPROVEMENT
    assert counting(back) == counting(there)
    for found, mirrored in zip(there.changes, back.changes, strict=True):
        if found.metric is not Metric.FAILED and found.low is not None:
            assert mirrored.high == pytest.approx(1 / (1 + found.low) - 1)


def test_queueing_is_a_regression_though_durations_stay() -> None:
    """The service answers as fast as ever, and requests wait before they are sent."""
    comparison = compare(three(1), three(2, held_us=400_000), is_paired=True)
    assert comparison.verdict is Outcome.REGRESSION
    assert Metric.P99 in counting(comparison)
    explained = next(each for each in comparison.durations if each.metric is Metric.P99)
    assert explained.change < 0.1
    assert change(comparison, Metric.P99).change > 3
    assert "durations, which do not decide: p50 " in comparison.text()


def test_a_tail_that_rests_on_one_event_a_run_is_no_sure_thing() -> None:
    """Blocks show it: a third of their draws miss the event."""
    rows = durations(np.random.default_rng(1)).tolist()
    rows[10] = [900_000] * 40 + rows[10][40:]
    steady, stalled = observed(simulated(1)), observed(run_of(tally(rows)))
    assert stalled.figures[Metric.P99] > 5 * steady.figures[Metric.P99]
    assert stalled.variances[Metric.P99] > 100 * steady.variances[Metric.P99]


def test_a_change_below_the_threshold_is_none_however_sure_it_is() -> None:
    steady = [[18_000 + 40 * step for step in range(100)]] * 30
    slower = [[round(value * 1.07) for value in row] for row in steady]
    assert compare(thrice(steady), thrice(slower)).verdict is Outcome.SAME
    much_slower = [[round(value * 1.3) for value in row] for row in steady]
    assert compare(thrice(steady), thrice(much_slower)).verdict is Outcome.REGRESSION
    lax = compare(thrice(steady), thrice(much_slower), threshold=0.35)
    assert lax.verdict is Outcome.SAME
    assert (change(lax, Metric.P50).low or 0) > 0


def test_what_cannot_be_measured_on_a_small_machine_never_counts() -> None:
    fast, slower = ([[us + step for step in range(100)]] * 30 for us in (300, 450))
    comparison = compare(thrice(fast), thrice(slower))
    assert change(comparison, Metric.P50).change > 0.3
    assert comparison.verdict is Outcome.SAME


def test_p99_needs_a_thousand_requests() -> None:
    before, after = three(1, rate=10), three(2, rate=10)
    comparison = compare(before, after)
    assert change(comparison, Metric.P99).low is None
    assert change(comparison, Metric.P90).low is not None
    assert "p99 needs 1000 requests on each side; there are 900" in comparison.notes


def test_failures_are_a_regression_though_durations_stay() -> None:
    comparison = compare(three(1), three(2, failed=0.03))
    assert comparison.verdict is Outcome.REGRESSION
    assert counting(comparison) == {Metric.FAILED}
    failed = change(comparison, Metric.FAILED)
    assert (failed.before, failed.after, failed.change) == (0, 0.03, 0.03)
    assert "failed: 0.00% to 3.00%, +3.0 points" in comparison.text()


def test_a_target_that_refuses_quickly_is_no_improvement() -> None:
    comparison = compare(three(1), three(2, ms=2, failed=0.5))
    assert comparison.verdict is Outcome.REGRESSION
    assert counting(comparison) == {Metric.FAILED}
    assert change(comparison, Metric.P50).low is None


def test_a_target_that_refused_before_and_after_is_not_judged() -> None:
    sides = three(1, failed=0.5), three(2, failed=0.5)
    assert compare(*sides).verdict is Outcome.INCONCLUSIVE


def test_a_rate_that_is_not_reached_any_more_is_a_regression() -> None:
    comparison = compare(three(1), three(2, rate=70))
    assert comparison.verdict is Outcome.REGRESSION
    assert counting(comparison) == {Metric.RATE}
    rate = change(comparison, Metric.RATE)
    assert [rate.before, rate.after] == pytest.approx([100, 70])


def test_a_rate_is_that_of_whole_intervals() -> None:
    """Runs begin and end somewhere within an interval."""
    rows = list(durations(np.random.default_rng(1), intervals=12))
    cut = [rows[0][:30], *rows[1:-1], rows[-1][:10]]
    comparison = compare([run_of(tally(rows))], [run_of(tally(cut))])
    assert change(comparison, Metric.RATE).change == pytest.approx(0)


def test_a_stall_counts_though_no_request_was_sent_in_it() -> None:
    rows = durations(np.random.default_rng(1), intervals=30)
    counts = tally(rows)
    for index in range(10, 20):
        del counts.intervals[index]
    stalled = run_of(counts, requested_duration_s=30.0)
    stages = [stalled.stages[0].model_copy(update={"duration_s": 30.0})]
    comparison = compare([run_of(tally(rows))], [stalled.model_copy(update={"stages": stages})])
    assert change(comparison, Metric.RATE).change == pytest.approx(-10 / 28)


def test_a_shard_that_ran_again_later_says_nothing_about_the_rate() -> None:
    after = [run.model_copy(update={"rerun": [2]}) for run in three(2)]
    comparison = compare(three(1), after)
    assert change(comparison, Metric.RATE).low is None
    assert comparison.verdict is Outcome.SAME
    assert any("ran again" in note for note in comparison.notes)


def test_large_but_uncertain_changes_are_inconclusive() -> None:
    comparison = compare(three(3), three(4, ms=22.5))
    assert comparison.verdict is Outcome.INCONCLUSIVE
    assert not counting(comparison)
    assert not comparison.is_within
    assert any("not proven" in note for note in comparison.notes)


def test_runs_that_vary_too_much_are_inconclusive_and_not_the_same() -> None:
    wild = {"intervals": 8, "wander": 0.9, "rate": 20}
    comparison = compare(three(5, **wild), three(5, **wild))
    assert comparison.verdict is Outcome.INCONCLUSIVE
    assert any("Too noisy" in note for note in comparison.notes)


# --- what is compared ----------------------------------------------------------------------------


def other_stage(run: Measurement, **changes: Any) -> Measurement:
    return run.model_copy(update={"stages": [run.stages[0].model_copy(update=changes)]})


HOLE = MissingShard(shard=2, worker="perf-2", since_s=3, reason="perf-2 was lost")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"generator": GeneratorName.WRK2}, "different generators: fortio and wrk2"),
        ({"protocol": Protocol.GRPC}, "different protocols: http1 and grpc"),
        ({"connections": 8}, "different numbers of connections: 4 and 8"),
        ({"missing": [HOLE]}, "run run-2 lacks a part of its load: perf-2 was lost"),
        ({"saturation_rate": 80.0}, "run run-2 is a search for the highest rate"),
        ({"stages": []}, "different rates: 100/s and 50/s"),
        (
            {"targets": [TargetResult(url="http://b", weight=1, tally=Tally().message())]},
            "different numbers or weights of targets",
        ),
    ],
)
def test_runs_that_differ_are_not_compared(changes: dict[str, Any], reason: str) -> None:
    after = simulated(2).model_copy(update={"requested_rate": 50.0, **changes})
    comparison = compare([simulated(1)], [after])
    assert comparison.verdict is Outcome.INCONCLUSIVE
    assert comparison.changes == []
    assert any(note.startswith(reason) for note in comparison.notes), comparison.notes
    assert reason in comparison.text()
    assert comparison.headline == "inconclusive"


def test_stages_must_have_the_same_rates_and_durations() -> None:
    before, after = simulated(1), simulated(2)
    faster = compare([before], [other_stage(after, rate=200)])
    longer = compare([before], [other_stage(after, duration_s=60)])
    assert faster.notes == ["different rates: 100/s and 200/s"]
    assert longer.notes == ["different durations: 30 s and 60 s"]
    double = after.model_copy(update={"stages": after.stages * 2})
    assert compare([before], [double]).notes == ["different numbers of stages: 1 and 2"]


def test_too_little_is_not_compared() -> None:
    run = simulated(1)
    assert compare([], [run]).notes == ["there are no runs to compare with"]
    assert compare([run], []).notes == ["there are no runs to compare"]
    short = simulated(1, intervals=2)
    assert "too short" in compare([short], [short]).text()
    few = simulated(1, intervals=9, rate=5)
    assert "too few requests before the change: 45" in compare([few], [few]).text()
    bare = Tally()
    bare.durations.record(1000, times=500)
    assert "no counts by interval" in compare([run_of(bare)], [run_of(bare)]).text()


def test_stages_do_not_make_each_other_look_noisy() -> None:
    """Blocks stay within their stage, so a stage that is slower on purpose is no noise."""

    def staged(seed: int) -> Measurement:
        rng = np.random.default_rng(seed)
        parts = [
            tally(durations(rng, intervals=15, ms=ms, wander=0.01), first=first)
            for ms, first in ((10, 0), (60, 15))
        ]
        whole = Tally()
        for part in parts:
            whole.merge(part)
        made = run_of(whole)
        stage = made.stages[0]
        stages = [stage.model_copy(update={"tally": part.message()}) for part in parts]
        return made.model_copy(update={"stages": stages})

    def error(run: Measurement) -> float:
        return math.sqrt(observed(run).variances[Metric.MEAN])

    assert error(staged(1)) < 0.25 * error(staged(1).model_copy(update={"stages": []}))


def test_figures_are_those_of_the_whole_run() -> None:
    run = simulated(3, intervals=21, held_us=50_000)
    found = observed(run)
    for figures, message in (
        (found.figures, run.tally.responses),
        (found.durations, run.tally.durations),
    ):
        whole = Histogram.of(message)
        for metric, percentile in ((Metric.P50, 50), (Metric.P90, 90), (Metric.P99, 99)):
            assert figures[metric] == pytest.approx(whole.percentile_us(percentile), rel=5e-4)
        assert figures[Metric.MEAN] == pytest.approx(whole.mean_us)


def test_runs_that_kept_no_response_times_are_compared_by_durations() -> None:
    """As they were counted before response times were kept by interval."""
    counts = tally(durations(np.random.default_rng(1)))
    for interval in counts.intervals.values():
        interval.responses = Histogram()
    found = observed(run_of(counts))
    assert found.figures[Metric.P50] == pytest.approx(found.durations[Metric.P50], rel=5e-4)


def test_a_comparison_is_deterministic_and_travels() -> None:
    one, other = three(1), three(2, ms=28)
    comparison = compare(one, other)
    assert compare(one, other) == comparison
    assert Comparison.model_validate_json(comparison.model_dump_json()) == comparison


def test_a_comparison_is_quick_for_long_runs_as_well() -> None:
    for intervals in (60, 600):
        one, other = (simulated(seed, intervals=intervals) for seed in (1, 2))
        best_s = min(timed(one, other) for _ in range(3))
        assert best_s < 0.3, f"{intervals} intervals took {best_s:.2f} s"


def timed(one: Measurement, other: Measurement) -> float:
    began = time.process_time()
    compare([one], [other])
    return time.process_time() - began


def test_quantiles_of_t() -> None:
    """Against printed tables."""
    printed = ((0.025, 10, 2.228), (0.005, 5, 4.032), (0.0005, 20, 3.850), (0.0005, 4, 8.610))
    for tail, degrees, expected in (*printed, (0.05, 1, 6.314), (0.05, 2, 2.920)):
        assert quantile_of_t(tail, degrees) == pytest.approx(expected, rel=1e-3)
        assert tail_of_t(expected, degrees) == pytest.approx(tail, rel=2e-3)
    assert tail_of_t(-2.228, 10) == pytest.approx(0.975, rel=1e-3)
