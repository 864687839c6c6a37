"""The gate: a change of the mesh's configuration that must not make a service slower.

Runs without the change and with it alternate, and a comparison judges them; a change that makes a
figure worse than the threshold is rolled back, and so is one with which a single run breaks the
test's objective. A comparison that cannot tell rolls nothing back. The former state of the changed
objects is stored before anything is applied, so that a worker that takes the gate over from a dead
one can still roll back.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from services.chassis.errors import (
    BusUnavailable,
    LeaseLost,
    LoadTestMalformed,
    MeshbusError,
    NoCluster,
    ObjectiveBroken,
    RegressionFound,
)
from services.chassis.kube.objects import KubeObject
from services.chassis.messages import AdvertisedOperation, Category, ErrorReport, SlotKind, Verb
from services.chassis.operations.completion import Result, first_error
from services.chassis.reading.aside import read_aside
from services.perf.comparison.comparing import LEAST_PAIRS, Comparison, Outcome, compare
from services.perf.definitions.loads import LoadTest
from services.perf.definitions.options import PerformanceOptions
from services.perf.definitions.reading import read_test
from services.perf.measurements.measurements import Measurement
from services.perf.operations.alternating import Side, Turn, looks, turns
from services.perf.operations.changes import changed, former, kind_of, names
from services.perf.operations.loadtest import MAY_TAKE_S, baseline_runs
from services.perf.results.summaries import summary
from services.perf.runs.runs import Runs
from services.perf.runs.store import GateRecord, RunRecord, RunState, RunStore
from services.perf.runs.work import Mesh, Work

GATE = AdvertisedOperation(
    name="performance-gate",
    description="Performance gate around a configuration change",
    category=Category.VALIDATE,
    slot=SlotKind.APPLY,
    may_take_s=MAY_TAKE_S,
)


@dataclass(frozen=True, slots=True)
class PerformanceGate:
    """The operation `performance-gate`."""

    runs: Runs
    store: RunStore

    async def run(self, work: Work) -> Result:
        """Raises `RegressionFound` when the change made the service worse, and `ObjectiveBroken`
        when a run with it broke the test's objective."""
        if work.command.verb is Verb.DELETE:
            return Result(
                f"Performance gate removed successfully{work.place}",
                "A gate leaves nothing behind but the change, if that passed.",
            )
        body = work.command.body
        test, options = await read_aside(lambda: read_test(body), size=len(body))
        if work.mesh is None:
            raise NoCluster("a gate changes a cluster's configuration, and none is named")
        gate = _Gate(
            runs=self.runs,
            store=self.store,
            work=work,
            mesh=work.mesh,
            test=test,
            options=options,
            change=changed(options, work.command.namespace),
        )
        async with self._recorded(work, test):
            comparison = await gate.pass_or_roll_back()
        is_open = comparison.verdict is Outcome.INCONCLUSIVE
        # Meshery knows a success by that word.
        ended = "finished successfully without a verdict" if is_open else "passed successfully"
        return Result(
            f"Performance gate {ended}{work.place}: {comparison.headline}",
            f"{names(gate.change)} stays: {_line(comparison)}",
            (("seconds", work.progress.seconds), *comparison.numbers),
        )

    @asynccontextmanager
    async def _recorded(self, work: Work, test: LoadTest) -> AsyncIterator[None]:
        """Keeps a record of the gate beside those of its runs, for its status and its end."""
        record = RunRecord.of(work.command, run=work.run, name=test.name, state=RunState.RUNNING)
        await self.store.save_run(record)
        try:
            yield
        except Exception as raised:
            error = first_error(raised)
            if not isinstance(error, LeaseLost | BusUnavailable):
                await self.store.save_run(record.ended_by(error))
            raise
        await self.store.save_run(record.model_copy(update={"state": RunState.DONE}))


@dataclass(slots=True, kw_only=True)
class _Gate:
    """One gate under way."""

    runs: Runs
    store: RunStore
    work: Work
    mesh: Mesh
    test: LoadTest
    options: PerformanceOptions
    change: Sequence[KubeObject]
    record: GateRecord = field(default_factory=GateRecord)
    measured: dict[Side, list[Measurement]] = field(
        default_factory=lambda: {side: [] for side in Side}
    )
    switched: int = 0
    """The last switch of the mesh that this worker has made or found made."""

    async def pass_or_roll_back(self) -> Comparison:
        """The comparison that lets the change stay; raises the reason why it was rolled back."""
        self.record = await self._recorded()
        try:
            if self.record.refusal is not None:
                raise self.record.refusal.error()  # a worker died in the middle of the rollback
            comparison = await self._judge()
            if comparison.verdict is Outcome.REGRESSION:
                self.work.warn(f"The change made the service worse: {comparison.headline}")
                raise RegressionFound(f"the change made the service worse: {_line(comparison)}")
            await self._leave_changed()
        except Exception as raised:
            error = first_error(raised)
            if isinstance(error, LeaseLost | BusUnavailable):
                raise  # the gate goes on, here or in another worker
            if not self.record.is_changing:
                raise
            # How the service does with the change is unknown, so it does not stay.
            raise await self._roll_back(error) from raised
        if comparison.verdict is Outcome.INCONCLUSIVE:
            self.work.warn(f"Nothing is rolled back without proof: {_line(comparison)}")
        return comparison

    async def _recorded(self) -> GateRecord:
        """The gate's record, with the former state of the objects; stored before they change."""
        kept = await self.store.gate(self.work.run)
        if kept is not None:
            return kept
        served = await self.mesh.facts()
        kinds = {kind_of(obj) for obj in self.change}
        unknown = sorted(kinds - set(served.configuration_kinds()))
        if unknown:
            raise LoadTestMalformed(
                f"change: {', '.join(unknown)} is no configuration of the mesh that this cluster "
                "serves",
                remedy="a gate takes objects of Istio and of the Gateway API only",
            )
        record = former(self.change, await self.mesh.facts(kinds=sorted(kinds)))
        await self.store.save_gate(self.work.run, record)
        return record

    # --- runs ------------------------------------------------------------------------------------

    async def _judge(self) -> Comparison:
        """Makes the runs and compares them; adds pairs while the comparison is inconclusive."""
        pairs, further = self.options.repeats, self.options.furtherPairs
        if not self.options.alternate or pairs < LEAST_PAIRS:
            further = 0  # a pair more needs a switch, and helps only what can be judged at all
        history = await baseline_runs(self.store, self.test)
        done = 0
        for wanted in looks(pairs, further):
            for turn in turns(done + 1, wanted, alternates=self.options.alternate):
                await self._take(turn, of=wanted)
            done = wanted
            comparison = await asyncio.to_thread(
                compare,
                self.measured[Side.BEFORE],
                self.measured[Side.AFTER],
                threshold=self.options.threshold,
                is_paired=self.options.alternate,
                looks=looks(pairs, further),
                history=history,
            )
            if comparison.verdict is not Outcome.INCONCLUSIVE or wanted == pairs + further:
                break
            self.work.note(f"One more pair of runs: {_line(comparison)}")
        return comparison

    async def _take(self, turn: Turn, *, of: int) -> None:
        """Makes one run, or reads it back where an earlier worker has made it."""
        self.work.fence.check()
        run = f"{self.work.run}-{turn.side}-{turn.number}"
        if await self.store.measurement(run) is None:
            await self._switch_to(turn)
            self.work.note(f"Run {turn.number} of {of} {turn.side} the change")
        else:
            self.switched = turn.switches
        measurement = await self.runs.measure(self.work, self.test, run=run)
        self.measured[turn.side].append(measurement)
        told = "With the change" if turn.side is Side.AFTER else "Baseline"
        self.work.note(f"{told}: {summary(measurement).partition(chr(10))[0]}")
        self._check_objective(turn, measurement)

    def _check_objective(self, turn: Turn, measurement: Measurement) -> None:
        """Raises `ObjectiveBroken` for a run with the change that breaks what all runs without it
        hold: one is enough, because a limit needs no comparison."""
        broken = _broken(measurement)
        if not broken:
            return
        if turn.side is Side.AFTER and not any(map(_broken, self.measured[Side.BEFORE])):
            raise ObjectiveBroken(f"with the change the objective does not hold: {broken}")
        if turn.side is Side.BEFORE:
            self.work.warn(f"The objective does not hold without the change either: {broken}")

    # --- the mesh --------------------------------------------------------------------------------

    async def _switch_to(self, turn: Turn) -> None:
        """Brings the mesh into the state of this run. A switch that was made is not made again:
        lifecycle knows it by its id."""
        if turn.switches == self.switched:
            return
        self.switched = turn.switches
        if turn.side is Side.AFTER:
            await self._apply(turn.switches)
            told = f"Applied {names(self.change)}"
        else:
            failed = await self._restore(f"{turn.switches}")
            if failed:
                raise failed[0][1]
            told = f"Took back {names(self.change)}"
        settle_s = self.options.settleSeconds
        self.work.note(f"{told}; settling for {settle_s:g} s")
        await self.work.fence.guard(asyncio.sleep(settle_s))

    async def _apply(self, switch: int) -> None:
        self.work.fence.check()
        if not self.record.is_changing:
            self.record = self.record.model_copy(update={"is_changing": True})
            await self.store.save_gate(self.work.run, self.record)
        await self.mesh.apply(f"change-{switch}", self.change)

    async def _leave_changed(self) -> None:
        """The change stays: applied once more where the last run was without it."""
        if self.switched % 2 == 0:
            self.switched += 1
            await self._apply(self.switched)
            self.work.note(f"Applied {names(self.change)}, which stays")

    async def _restore(self, attempt: str) -> list[tuple[Sequence[KubeObject], MeshbusError]]:
        """Restores the former state; returns what could not be restored, and why."""
        failed: list[tuple[Sequence[KubeObject], MeshbusError]] = []
        for change, objects, carry_out in (
            ("rollback", self.record.former, self.mesh.apply),
            ("removal", self.record.absent, self.mesh.delete),
        ):
            if objects:
                try:
                    await carry_out(f"{change}-{attempt}", objects)
                except (LeaseLost, BusUnavailable):
                    raise
                except MeshbusError as problem:
                    failed.append((objects, problem))
        return failed

    async def _roll_back(self, error: MeshbusError) -> MeshbusError:
        """Restores the former state; returns the error with that in its remedy."""
        if not self.options.rollback:
            return _with_remedy(error, "the change was left in place, as asked")
        refused = self.record.model_copy(update={"refusal": ErrorReport.of(error)})
        await self.store.save_gate(self.work.run, refused)
        # An id of its own for each attempt: one that failed has ended for good.
        failed = await self._restore(f"final-{self.work.progress.attempt}")
        if failed:
            told = "; ".join(
                f"{names(objects)} is still as the change left it ({problem.summary})"
                for objects, problem in failed
            )
            self.work.warn(f"The rollback failed: {told}")
            return _with_remedy(error, told)
        self.work.warn(f"Rolled back {names([*self.record.former, *self.record.absent])}")
        return _with_remedy(error, "the change was rolled back")


def _with_remedy(error: MeshbusError, done: str) -> MeshbusError:
    return type(error)(
        error.summary, cause=error.cause, remedy=f"{done}; {error.remedy}", subject=error.subject
    )


def _broken(measurement: Measurement) -> str:
    """Why a run broke the test's objective; empty where it held, or where there is none."""
    stages = [stage for stage in measurement.stages if stage.holds is False]
    return "; ".join(stage.reason or "did not hold" for stage in stages)


def _line(comparison: Comparison) -> str:
    return "; ".join(comparison.text().splitlines())
