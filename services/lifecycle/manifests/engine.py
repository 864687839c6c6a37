"""The apply engine: waves of parallel server-side applies, waits on watches, parallel deletions.

It checks the fence before every write, so that a worker that lost its claim stops at the next
object, and skips objects that are proven to be in the cluster as planned.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta

from services.chassis.bus.leases import Fence
from services.chassis.errors import KindUnknown
from services.chassis.kube.applying import Applied, Applier
from services.chassis.kube.objects import Ref
from services.chassis.kube.readiness import OnReady, Readiness
from services.chassis.telemetry import traces
from services.lifecycle.manifests.objects import CRD, PlannedObject, Wave
from services.lifecycle.manifests.records import Ledger, side_by_side

_KIND_PATIENCE_S = 10.0
_DEFINITIONS_TIMEOUT = timedelta(seconds=60)
_NUDGE_EVERY = timedelta(seconds=4)


@dataclass(slots=True)
class Outcome:
    """Objects that an operation has applied and deleted so far."""

    applied: dict[Ref, Applied] = field(default_factory=dict)
    deleted: list[Ref] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Engine:
    """Writes to one cluster for one operation."""

    applier: Applier
    readiness: Readiness
    fence: Fence
    parallel: int
    ledger: Ledger
    outcome: Outcome = field(default_factory=Outcome)

    async def apply_wave(
        self,
        wave: Wave,
        objects: Sequence[PlannedObject],
        *,
        proven: Collection[Ref] = (),
        take_over: bool = False,
    ) -> int:
        """Applies the wave's objects side by side, but for proven ones; returns how many."""
        wanted = [planned for planned in objects if planned.ref not in proven]

        async def apply(planned: PlannedObject) -> None:
            applied = await self._apply_when_served(planned, take_over=take_over)
            self.outcome.applied[planned.ref] = applied
            # A definition is proven when it is established: until then a repeat sends it again.
            is_definition = planned.ref.group_kind == CRD
            noted = replace(planned, digest="") if is_definition else planned
            self.ledger.applied(noted, applied.obj)

        with traces.span(f"wave {wave.title}", attributes={"objects": len(wanted)}):
            await side_by_side(apply, wanted, parallel=self.parallel)
        return len(wanted)

    async def delete_all(self, refs: Iterable[Ref], *, cascade: str = "Background") -> list[Ref]:
        """Deletes objects side by side; returns those that were there."""
        refs = list(refs)
        self.fence.check()
        await self.ledger.forget(refs, kinds=await self._defined(refs))
        removed: list[Ref] = []

        async def delete(ref: Ref) -> None:
            self.fence.check()
            if await self.applier.delete(ref, cascade=cascade):
                removed.append(ref)
                self.outcome.deleted.append(ref)

        with traces.span("delete", attributes={"cascade": cascade}):
            await side_by_side(delete, refs, parallel=self.parallel)
        return removed

    async def _defined(self, refs: Iterable[Ref]) -> dict[Ref, str]:
        """The kinds, as `group/Kind`, that the definitions among `refs` define."""
        defined: dict[Ref, str] = {}
        for ref in refs:
            if ref.group_kind == CRD:
                plural, _, group = ref.name.partition(".")
                kind = await self.applier.resources.kind_of(group, plural)
                if kind is not None:
                    defined[ref] = f"{group}/{kind}"
        return defined

    async def established(self, objects: Iterable[PlannedObject]) -> set[Ref]:
        """Waits for the definitions among `objects`; returns those that are not served in time."""
        definitions = {p.ref: p for p in objects if p.ref.group_kind == CRD}
        if not definitions:
            return set()

        async def prove(ref: Ref) -> None:
            if ref in self.outcome.applied:
                self.ledger.applied(definitions[ref], self.outcome.applied[ref].obj)

        loop = asyncio.get_running_loop()
        deadline = loop.time() + _DEFINITIONS_TIMEOUT.total_seconds()
        late = set(definitions)
        with traces.span("wait for definitions"):
            while loop.time() < deadline:
                late = await self.fence.guard(
                    self.readiness.wait(late, within=_NUDGE_EVERY, on_ready=prove)
                )
                if not late:
                    break
                await self._nudge(late)
        return late

    async def _nudge(self, refs: Iterable[Ref]) -> None:
        """Makes the API server look at definitions again.

        One whose server restarted between accepting its names and establishing it is forgotten
        until it changes; applying the same text again is no change.
        """

        async def touch(ref: Ref) -> None:
            self.fence.check()
            await self.applier.touch(ref)

        await side_by_side(touch, refs, parallel=self.parallel)

    async def ready(self, refs: Iterable[Ref], *, within: timedelta, on_ready: OnReady) -> set[Ref]:
        """Waits until workloads are ready; returns those that are not in time."""
        with traces.span("wait for workloads"):
            return await self.fence.guard(
                self.readiness.wait(refs, within=within, on_ready=on_ready)
            )

    async def gone(self, refs: Iterable[Ref], *, within: timedelta) -> set[Ref]:
        """Waits until objects are gone; returns those that are still there when time is up."""
        with traces.span("wait for deletions"):
            return await self.fence.guard(self.readiness.wait_gone(refs, within=within))

    async def _apply_when_served(self, planned: PlannedObject, *, take_over: bool) -> Applied:
        """A definition that was just applied may take a moment until its kind is served."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + (_KIND_PATIENCE_S if self._defines(planned.ref) else 0.0)
        while True:
            self.fence.check()
            try:
                return await self.applier.apply(planned.ref, planned.body, take_over=take_over)
            except KindUnknown:
                if loop.time() > deadline:
                    raise
                await asyncio.sleep(0.1)

    def _defines(self, ref: Ref) -> bool:
        """True when this operation applied the definition of the object's kind."""
        return any(
            other.group_kind == CRD and other.name.endswith(f".{ref.group}")
            for other in self.outcome.applied
        )
