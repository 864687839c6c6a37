"""Whether a regression is told from noise, on simulated runs whose truth is known.

Within a run the level of the latency wanders (an autoregression from interval to interval), between
runs it drifts. tests/real/perf/false_alarms.py measures the same with a real server and fortio.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from services.perf.comparison.comparing import Change, Comparison, Outcome, compare
from services.perf.comparison.differences import quantile_of_t
from services.perf.comparison.resampling import Metric, table
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
PAIRS = pytest.mark.parametrize("count", [60, pytest.param(200, marks=pytest.mark.full)])
"""How many pairs of runs a rate is judged by."""
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


def tally(rows: Sequence[Sequence[int]] | Ints, *, failed: float = 0.0, first: int = 0) -> Tally:
    """Counts of these durations; of each interval this share has failed."""
    found = Tally()
    for index, row in enumerate(rows, start=first):
        interval = found.intervals[index] = Interval()
        for value, times in zip(*np.unique(np.asarray(row), return_counts=True), strict=True):
            interval.durations.record(int(value), int(times))
        interval.failed = round(failed * len(row))
        interval.codes["200"] = len(row) - interval.failed
        found.durations.merge(interval.durations)
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


def simulated(seed: int, *, failed: float = 0.0, **shape: Any) -> Measurement:
    return run_of(tally(durations(np.random.default_rng(seed), **shape), failed=failed))


def change(comparison: Comparison, metric: Metric) -> Change:
    return next(each for each in comparison.changes if each.metric is metric)


def counting(comparison: Comparison) -> set[Metric]:
    return {each.metric for each in comparison.changes if each.counts}


# --- rates of error ------------------------------------------------------------------------------


def pairs(
    count: int, *, slower: float = 1.0, drift: float = 0.015
) -> Iterator[tuple[Measurement, Measurement]]:
    for seed in range(count):
        yield (
            simulated(2 * seed, drift=drift),
            simulated(2 * seed + 1, drift=drift, ms=20 * slower),
        )


@PAIRS
def test_identical_runs_raise_no_more_alarms_than_the_level_allows(count: int) -> None:
    verdicts = [compare([a], [b], level=LEVEL).verdict for a, b in pairs(count)]
    assert verdicts.count(Outcome.REGRESSION) <= LEVEL * count
    assert verdicts.count(Outcome.IMPROVEMENT) <= LEVEL * count
    assert verdicts.count(Outcome.INCONCLUSIVE) <= 0.1 * count


@PAIRS
def test_a_service_that_is_30_percent_slower_is_caught(count: int) -> None:
    verdicts = [compare([a], [b]).verdict for a, b in pairs(count, slower=1.3)]
    assert verdicts.count(Outcome.REGRESSION) >= 0.99 * count


@PAIRS
def test_blocks_hold_the_level_even_without_a_threshold_where_single_requests_do_not(
    count: int,
) -> None:
    """The second half shows that the simulated runs are hard enough to mean something."""
    blocks = requests = 0
    for seed in range(count):
        rng = np.random.default_rng(seed)
        one, other = durations(rng, wander=0.06), durations(rng, wander=0.06)
        comparison = compare([run_of(tally(one))], [run_of(tally(other))], threshold=0)
        blocks += bool(counting(comparison))
        requests += kolmogorov_smirnov(one.ravel(), other.ravel()) < LEVEL
    assert blocks <= 2 * LEVEL * count
    assert requests >= 10 * LEVEL * count


def kolmogorov_smirnov(one: Ints, other: Ints) -> float:
    """Chance of so large a distance if all requests were independent."""
    both = np.sort(np.concatenate([one, other]))
    shares = [
        np.searchsorted(np.sort(each), both, side="right") / len(each) for each in (one, other)
    ]
    distance = float(np.abs(shares[0] - shares[1]).max())
    effective = len(one) * len(other) / (len(one) + len(other))
    return min(1.0, 2 * float(np.exp(-2 * effective * distance**2)))


def test_several_runs_show_how_far_runs_differ_and_widen_the_interval() -> None:
    alike = [simulated(seed, ms=20) for seed in range(4)]
    apart = [simulated(seed, ms=ms) for seed, ms in enumerate((16, 18, 22, 25))]
    slower = [simulated(9, ms=24)]
    assert compare(alike, slower).verdict is Outcome.REGRESSION
    assert compare(apart, slower).verdict is not Outcome.REGRESSION
    widths = [
        (found.high or 0) - (found.low or 0)
        for found in (change(compare(side, slower), Metric.P50) for side in (alike, apart))
    ]
    assert widths[1] > 2 * widths[0]


def test_more_runs_make_the_interval_narrower() -> None:
    def width(runs: int, first: int) -> float:
        sides = [[simulated(first + 2 * n + side) for n in range(runs)] for side in (0, 1)]
        found = change(compare(*sides), Metric.P50)
        return (found.high or 0) - (found.low or 0)

    one, four = (sum(width(runs, first) for first in range(0, 80, 8)) for runs in (1, 4))
    assert 0 < four < 0.75 * one


# --- what counts ---------------------------------------------------------------------------------


def test_a_regression_tells_each_figure_with_its_interval() -> None:
    comparison = compare([simulated(1)], [simulated(2, ms=28)])
    assert comparison.verdict is Outcome.REGRESSION
    assert counting(comparison) >= {Metric.P50, Metric.P90, Metric.MEAN}
    p50 = change(comparison, Metric.P50)
    assert p50.low is not None
    assert p50.high is not None
    assert 0.2 < p50.low < 0.4 < p50.high < 0.6
    assert p50.before == pytest.approx(20, rel=0.1)
    first, *lines = comparison.text().splitlines()
    assert first.startswith("regression (p50, p90,")
    assert lines[0].startswith("p50: ")
    assert lines[0].endswith(": worse")
    assert any(line.startswith("One run on each side") for line in lines)


def test_swapped_sides_give_the_mirrored_answer() -> None:
    one, other = simulated(1), simulated(2, ms=28)
    there, back = compare([one], [other]), compare([other], [one])
    assert back.verdict is Outcome.IMPROVEMENT
    assert counting(back) == counting(there)
    for found, mirrored in zip(there.changes, back.changes, strict=True):
        if found.metric is not Metric.FAILED and found.low is not None:
            assert mirrored.high == pytest.approx(1 / (1 + found.low) - 1)


def test_a_change_below_the_threshold_is_none_however_sure_it_is() -> None:
    steady = [[18_000 + 40 * step for step in range(100)]] * 30
    slower = [[round(value * 1.07) for value in row] for row in steady]
    comparison = compare([run_of(tally(steady))], [run_of(tally(slower))])
    assert comparison.verdict is Outcome.SAME
    assert (change(comparison, Metric.P50).low or 0) > 0.06
    stricter = compare([run_of(tally(steady))], [run_of(tally(slower))], threshold=0.05)
    assert stricter.verdict is Outcome.REGRESSION


def test_what_cannot_be_measured_on_a_small_machine_never_counts() -> None:
    fast, slower = ([[us + step for step in range(100)]] * 30 for us in (300, 450))
    comparison = compare([run_of(tally(fast))], [run_of(tally(slower))])
    assert change(comparison, Metric.P50).change > 0.3
    assert comparison.verdict is Outcome.SAME


def test_p99_needs_a_thousand_requests() -> None:
    before, after = simulated(1, rate=30), simulated(2, rate=30)
    comparison = compare([before], [after])
    assert change(comparison, Metric.P99).low is None
    assert change(comparison, Metric.P90).low is not None
    assert "p99 needs 1000 requests on each side; there are 900" in comparison.notes


def test_failures_are_a_regression_though_durations_stay() -> None:
    comparison = compare([simulated(1)], [simulated(2, failed=0.03)])
    assert comparison.verdict is Outcome.REGRESSION
    assert counting(comparison) == {Metric.FAILED}
    failed = change(comparison, Metric.FAILED)
    assert (failed.before, failed.after, failed.change) == (0, 0.03, 0.03)
    assert "failed: 0.00% to 3.00%, +3.0 points" in comparison.text()


def test_a_target_that_refuses_quickly_is_no_improvement() -> None:
    comparison = compare([simulated(1)], [simulated(2, ms=2, failed=0.5)])
    assert comparison.verdict is Outcome.REGRESSION
    assert counting(comparison) == {Metric.FAILED}
    assert change(comparison, Metric.P50).low is None


def test_a_target_that_refused_before_and_after_is_not_judged() -> None:
    sides = simulated(1, failed=0.5), simulated(2, failed=0.5)
    assert compare([sides[0]], [sides[1]]).verdict is Outcome.INCONCLUSIVE


def test_a_rate_that_is_not_reached_any_more_is_a_regression() -> None:
    rows = durations(np.random.default_rng(1))
    slower = durations(np.random.default_rng(2), rate=70)
    comparison = compare([run_of(tally(rows))], [run_of(tally(slower))])
    assert comparison.verdict is Outcome.REGRESSION
    assert counting(comparison) == {Metric.RATE}
    rate = change(comparison, Metric.RATE)
    assert (rate.before, rate.after) == (100, 70)


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
    after = simulated(2).model_copy(update={"rerun": [2]})
    comparison = compare([simulated(1)], [after])
    assert change(comparison, Metric.RATE).low is None
    assert comparison.verdict is Outcome.SAME
    assert any("ran again" in note for note in comparison.notes)


def test_large_but_uncertain_changes_are_inconclusive() -> None:
    short = {"intervals": 6, "rate": 50, "wander": 0.02}
    comparison = compare([simulated(3, **short)], [simulated(4, **short, ms=22)])
    assert comparison.verdict is Outcome.INCONCLUSIVE
    assert not counting(comparison)
    assert any("not proven" in note for note in comparison.notes)


def test_runs_that_vary_too_much_are_inconclusive_and_not_the_same() -> None:
    wild = {"intervals": 8, "wander": 0.6, "rate": 20}
    comparison = compare([simulated(5, **wild)], [simulated(5, **wild)])
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
        ({"missing": [HOLE]}, "run run lacks a part of its load: perf-2 was lost"),
        ({"saturation_rate": 80.0}, "run run is a search for the highest rate"),
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

    apart = change(compare([staged(1)], [staged(2)]), Metric.MEAN)
    merged = change(
        compare(*([staged(n).model_copy(update={"stages": []})] for n in (1, 2))), Metric.MEAN
    )
    assert (apart.high or 1) - (apart.low or 0) < 0.25 * ((merged.high or 0) - (merged.low or 0))


def test_figures_are_those_of_the_merged_histogram() -> None:
    runs = [simulated(seed, intervals=7) for seed in range(3)]
    whole = Histogram()
    for run in runs:
        whole.merge(Histogram.of(run.tally.durations))
    figures = table([[run.tally] for run in runs]).figures()
    for metric, percentile in ((Metric.P50, 50), (Metric.P90, 90), (Metric.P99, 99)):
        assert figures[metric] == pytest.approx(whole.percentile_us(percentile), rel=5e-4)
    assert figures[Metric.MEAN] == pytest.approx(whole.mean_us)


def test_a_comparison_is_deterministic_and_travels() -> None:
    one, other = simulated(1), simulated(2, ms=28)
    comparison = compare([one], [other])
    assert compare([one], [other]) == comparison
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
    for tails, degrees, expected in ((0.05, 10, 2.228), (0.01, 5, 4.032), (0.001, 20, 3.850)):
        assert quantile_of_t(tails, degrees) == pytest.approx(expected, rel=0.02)
    assert quantile_of_t(0.001, 4) == pytest.approx(8.610, rel=0.05)
