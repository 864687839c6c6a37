"""The gate: a change of the mesh's configuration that must not make a service slower.

Runs before the change, the change through lifecycle, runs after it, and a comparison; what got
worse than the threshold is rolled back. The former state of the changed objects is stored before
anything is applied, so that whoever takes the gate over from a dead worker can still roll back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from pydantic import Field

from services.chassis.errors import (
    LoadTestMalformed,
    MeshbusError,
    NoCluster,
    RegressionFound,
)
from services.chassis.kube.manifests import parse_manifest
from services.chassis.kube.objects import KubeObject
from services.chassis.messages import ClusterFacts
from services.chassis.messages.models import Message
from services.chassis.operations.endings import Result
from services.perf.comparing import Comparison, compare
from services.perf.configs import read_test
from services.perf.loads import LoadTest
from services.perf.measurements import Measurement
from services.perf.options import PerformanceOptions
from services.perf.results import summary
from services.perf.work import Mesh, Work

_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


class GateRecord(Message):
    """What a gate must remember: the value of `perf/gate.<operation>`."""

    former: list[dict[str, Any]] = Field(default_factory=list)
    """The changed objects as they were."""
    absent: list[dict[str, Any]] = Field(default_factory=list)
    """The changed objects that were not there."""


class Memory(Protocol):
    """Where gates remember."""

    async def gate(self, operation: str) -> GateRecord | None: ...

    async def save_gate(self, operation: str, record: GateRecord) -> None: ...


Measure = Callable[[Work, LoadTest, str], Awaitable[Measurement]]
"""Makes the run of an id, or reads what it measured before."""


@dataclass(frozen=True, slots=True)
class Gates:
    """The operation `performance-gate`."""

    measure: Measure
    memory: Memory

    async def run(self, work: Work) -> Result:
        """Raises `RegressionFound` when the change made the service worse."""
        test, options = read_test(work.command.body)
        if work.mesh is None:
            raise NoCluster("a gate changes a cluster's configuration, and none is named")
        change = _change(options, work.command.namespace)
        remembered = await self._remembered(work, work.mesh, change)
        before = await self._runs(work, test, "before", options.repeats)
        work.progress.note(f"Baseline: {_figures(before)}{work.place}")
        try:
            await self._applied(work, work.mesh, change, options)
            after = await self._runs(work, test, "after", options.repeats)
            work.progress.note(f"With the change: {_figures(after)}{work.place}")
        except (MeshbusError, asyncio.CancelledError):
            # Nobody knows how the service does with the change, so it does not stay.
            await self._rolled_back(work, work.mesh, remembered, options)
            raise
        comparison = await asyncio.to_thread(compare, before, after, threshold=options.threshold)
        if comparison.verdict == "regression":
            undone = await self._rolled_back(work, work.mesh, remembered, options)
            raise RegressionFound(
                f"the change made the service worse: {comparison.told()}",
                remedy=f"{undone}; read the comparison, mend the change and try again",
            )
        return _result(work, comparison, change)

    async def _remembered(self, work: Work, mesh: Mesh, change: Sequence[KubeObject]) -> GateRecord:
        kept = await self.memory.gate(work.command.operation)
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
        await self.memory.save_gate(work.command.operation, record)
        return record

    async def _runs(self, work: Work, test: LoadTest, part: str, repeats: int) -> list[Measurement]:
        found = []
        for number in range(1, repeats + 1):
            work.fence.check()
            work.progress.note(f"Run {number} of {repeats} {part} the change{work.place}")
            run = f"{work.command.operation}-{part}-{number}"
            found.append(await self.measure(work, test, run))
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
        self, work: Work, mesh: Mesh, record: GateRecord, options: PerformanceOptions
    ) -> str:
        """Puts the former state back; returns what was done, in words."""
        if not options.rollback:
            return "the change was left in place, as asked"
        if record.former:
            await mesh.apply("rollback", record.former)
        if record.absent:
            await mesh.delete("removal", record.absent)
        names = ", ".join(_name(obj) for obj in [*record.former, *record.absent])
        work.progress.warn(f"Rolled back {names}{work.place}")
        return "the change was rolled back"


def _change(options: PerformanceOptions, namespace: str) -> list[KubeObject]:
    if not options.change.strip():
        raise LoadTestMalformed(
            "change of the PerformanceOptions is missing",
            remedy="put the manifest that is to be tried into spec.change of the options",
        )
    objects = parse_manifest(options.change)
    for obj in objects:
        obj["metadata"].setdefault("namespace", namespace)
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


def _result(work: Work, comparison: Comparison, change: Sequence[KubeObject]) -> Result:
    names = ", ".join(_name(obj) for obj in change)
    return Result(
        f"Performance gate passed successfully{work.place}",
        f"{names} stays: {comparison.told()}",
        (("seconds", work.progress.seconds),),
    )
