"""The curve that a run's record has while it runs."""

from __future__ import annotations

from typing import Any, cast

from services.chassis.errors import OperationCancelled
from services.perf.definitions.loads import LoadTest, Protocol, Target
from services.perf.runs.runs import _Run
from services.perf.runs.store import RunRecord, RunState
from tests.unit.perf.sample_runs import tally


class _Reports:
    """What the running step was told of its last seconds."""

    def recent(self, _intervals: int) -> Any:
        return tally(seconds=1)


def _run() -> _Run:
    test = LoadTest(targets=[Target(url="http://cart.shop/", protocol=Protocol.HTTP1)])
    record = RunRecord(run="r", operation="r", kind="performance-test", cluster="none")
    return _Run(
        work=cast(Any, None),
        test=test,
        record=record,
        interval_s=1.0,
        assignments=cast(Any, _Reports()),
    )


def _status(run: _Run, at_s: float) -> RunRecord:
    changes = {"elapsed_s": at_s, "rate": 50.0, "p99_ms": 9.0}
    return run.record.model_copy(update=changes)


def test_a_curve_grows_and_is_thinned_out() -> None:
    run = _run()
    for second in range(1, 2_001):
        told = run.note(_status(run, float(second)))
        assert len(told.curve) <= 240
    times = [sample.at_s for sample in told.curve]
    assert times == sorted(times)
    assert times[0] == 1.0
    assert times[-1] > 1_990
    assert len(told.model_dump_json()) < 40_000


def test_another_step_begins_a_curve_of_its_own() -> None:
    run = _run()
    for second in (1.0, 2.0, 3.0, 0.5, 1.5):
        told = run.note(_status(run, second))
    assert [sample.at_s for sample in told.curve] == [0.5, 1.5]


def test_what_was_told_last_stays_of_a_run_that_is_cancelled() -> None:
    run = _run()
    assert run.told == run.record
    for second in (1.0, 2.0):
        told = run.note(_status(run, second))
    ended = run.told.ended_by(OperationCancelled("the run was cancelled on request"))
    assert ended.state is RunState.CANCELLED
    assert ended.curve == told.curve
    assert ended.elapsed_s == 2.0


def test_what_is_not_known_is_no_sample() -> None:
    run = _run()
    assert run.note(run.record.model_copy(update={"elapsed_s": 1.0})).curve == []
