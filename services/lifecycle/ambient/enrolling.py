"""What goes into ambient, or out of it, by labels: each step of one cluster.

Labels say who is in ambient and who uses which waypoint. What they were is kept before the first
one is written, and a step that is taken again does only what is missing. An operation that fails or
is cancelled goes back: labels that nobody has changed since become what they were, and waypoints
that it made go.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta

from services.chassis.bus.subjects import token
from services.chassis.errors import (
    NamespaceMissing,
    NotReadyInTime,
    ObjectNotFound,
    StillDeleting,
    shortened,
)
from services.chassis.kube.objects import KubeObject, Ref
from services.chassis.messages import Phase
from services.lifecycle.ambient.changes import OF_OBJECT, OF_SPEC, Change, changes, see
from services.lifecycle.ambient.options import AmbientRequest
from services.lifecycle.ambient.prerequisites import (
    against_waypoint,
    plane_of,
    require,
    warnings,
)
from services.lifecycle.ambient.waypoints import (
    condition,
    gateway,
    is_waypoint,
    ref_of,
    users,
)
from services.lifecycle.manifests.objects import PlannedObject, Wave, listing
from services.lifecycle.manifests.records import side_by_side
from services.lifecycle.rollouts.moving import Restarter
from services.lifecycle.rollouts.records import (
    RolloutStep,
)
from services.lifecycle.rollouts.steps import Stepping, Taken
from services.lifecycle.rollouts.store import Store
from services.lifecycle.rollouts.undoing import Standing, standing

_GONE_WITHIN = timedelta(seconds=60)


class Enrolling(Stepping):
    """A step into ambient, or out of it."""

    what = "Ambient"
    titles = {  # noqa: RUF012
        RolloutStep.PRECHECK: "prechecks",
        RolloutStep.APPLY: "waypoints come up",
        RolloutStep.MOVE: "labels are set",
        RolloutStep.REMOVE: "what nobody uses goes",
        RolloutStep.BACK: "the way back",
    }
    looking = frozenset({RolloutStep.PRECHECK})

    def __init__(self, taken: Taken, store: Store, request: AmbientRequest) -> None:
        super().__init__(taken, store)
        self.store, self.request = store, request

    def steps(self) -> Mapping[RolloutStep, Callable[[], Awaitable[None]]]:
        return {
            RolloutStep.PRECHECK: self._precheck,
            RolloutStep.APPLY: self._apply,
            RolloutStep.MOVE: self._move,
            RolloutStep.REMOVE: self._remove,
            RolloutStep.BACK: self._back,
        }

    async def _precheck(self) -> None:
        """Refuses what cannot be, without a write."""
        await self._claim()
        sight = await see(self.work.cluster, self.request.options.targeted)
        require(await plane_of(self.work.cluster), self.request, sight)
        against_waypoint(self.request, await self._waypoints())
        planned = changes(self.request, sight)
        for text in warnings(self.request, sight, planned):
            self.work.progress.warn(f"Check: {text}")
        self.work.progress.note(
            f"Plan: {len(planned)} objects are labelled",
            listing([change.ref for change in planned]) or "All is as it is wanted.",
        )

    async def _claim(self) -> None:
        """Keeps other operations of the machine from the cluster, by whatever address."""
        uid = await self.work.cluster.identity()
        await self.store.claim(uid, rollout=self.kept.rollout, cluster=self.kept.cluster)
        await self.keep(uid=uid)

    async def _apply(self) -> None:
        """Makes the waypoints that are missing, and waits until they answer."""
        waypoint = self.request.options.waypoint
        if waypoint is None or not self.request.enrols:
            return
        there = await self._waypoints()
        homes = self.request.homes()
        missing = [home for home in homes if ref_of(home, waypoint.name) not in there]
        made = [gateway(self.request, waypoint, home) for home in missing]
        if made and not self.kept.added:
            await self.keep(added=[f"{home}/{waypoint.name}" for home in missing])
        await self.work.engine.apply_wave(
            Wave.CUSTOM_RESOURCES, [PlannedObject.of(one) for one in made]
        )
        refs = [ref_of(home, waypoint.name) for home in homes]
        await self._await_programmed(refs)
        self._note(waypoints=", ".join(f"{ref.namespace}/{ref.name}" for ref in refs))

    async def _await_programmed(self, refs: Iterable[Ref]) -> None:
        async def tell(ref: Ref) -> None:
            self.work.progress.tell(
                Phase.READY, f"{ref} is ready", numbers={"seconds": self.work.progress.seconds}
            )

        late = await self.work.engine.ready(refs, within=self.request.within, on_ready=tell)
        if late:
            first = min(late)
            told = condition(await self.work.cluster.get(first) or {}, "Programmed")
            raise NotReadyInTime(
                f"not ready after {self.request.within.total_seconds():.0f} s: "
                f"{listing(sorted(late))}",
                cause=shortened(str(told.get("message") or "no istiod has looked at it")),
                remedy="see that istiod runs with ambient, and its revision is the waypoint's",
                subject=str(first),
            )

    async def _move(self) -> None:
        """Sets the labels, those that were planned first, whoever goes on."""
        if not self.kept.undo:
            sight = await see(self.work.cluster, self.request.options.targeted)
            planned = changes(self.request, sight)
            await self.keep(undo=self.store.sealed([one.document() for one in planned]))
        planned = self._planned()
        await self._change(planned)
        self._note(labelled=str(len(planned)))

    async def _remove(self) -> None:
        """Removes waypoints that were withdrawn, unless others use them."""
        if not self.request.enrols:
            await self._withdraw_waypoint()

    async def _withdraw_waypoint(self) -> None:
        there = await self._waypoints()
        await self._remove_waypoints(sorted(ref for ref, obj in there.items() if is_waypoint(obj)))

    async def _back(self) -> None:
        """Makes labels what they were, where nobody has changed them since, and takes away the
        waypoints that were made."""
        await self._undo()
        await self._remove_made()

    async def _undo(self) -> None:
        """Undoes changes, where nobody has changed the same place since."""
        undone, left = [], []
        for change in self._planned():
            live = await self.work.cluster.get(change.ref)
            if live is None or live["metadata"].get("uid") != change.uid:
                continue
            match standing(live, change.former, change.patch):
                case Standing.CHANGED:
                    undone.append(replace(change, labels=change.before, before=change.labels))
                case Standing.EDITED:
                    left.append(change.ref)
        # Whoever uses a waypoint has left it before its policies do.
        uses = [one for one in undone if one.path != OF_SPEC]
        await self._change(uses, by="-back", is_back=True)
        await self._change([one for one in undone if one.path == OF_SPEC])
        if left:
            self.work.progress.warn(
                f"{len(left)} objects are left as they are",
                f"Somebody has changed their labels since: {listing(left)}.",
            )

    async def _remove_made(self) -> None:
        await self._remove_waypoints([ref_of(*one.split("/")) for one in self.kept.added])

    # --- parts of steps -------------------------------------------------------------------------

    def _planned(self) -> list[Change]:
        if not self.kept.undo:
            return []
        return [Change.of(document) for document in self.store.opened(self.kept.undo)]

    async def _waypoints(self) -> dict[Ref, KubeObject]:
        """Gateways of the waypoint's name where it is to stand."""
        waypoint = self.request.options.waypoint
        if waypoint is None:
            return {}
        refs = [ref_of(home, waypoint.name) for home in self.request.homes()]
        found = await side_by_side(self.work.cluster.get, refs, parallel=self.work.engine.parallel)
        return {ref: obj for ref, obj in zip(refs, found, strict=True) if obj is not None}

    async def _change(
        self, changes: Sequence[Change], *, by: str = "", is_back: bool = False
    ) -> None:
        """Writes changes; those of templates as the workloads' budgets allow."""
        plain = [one for one in changes if not one.is_of_template]
        await side_by_side(self._write, plain, parallel=self.work.engine.parallel)
        templates = {one.ref: one.labels for one in changes if one.is_of_template}
        for namespace in sorted({ref.namespace for ref in templates}):
            found = [
                (ref, obj)
                for ref in sorted(templates)
                if ref.namespace == namespace
                and (obj := await self.work.cluster.get(ref)) is not None
            ]
            await self._restarter().restart(
                namespace,
                found,
                by=f"{token(self.kept.rollout)}{by}",
                labels=templates,
                is_back=is_back,
            )

    def _restarter(self) -> Restarter:
        options = self.request.options
        return Restarter(
            work=self.work,
            workloads_at_once=options.workloads_at_once,
            within=self.request.within,
            patience=timedelta(seconds=options.disruption_timeout_s),
        )

    async def _write(self, change: Change) -> None:
        ref = change.ref

        async def write() -> KubeObject:
            return await self.work.cluster.merge(ref, change.patch)

        self.work.fence.check()
        try:
            if change.path == OF_OBJECT:
                await self.work.engine.ledger.relabel(ref, change.labels, write)
            else:
                await write()
        except (ObjectNotFound, NamespaceMissing):
            return  # deleted meanwhile

    async def _remove_waypoints(self, refs: Sequence[Ref]) -> None:
        """Removes waypoints that nobody uses; of others it is told who does."""
        kept = []
        for ref in refs:
            if own := await users(self.work.cluster, ref):
                kept.append(f"{ref} stays: {listing(own, limit=5)} use it")
                continue
            if await self.work.engine.delete_all([ref]):
                if await self.work.engine.gone([ref], within=_GONE_WITHIN):
                    raise StillDeleting(f"{ref} is still being deleted", subject=str(ref))
                self.work.progress.note(f"Removed {ref}")
        if kept:
            self.kept = self.kept.model_copy(update={"stays": "; ".join(kept)})
            self.work.progress.warn("Waypoints stay", "; ".join(kept))

    def _note(self, **found: str) -> None:
        self.kept = self.kept.model_copy(update={"found": {**self.kept.found, **found}})
