"""The gate: a change of the mesh's configuration that must not make a service slower.

Runs before the change, the change through lifecycle, runs after it, and a comparison; a change that
makes a figure worse than the threshold is rolled back. The former state of the changed objects is
stored before anything is applied, so that a worker that takes the gate over from a dead one can
still roll back.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from services.chassis.errors import (
    BusUnavailable,
    LeaseLost,
    LoadTestMalformed,
    MeshbusError,
    NoCluster,
    RegressionFound,
)
from services.chassis.kube.manifests import parse_manifest
from services.chassis.kube.objects import KubeObject
from services.chassis.messages import (
    AdvertisedOperation,
    Category,
    ClusterFacts,
    ErrorReport,
    SlotKind,
    Verb,
)
from services.chassis.operations.completion import Result, first_error
from services.chassis.reading.aside import read_aside
from services.perf.comparison.comparing import Comparison, Outcome, compare
from services.perf.definitions.loads import LoadTest
from services.perf.definitions.options import PerformanceOptions
from services.perf.definitions.reading import read_test
from services.perf.measurements.measurements import Measurement
from services.perf.operations.loadtest import MAY_TAKE_S
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
_FURTHER_RUNS = 2
_CLUSTERWIDE = ("GatewayClass",)
"""Kinds of the mesh's configuration that have no namespace."""
_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


@dataclass(frozen=True, slots=True)
class PerformanceGate:
    """The operation `performance-gate`."""

    runs: Runs
    store: RunStore

    async def run(self, work: Work) -> Result:
        """Raises `RegressionFound` when the change made the service worse."""
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
            change=_change(options, work.command.namespace),
        )
        async with self._recorded(work, test):
            comparison = await gate.pass_or_roll_back()
        return Result(
            f"Performance gate passed successfully{work.place}",
            f"{_names(gate.change)} stays: {_line(comparison)}",
            (("seconds", work.progress.seconds),),
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

    async def pass_or_roll_back(self) -> Comparison:
        """The comparison that lets the change pass; raises the reason why it was rolled back."""
        record = await self._record()
        try:
            if record.refusal is not None:
                raise record.refusal.error()  # a worker died in the middle of the rollback
            self.work.fence.check()
            before = await self._measure("before")
            self.work.note(f"Baseline: {_figures(before)}")
            record = record.model_copy(update={"is_changing": True})
            await self.store.save_gate(self.work.run, record)
            await self._apply()
            after = await self._measure("after")
            self.work.note(f"With the change: {_figures(after)}")
            comparison = await self._compare(before, after)
            if comparison.verdict in (Outcome.REGRESSION, Outcome.INCONCLUSIVE):
                raise _refusal(comparison)
        except Exception as raised:
            error = first_error(raised)
            if isinstance(error, LeaseLost | BusUnavailable):
                raise  # the gate goes on, here or in another worker
            if not record.is_changing:
                raise
            # How the service does with the change is unknown, so it does not stay.
            raise await self._roll_back(record, error) from raised
        return comparison

    async def _record(self) -> GateRecord:
        """The gate's record, with the former state of the objects; stored before they change."""
        kept = await self.store.gate(self.work.run)
        if kept is not None:
            return kept
        served = await self.mesh.facts()
        kinds = {_kind(obj) for obj in self.change}
        unknown = sorted(kinds - set(served.configuration_kinds()))
        if unknown:
            raise LoadTestMalformed(
                f"change: {', '.join(unknown)} is no configuration of the mesh that this cluster "
                "serves",
                remedy="a gate takes objects of Istio and of the Gateway API only",
            )
        record = _former(self.change, await self.mesh.facts(kinds=sorted(kinds)))
        await self.store.save_gate(self.work.run, record)
        return record

    async def _measure(self, part: str) -> list[Measurement]:
        found = []
        for number in range(1, self.options.repeats + 1):
            self.work.fence.check()
            self.work.note(f"Run {number} of {self.options.repeats} {part} the change")
            found.append(await self._run(f"{part}-{number}"))
        return found

    async def _run(self, part: str) -> Measurement:
        return await self.runs.measure(self.work, self.test, run=f"{self.work.run}-{part}")

    async def _apply(self) -> None:
        self.work.fence.check()
        await self.mesh.apply("change", self.change)
        settle_s = self.options.settleSeconds
        self.work.note(f"Applied {_names(self.change)}; settling for {settle_s:g} s")
        await self.work.fence.guard(asyncio.sleep(settle_s))

    async def _compare(self, before: Sequence[Measurement], after: list[Measurement]) -> Comparison:
        """Compares; runs the test again with the change while the comparison is inconclusive."""
        while True:
            comparison = await asyncio.to_thread(
                compare, before, after, threshold=self.options.threshold
            )
            is_open = comparison.verdict is Outcome.INCONCLUSIVE
            if not is_open or len(after) >= self.options.repeats + _FURTHER_RUNS:
                return comparison
            self.work.note(f"One more run: {_line(comparison)}")
            after.append(await self._run(f"after-{len(after) + 1}"))

    async def _roll_back(self, record: GateRecord, error: MeshbusError) -> MeshbusError:
        """Restores the former state; returns the error with that in its remedy."""
        if not self.options.rollback:
            return _with_remedy(error, "the change was left in place, as asked")
        refused = record.model_copy(update={"refusal": ErrorReport.of(error)})
        await self.store.save_gate(self.work.run, refused)
        # An id of its own for each attempt: one that failed has ended for good.
        attempt = self.work.progress.attempt
        failed: list[str] = []
        for change, objects, carry_out in (
            ("rollback", record.former, self.mesh.apply),
            ("removal", record.absent, self.mesh.delete),
        ):
            if objects:
                try:
                    await carry_out(f"{change}-{attempt}", objects)
                except (LeaseLost, BusUnavailable):
                    raise
                except MeshbusError as problem:
                    failed.append(
                        f"{_names(objects)} is still as the change left it ({problem.summary})"
                    )
        if failed:
            self.work.warn(f"The rollback failed: {'; '.join(failed)}")
            return _with_remedy(error, "; ".join(failed))
        self.work.warn(f"Rolled back {_names([*record.former, *record.absent])}")
        return _with_remedy(error, "the change was rolled back")


def _with_remedy(error: MeshbusError, done: str) -> MeshbusError:
    return type(error)(
        error.summary, cause=error.cause, remedy=f"{done}; {error.remedy}", subject=error.subject
    )


# --- the changed objects -------------------------------------------------------------------------


def _change(options: PerformanceOptions, namespace: str) -> list[KubeObject]:
    if not options.change.strip():
        raise LoadTestMalformed(
            "change of the PerformanceOptions is missing",
            remedy="put the manifest that is to be tried into spec.change of the options",
        )
    objects = parse_manifest(options.change)
    for obj in objects:
        if obj["kind"] in _CLUSTERWIDE:
            obj["metadata"].pop("namespace", None)
        else:
            obj["metadata"]["namespace"] = obj["metadata"].get("namespace") or namespace
    return objects


def _former(change: Sequence[KubeObject], facts: ClusterFacts) -> GateRecord:
    there = {_identity(obj): obj for obj in facts.objects}
    return GateRecord(
        former=[_own(there[_identity(obj)]) for obj in change if _identity(obj) in there],
        absent=[_bare(obj) for obj in change if _identity(obj) not in there],
    )


def _identity(obj: KubeObject) -> tuple[str, str, str]:
    metadata = obj["metadata"]
    return _kind(obj), metadata.get("namespace", ""), metadata["name"]


def _kind(obj: KubeObject) -> str:
    return f"{obj['apiVersion'].rpartition('/')[0]}/{obj['kind']}"


def _names(objects: Sequence[KubeObject]) -> str:
    return ", ".join(
        f"{obj['kind']} {obj['metadata'].get('namespace', '')}/{obj['metadata']['name']}"
        for obj in objects
    )


def _bare(obj: KubeObject) -> KubeObject:
    kept = {k: v for k, v in obj["metadata"].items() if k in ("name", "namespace")}
    return {"apiVersion": obj["apiVersion"], "kind": obj["kind"], "metadata": kept}


def _own(obj: KubeObject) -> KubeObject:
    """The object as a user would write it, to apply it again."""
    bare = _bare(obj)
    metadata = obj["metadata"]
    annotations = {k: v for k, v in metadata.get("annotations", {}).items() if k != _LAST_APPLIED}
    kept = {"labels": metadata.get("labels"), "annotations": annotations}
    bare["metadata"] |= {name: value for name, value in kept.items() if value}
    others = {k: v for k, v in obj.items() if k not in ("metadata", "status")}
    return {**others, **bare}


# --- texts ---------------------------------------------------------------------------------------


def _figures(measurements: Sequence[Measurement]) -> str:
    return "; ".join(summary(measurement).partition("\n")[0] for measurement in measurements)


def _refusal(comparison: Comparison) -> RegressionFound:
    if comparison.verdict is Outcome.REGRESSION:
        return RegressionFound(f"the change made the service worse: {_line(comparison)}")
    return RegressionFound(
        f"whether the change made the service worse cannot be told: {_line(comparison)}",
        cause="the runs differ too much among themselves, or cannot be compared",
        remedy="try again with longer runs or more repeats",
    )


def _line(comparison: Comparison) -> str:
    return "; ".join(comparison.text().splitlines())
