"""Plans: a request's translation, carried out step by step.

A step is either objects to write or one of lifecycle's own operations, run as if it had been asked
for alone. Steps are idempotent, so a repeat finishes what an earlier attempt began.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby

from services.chassis.bus.leases import in_turn
from services.chassis.errors import PlanRefused
from services.chassis.kube.objects import MANAGED_BY, MANAGER, Ref, labels_of
from services.chassis.messages import (
    AdvertisedOperation,
    Category,
    Phase,
    Plan,
    SlotKind,
    Step,
    StepKind,
    Verb,
)
from services.chassis.operations.completion import Result
from services.lifecycle.manifests.following import Followings
from services.lifecycle.manifests.objects import PlannedObject, listing
from services.lifecycle.manifests.reach import Reach
from services.lifecycle.manifests.work import Operation, Work
from services.lifecycle.manifests.writing import (
    apply_objects,
    delete_objects,
    refuse_duplicates,
    set_namespaces,
)


def plan_operation(
    plan: Plan, operations: Mapping[str, Operation], followings: Followings | None = None
) -> Operation:
    """`plan` as an operation of its own; its sources are kept when it is carried out."""

    async def run(work: Work) -> Result:
        planned = _PlanRun(work, plan, operations)
        await planned.check()
        if followings is None:
            return await planned.run()
        async with followings.turn(work.command, plan, work.progress, work.fence):
            return await planned.run()

    advertised = AdvertisedOperation(
        name="plan",
        description="A translated request",
        category=Category.CUSTOM,
        slot=SlotKind.APPLY,
        is_listed=False,
    )
    return Operation(advertised, run, lambda _command: plan.failing)


@dataclasses.dataclass(slots=True)
class _PlanRun:
    """One plan on one cluster."""

    work: Work
    plan: Plan
    operations: Mapping[str, Operation]
    lines: list[str] = dataclasses.field(default_factory=list)
    created: int = 0
    removed: int = 0
    absent: int = 0

    async def check(self) -> None:
        """Raises for what can be refused before the first write."""
        await self._check_reach()
        await self._check_kinds()

    async def run(self) -> Result:
        groups = list(_groups(self.plan.steps))
        for number, steps in enumerate(groups, start=1):
            if len(groups) > 1:
                self._tell_step(number, len(groups), steps)
            await self._group(steps)
        return Result(self.plan.summary, self._details(), self._numbers())

    async def _check_reach(self) -> None:
        """Raises `NotPermitted` for a plan that leaves the namespaces of its grant."""
        reach = Reach.of(self.work.command)
        if reach.is_everywhere:
            return
        for step in self.plan.steps:
            if step.kind is not StepKind.MANIFEST:
                reach.require_namespace(self._stays_in(step), what=step.title)
                continue
            await set_namespaces(self.work, step.objects, is_deletion=step.is_deletion)
            await set_namespaces(self.work, step.obsolete, is_deletion=True)
            reach.require(Ref.of(obj) for obj in (*step.objects, *step.obsolete))

    def _stays_in(self, step: Step) -> str:
        """The namespace that one of lifecycle's own operations stays in; "" for the others."""
        operation = self._operation_of(step)
        if not operation.advertised.stays_in_namespace:
            return ""
        return step.namespace or self.work.command.namespace

    async def _check_kinds(self) -> None:
        """Raises `KindUnknown` before the first write, not half way.

        A plan that installs the mesh is left out: it brings kinds of its own.
        """
        steps = self.plan.steps
        if any(step.kind is StepKind.MESH for step in steps):
            return
        written = [s for s in steps if s.kind is StepKind.MANIFEST and not s.is_deletion]
        await set_namespaces(self.work, [obj for step in written for obj in step.objects])

    async def _group(self, steps: Sequence[Step]) -> None:
        if steps[0].kind is not StepKind.MANIFEST:
            for step in steps:
                await self._operation(step)
        elif steps[0].is_deletion:
            await self._delete(steps)
        else:
            await self._apply(steps)

    async def _apply(self, steps: Sequence[Step]) -> None:
        planned = await self._planned(steps)
        await apply_objects(self.work, planned)
        applied = self.work.engine.outcome.applied
        self.created += sum(1 for one in planned if applied[one.ref].created)
        self.lines += [f"{one.ref} deployed successfully" for one in planned]
        await self._remove_obsolete(steps)

    async def _delete(self, steps: Sequence[Step]) -> None:
        planned = await self._planned(steps)
        deletion = await delete_objects(self.work, planned)
        removed = set(deletion.removed)
        self.removed += len(removed)
        self.absent += deletion.absent
        self.lines += [
            f"{one.ref} removed successfully" if one.ref in removed else f"{one.ref} was not there"
            for one in planned
        ]

    async def _planned(self, steps: Sequence[Step]) -> list[PlannedObject]:
        objects = [obj for step in steps for obj in step.objects]
        await set_namespaces(self.work, objects, is_deletion=steps[0].is_deletion)
        planned = [PlannedObject.of(obj) for obj in objects]
        refuse_duplicates(planned)
        return planned

    async def _remove_obsolete(self, steps: Sequence[Step]) -> None:
        """Deletes replaced objects after the new ones are applied, so that no gap opens."""
        objects = [obj for step in steps for obj in step.obsolete]
        if not objects:
            return
        await set_namespaces(self.work, objects, is_deletion=True)
        refs = [Ref.of(obj) for obj in objects]
        ours = await asyncio.gather(*(self._is_ours(ref) for ref in refs))
        removed = await self.work.engine.delete_all(
            [ref for ref, mine in zip(refs, ours, strict=True) if mine]
        )
        if removed:
            self.work.progress.tell(
                Phase.PRUNED,
                f"Replaced {len(removed)} objects of an earlier operation",
                listing(removed),
                numbers={"objects": len(removed)},
            )

    async def _is_ours(self, ref: Ref) -> bool:
        live = await self.work.cluster.get(ref)
        return live is not None and labels_of(live).get(MANAGED_BY) == MANAGER

    async def _operation(self, step: Step) -> None:
        operation = self._operation_of(step)
        command = self.work.command.model_copy(
            update={
                "kind": operation.advertised.name,
                "verb": Verb.DELETE if step.is_deletion else Verb.APPLY,
                "namespace": step.namespace or self.work.command.namespace,
                "version": step.version,
                "body": step.body,
                "plan": None,
            }
        )
        work = dataclasses.replace(self.work, command=command)
        if operation.advertised.slot is SlotKind.MESH:
            async with in_turn(
                work.mesh_lease,
                fence=work.fence,
                until=work.command.deadline,
                waits=lambda busy: work.progress.note(f"Waiting: {busy.summary}"),
            ):
                result = await operation.run(work)
        else:
            result = await operation.run(work)
        self.lines.append(result.summary)

    def _operation_of(self, step: Step) -> Operation:
        name = step.name if step.kind is StepKind.APPLICATION else step.kind.value
        operation = self.operations.get(name)
        if operation is None:
            raise PlanRefused(f"lifecycle offers no operation {name!r} for {step.title}")
        return operation

    def _tell_step(self, number: int, of: int, steps: Sequence[Step]) -> None:
        titles = ", ".join(step.title for step in steps[:12])
        more = f" and {len(steps) - 12} more" if len(steps) > 12 else ""
        self.work.progress.note(f"Step {number} of {of}: {titles}{more}")

    def _details(self) -> str:
        parts = [self.plan.details] if self.plan.details else []
        if self.plan.reports_lines:
            return "\n".join([*parts, *self.lines])
        outcome = self.work.engine.outcome
        if outcome.applied:
            count = len(outcome.applied)
            parts.append(
                f"{count} objects: {self.created} created, {count - self.created} configured; "
                + listing(list(outcome.applied))
            )
        if self.removed or self.absent:
            parts.append(f"{self.removed} objects deleted, {self.absent} were not there")
        return "; ".join(parts)

    def _numbers(self) -> tuple[tuple[str, float], ...]:
        return (
            ("objects", len(self.work.engine.outcome.applied)),
            ("created", self.created),
            ("deleted", self.removed),
            ("absent", self.absent),
            ("seconds", self.work.progress.seconds),
        )


def _groups(steps: Sequence[Step]) -> Iterator[list[Step]]:
    """Steps to carry out together: manifests of one level side by side, others one by one."""

    def key(numbered: tuple[int, Step]) -> tuple[object, ...]:
        number, step = numbered
        if step.kind is not StepKind.MANIFEST or step.level == 0:
            return (number,)
        return ("level", step.level, step.is_deletion)

    for _, group in groupby(enumerate(steps), key):
        yield [step for _, step in group]
