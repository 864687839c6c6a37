"""The runs by which the gate's rates of error are measured are what they claim to be."""

from __future__ import annotations

import numpy as np
import pytest

from services.perf.comparison.comparing import Outcome
from services.perf.comparison.metrics import Metric
from services.perf.comparison.observations import observed
from services.perf.measurements.histograms import Histogram
from tests.bench.gate import Rates, Setting, comparisons
from tests.bench.simulated_runs import Service, simulated


def rng(seed: int = 1) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_a_run_counts_as_the_worker_would() -> None:
    run = simulated(Service(seconds=5), rng())
    assert run.tally.requests == 500
    assert sum(interval.requests for interval in run.tally.intervals) == 500
    whole = Histogram()
    for interval in run.tally.intervals:
        whole.merge_message(interval.responses)
    assert whole.message() == run.tally.responses
    recorded = Histogram()
    for slot, count in whole.ascending():
        recorded.counts[slot] = count
    assert recorded.counts == Histogram.of(run.tally.responses).counts


def test_a_stall_shows_in_the_response_times_and_hardly_in_the_durations() -> None:
    found = observed(simulated(Service(stall_every_s=20, seconds=60), rng()))
    assert found.figures[Metric.P99] > 500_000
    assert found.durations[Metric.P99] < 100_000


def test_a_slow_drift_goes_on_from_run_to_run() -> None:
    apart, slow = (
        np.array([Setting(drift=0.1, is_slow=is_slow).shifts(3, rng(n)) for n in range(400)])
        for is_slow in (False, True)
    )
    differences = [(each[..., 1] - each[..., 0]).std() for each in (apart, slow)]
    assert differences[0] == pytest.approx(0.141, rel=0.1)
    assert differences[1] == pytest.approx(0.1 / np.sqrt(5), rel=0.1)


def test_gates_over_a_small_pool() -> None:
    """The bars, by a few runs of the simulation; `make gate-simulation` has thousands."""
    generator = rng()
    pool = [observed(simulated(Service(), generator)) for _ in range(40)]
    stalled = [observed(simulated(Service(stall_every_s=20), generator)) for _ in range(20)]
    for after, slower, expected in ((pool, 1.0, 0.0), (pool, 1.3, 1.0), (stalled, 1.0, 1.0)):
        rates = Rates()
        for _ in range(60):
            setting = Setting(drift=0.02, is_slow=False, slower=slower)
            rates.add(list(comparisons(pool, after, setting, generator)))
        assert rates.regressions / rates.count == expected, rates
        assert rates.at_three / rates.count == pytest.approx(expected, abs=0.1)


def test_a_gate_looks_again_while_it_cannot_tell() -> None:
    generator = rng(3)
    pool = [observed(simulated(Service(seconds=10), generator)) for _ in range(10)]
    setting = Setting(drift=0.1, is_slow=False, slower=1.15)
    found = [list(comparisons(pool, pool, setting, generator)) for _ in range(40)]
    longer = [each for each in found if len(each) > 1]
    assert longer
    for each in longer:
        assert all(one.verdict is Outcome.INCONCLUSIVE for one in each[:-1])
    assert max(len(each) for each in found) <= 4
