"""The gate: a change of the mesh's configuration that must not make a service slower.

Runs before the change, the change through lifecycle, runs after it, and a comparison; what got
worse than the threshold is rolled back. The former state of the changed objects is stored before
anything is applied, so that whoever takes the gate over from a dead worker can still roll back.
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
from services.chassis.messages import ClusterFacts, ErrorReport, Verb
from services.chassis.operations.completion import Result, first_error
from services.perf.comparison.comparing import Comparison, Outcome, compare
from services.perf.definitions.loads import LoadTest
from services.perf.definitions.options import PerformanceOptions
from services.perf.definitions.reading import read_test
from services.perf.measurements.measurements import Measurement
from services.perf.results.summaries import summary
from services.perf.runs.runs import Runs
from services.perf.runs.store import RunStore
from services.perf.runs.wire import GateRecord, RunRecord, RunState
from services.perf.runs.work import Mesh, Work

_FURTHER_RUNS = 2
_CLUSTERWIDE = ("GatewayClass",)
"""Kinds of the mesh's configuration that have no namespace."""
_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


@dataclass(frozen=True, slots=True)
class Gates:
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
        test, options = read_test(work.command.body)
        if work.mesh is None:
            raise NoCluster("a gate changes a cluster's configuration, and none is named")
        change = _change(options, work.command.namespace)
        async with self._told(work, test):
            return await self._gated(work, work.mesh, test, options, change)

    @asynccontextmanager
    async def _told(self, work: Work, test: LoadTest) -> AsyncIterator[None]:
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

    async def _gated(
        self,
        work: Work,
        mesh: Mesh,
        test: LoadTest,
        options: PerformanceOptions,
        change: Sequence[KubeObject],
    ) -> Result:
        record = await self._remembered(work, mesh, change)
        try:
            if record.refusal is not None:
                raise record.refusal.error()  # a worker died in the middle of the rollback
            work.fence.check()
            before = await self._runs(work, test, "before", options.repeats)
            work.progress.note(f"Baseline: {_figures(before)}{work.place}")
            record = record.model_copy(update={"is_changing": True})
            await self.store.save_gate(work.run, record)
            await self._applied(work, mesh, change, options)
            after = await self._runs(work, test, "after", options.repeats)
            work.progress.note(f"With the change: {_figures(after)}{work.place}")
            comparison = await self._compared(work, test, before, after, options)
            if comparison.verdict in (Outcome.REGRESSION, Outcome.INCONCLUSIVE):
                raise _refusal(comparison)
        except Exception as raised:
            error = first_error(raised)
            if isinstance(error, LeaseLost | BusUnavailable):
                raise  # the gate goes on, here or in another worker
            if not record.is_changing:
                raise
            # Nobody knows how the service does with the change, so it does not stay.
            raise await self._rolled_back(work, mesh, record, error, options) from raised
        return _result(work, comparison, change)

    async def _compared(
        self,
        work: Work,
        test: LoadTest,
        before: Sequence[Measurement],
        after: list[Measurement],
        options: PerformanceOptions,
    ) -> Comparison:
        """The comparison; one that tells nothing yet gets further runs with the change."""
        while True:
            comparison = await asyncio.to_thread(
                compare, before, after, threshold=options.threshold
            )
            is_open = comparison.verdict is Outcome.INCONCLUSIVE
            if not is_open or len(after) >= options.repeats + _FURTHER_RUNS:
                return comparison
            work.progress.note(f"One more run: {_line(comparison)}{work.place}")
            run = f"{work.run}-after-{len(after) + 1}"
            after.append(await self.runs.measure(work, test, run=run))

    async def _remembered(self, work: Work, mesh: Mesh, change: Sequence[KubeObject]) -> GateRecord:
        kept = await self.store.gate(work.run)
        if kept is not None:
            return kept
        served = await mesh.facts()
        kinds = {_kind(obj) for obj in change}
        unknown = sorted(kinds - set(served.configuration_kinds()))
        if unknown:
            raise LoadTestMalformed(
                f"change: {', '.join(unknown)} is no configuration of the mesh that this cluster "
                "serves",
                remedy="a gate takes objects of Istio and of the Gateway API only",
            )
        record = _former(change, await mesh.facts(kinds=sorted(kinds)))
        await self.store.save_gate(work.run, record)
        return record

    async def _runs(self, work: Work, test: LoadTest, part: str, repeats: int) -> list[Measurement]:
        found = []
        for number in range(1, repeats + 1):
            work.fence.check()
            work.progress.note(f"Run {number} of {repeats} {part} the change{work.place}")
            run = f"{work.run}-{part}-{number}"
            found.append(await self.runs.measure(work, test, run=run))
        return found

    async def _applied(
        self,
        work: Work,
        mesh: Mesh,
        change: Sequence[KubeObject],
        options: PerformanceOptions,
    ) -> None:
        work.fence.check()
        await mesh.apply("change", change)
        names = ", ".join(_name(obj) for obj in change)
        work.progress.note(f"Applied {names}; settling for {options.settleSeconds:g} s{work.place}")
        await work.fence.guard(asyncio.sleep(options.settleSeconds))

    async def _rolled_back(
        self,
        work: Work,
        mesh: Mesh,
        record: GateRecord,
        error: MeshbusError,
        options: PerformanceOptions,
    ) -> MeshbusError:
        """Puts the former state back; returns the error with what was done in its remedy."""
        if not options.rollback:
            return _with_remedy(error, "the change was left in place, as asked")
        refused = record.model_copy(update={"refusal": ErrorReport.of(error)})
        await self.store.save_gate(work.run, refused)
        # An id of its own for each attempt: one that failed has ended for good.
        attempt = work.progress.attempt
        failed: list[str] = []
        for change, objects, carry_out in (
            ("rollback", record.former, mesh.apply),
            ("removal", record.absent, mesh.delete),
        ):
            if objects:
                try:
                    await carry_out(f"{change}-{attempt}", objects)
                except (LeaseLost, BusUnavailable):
                    raise
                except MeshbusError as problem:
                    names = ", ".join(_name(obj) for obj in objects)
                    failed.append(f"{names} is still as the change left it ({problem.summary})")
        if failed:
            work.progress.warn(f"The rollback failed: {'; '.join(failed)}{work.place}")
            return _with_remedy(error, "; ".join(failed))
        names = ", ".join(_name(obj) for obj in [*record.former, *record.absent])
        work.progress.warn(f"Rolled back {names}{work.place}")
        return _with_remedy(error, "the change was rolled back")


def _with_remedy(error: MeshbusError, done: str) -> MeshbusError:
    return type(error)(
        error.summary, cause=error.cause, remedy=f"{done}; {error.remedy}", subject=error.subject
    )


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


def _name(obj: KubeObject) -> str:
    metadata = obj["metadata"]
    return f"{obj['kind']} {metadata.get('namespace', '')}/{metadata['name']}"


def _bare(obj: KubeObject) -> KubeObject:
    kept = {k: v for k, v in obj["metadata"].items() if k in ("name", "namespace")}
    return {"apiVersion": obj["apiVersion"], "kind": obj["kind"], "metadata": kept}


def _own(obj: KubeObject) -> KubeObject:
    """What a user would write to get this object again."""
    bare = _bare(obj)
    metadata = obj["metadata"]
    annotations = {k: v for k, v in metadata.get("annotations", {}).items() if k != _LAST_APPLIED}
    kept = {"labels": metadata.get("labels"), "annotations": annotations}
    bare["metadata"] |= {name: value for name, value in kept.items() if value}
    others = {k: v for k, v in obj.items() if k not in ("metadata", "status")}
    return {**others, **bare}


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
    return "; ".join(comparison.told().splitlines())


def _result(work: Work, comparison: Comparison, change: Sequence[KubeObject]) -> Result:
    names = ", ".join(_name(obj) for obj in change)
    return Result(
        f"Performance gate passed successfully{work.place}",
        f"{names} stays: {_line(comparison)}",
        (("seconds", work.progress.seconds),),
    )
