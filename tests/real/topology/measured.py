"""What perf answers in tests of what people see: its own answers over runs that a test keeps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any, cast

from services.chassis.errors import MeshbusError, OperationCancelled
from services.chassis.messages import ErrorReport
from services.perf.comparison.baselines import BaselineRecord, extended
from services.perf.measurements.measurements import Measurement, StageResult, TargetResult
from services.perf.operations.gate import GATE
from services.perf.operations.loadtest import TEST
from services.perf.queries import Answers
from services.perf.runs.store import RunRecord, RunState, RunStore, Sample
from tests.unit.perf.sample_runs import measurement, tally

BEGAN = datetime(2026, 5, 1, 10, tzinfo=timezone.utc)


@dataclass(slots=True)
class Kept:
    """The runs of a store, in memory."""

    records: dict[str, RunRecord] = field(default_factory=dict)
    measurements: dict[str, Measurement] = field(default_factory=dict)
    baselines: list[BaselineRecord] = field(default_factory=list)

    async def run(self, run: str) -> RunRecord | None:
        return self.records.get(run)

    async def runs(self) -> list[RunRecord]:
        return sorted(self.records.values(), key=lambda record: record.asked, reverse=True)

    async def measurement(self, run: str) -> Measurement | None:
        return self.measurements.get(run)

    async def baseline_records(self) -> list[BaselineRecord]:
        return self.baselines

    async def baseline_measurements(self, record: BaselineRecord) -> Sequence[Measurement]:
        return [self.measurements[run] for run in record.runs]


@dataclass(slots=True)
class Perf:
    """A worker of perf as the console asks it."""

    kept: Kept = field(default_factory=Kept)
    failure: MeshbusError | None = None
    """What it answers with instead."""

    async def ask(self, verb: str, question: dict[str, Any]) -> Any:
        if self.failure is not None:
            raise self.failure
        unused = cast(Any, None)
        answers = Answers(
            publisher=unused,
            store=cast(RunStore, self.kept),
            cancel_operation=unused,
            drawn=unused,
            allowance=unused,
            regions=unused,
        )
        asked = {
            "status": answers.status,
            "results": answers.read,
            "compare": answers.compare,
            "baselines": answers.baselines,
        }
        return await asked[verb](question)

    # --- what is there ---------------------------------------------------------------------------

    def add(self, run: str, **fields: Any) -> RunRecord:
        """A record of a run on the cluster."""
        values: dict[str, Any] = {
            "operation": run,
            "kind": TEST.name,
            "cluster": "c1",
            "cluster_name": "kind-shop",
            "name": "checkout",
            "asked": BEGAN + timedelta(minutes=len(self.kept.records)),
        }
        record = RunRecord(run=run, **(values | fields))
        self.kept.records[run] = record
        return record

    def running(self, run: str = "r-now", *, seconds: int = 12, **fields: Any) -> RunRecord:
        """A run that has gone on for so long."""
        curve = [
            Sample(at_s=at, rate=98.0 + at % 3, p50_ms=4.0, p99_ms=20.0 + at, failed=at // 4)
            for at in range(1, seconds + 1)
        ]
        return self.add(
            run,
            state=RunState.RUNNING,
            started=BEGAN,
            duration_s=60.0,
            elapsed_s=float(seconds),
            workers=["perf-1"],
            requests=100 * seconds,
            failed=seconds // 4,
            rate=curve[-1].rate,
            p99_ms=curve[-1].p99_ms,
            codes={"200": 490, "503": 3},
            curve=curve,
            **fields,
        )

    def cancelled(self, run: str) -> RunRecord:
        """A run that somebody has ended: its record has what was told of it last."""
        asked = OperationCancelled("the run was cancelled on request")
        record = self.kept.records[run] = self.kept.records[run].ended_by(asked)
        return record

    def done(self, run: str, *, seed: int = 0, failing: int = 20, **fields: Any) -> RunRecord:
        """A run that is over, with its result."""
        counted = tally(seed=seed, failing=failing)
        message = counted.message()
        stages = [
            StageResult(
                rate=rate, duration_s=2.5, actual_rate=rate, tally=message, holds=rate < 150
            )
            for rate in (100.0, 200.0)
        ]
        targets = [
            TargetResult(url=f"http://checkout.shop/{path}", weight=1, tally=message)
            for path in ("cart", "pay")
        ]
        self.kept.measurements[run] = measurement(
            counted, run=run, stages=stages, targets=targets, warnings=["25 requests failed"]
        )
        return self.add(
            run,
            state=RunState.DONE,
            started=BEGAN,
            elapsed_s=5.0,
            workers=["perf-1", "perf-2"],
            requests=counted.requests,
            failed=counted.failed,
            rate=100.0,
            p99_ms=counted.durations.percentile_us(99) / 1000,
            **fields,
        )

    def gate(self, run: str = "g-1", **fields: Any) -> RunRecord:
        """A gate that rolled its change back, with three pairs of runs."""
        error = ErrorReport(
            code="MB-6104",
            summary="the change made the service worse: regression (p99)",
            cause="responses are slower with the change",
            remedy="the change was rolled back; look at the change",
        )
        for number in (1, 2, 3):
            for seed, side in ((0, "before"), (10, "after")):
                self.done(
                    f"{run}-{side}-{number}",
                    seed=seed + number,
                    failing=0,
                    kind=GATE.name,
                    operation=run,
                )
        return self.add(run, kind=GATE.name, state=RunState.FAILED, error=error, **fields)

    def baseline(self, name: str, *runs: str) -> None:
        record = None
        for run in runs:
            record = extended(record, name=name, measurement=self.kept.measurements[run])
        assert record is not None
        self.kept.baselines.append(record)


def settled() -> Perf:
    """A worker with one of everything."""
    perf = Perf()
    for number in range(4):
        perf.done(f"r-{number}", seed=number)
    perf.baseline("nightly", "r-0", "r-1", "r-2")
    perf.gate()
    perf.add(
        "r-failed",
        state=RunState.FAILED,
        error=ErrorReport(
            code="MB-6005",
            summary="no worker has the generator wrk2",
            cause="none was built with it",
            remedy="use fortio",
        ),
    )
    perf.running()
    return perf
