"""A namespace's way from sidecars to ambient, and back.

The report comes first, and what would be lost stops the move. Then the waypoint comes up, policies
are attached to it where that was asked for, and namespaces are labelled and their workloads
restarted, some at a time. What a namespace was labelled stands on it, so that it can go back as
long as that note is there: by itself, when the move fails or is cancelled, or asked for later.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

import orjson

from services.chassis.errors import NoWayBack, PrecheckRefused, RevisionUnknown
from services.chassis.kube.objects import Ref, annotations_of
from services.lifecycle.ambient.attaching import (
    COPIED,
    Attachment,
    attachments,
    copy_of,
    widening,
)
from services.lifecycle.ambient.changes import AMBIENT, Change, changes, see
from services.lifecycle.ambient.enrolling import Enrolling
from services.lifecycle.ambient.prerequisites import against_waypoint, plane_of, require_plane
from services.lifecycle.ambient.reports import Effect, Row, Scene, read_scene, report
from services.lifecycle.ambient.waypoints import binding
from services.lifecycle.cluster import istio
from services.lifecycle.cluster.inventory import take_inventory
from services.lifecycle.manifests.objects import PlannedObject, Wave, listing
from services.lifecycle.rollouts.moving import Mover, former_labels

FORMER = "meshbus.io/ambient-former-labels"
"""On a namespace that was moved: what it was labelled."""
_SIDECAR = "sidecar.istio.io/status"
_LOOK_EVERY_S = 2.0
_MOST_TOLD = 50
_MOST_CHARACTERS = 20_000
"""Of a report in a record, which is one message for all clusters."""


@dataclass(frozen=True, slots=True)
class _FromSidecars:
    """Namespaces that are not in ambient as they are labelled."""

    def has(self, labels: Mapping[str, str]) -> bool:
        return istio.asks_for_sidecars(labels) or labels.get(istio.DATAPLANE_MODE) != AMBIENT


class Moving(Enrolling):
    """A step of a move, or of its report."""

    async def _precheck(self) -> None:
        await self._claim()
        plane = await plane_of(self.work.cluster)
        require_plane(plane, self.request)
        against_waypoint(self.request, await self._waypoints())
        rows, attached = await self._report()
        for row in rows[:_MOST_TOLD]:
            self.work.progress.warn(f"Report: {row}")
        lost = [row for row in rows if row.effect is Effect.LOST]
        self._note(
            lost=str(len(lost)),
            changed=str(len(rows) - len(lost)),
            report=_fitting(rows, clusters=len(self.record.parts)),
        )
        if lost and not self.request.options.force and not self.request.options.dry_run:
            more = f" and {len(lost) - 3} more" if len(lost) > 3 else ""
            raise PrecheckRefused(
                f"the move would lose {'; '.join(str(row) for row in lost[:3])}{more}",
                cause="what reads requests or configures sidecars means nothing to a ztunnel",
                remedy="mend what is named, let `policies: attach` do it, or send `force: true`",
            )
        self.work.progress.note(
            f"Plan: {len(self.request.options.namespaces)} namespaces move, "
            f"{len(attached)} policies are attached to a waypoint",
            listing([one.ref for one in attached]),
        )

    async def _report(self) -> tuple[list[Row], list[Attachment]]:
        """What would change, but for what is going to be attached, and that."""
        scene = await self._scene()
        rows, options = report(self.request, scene), self.request.options
        if options.waypoint is None or options.policies != "attach":
            return rows, []
        made, left = attachments(rows, scene, options.waypoint)
        return left, made

    async def _scene(self) -> Scene:
        root = (await take_inventory(self.work.cluster)).namespace(istio.SYSTEM_NAMESPACE)
        return await read_scene(self.work.cluster, self.request.options.namespaces, root=root)

    async def _apply(self) -> None:
        """The waypoint, then the policies' copies; policies are narrowed when those are there."""
        await Enrolling._apply(self)
        if not self.kept.undo:
            _, made = await self._report()
            planned = [one.narrowing for one in made if one.narrowing is not None]
            planned += await self._bound()
            await self.keep(
                undo=self.store.sealed([one.document() for one in planned]),
                former=self.store.sealed([one.copy for one in made]),
            )
        copies = [PlannedObject.of(obj) for obj in self.store.opened(self.kept.former)]
        await self.work.engine.apply_wave(Wave.CUSTOM_RESOURCES, copies, take_over=True)
        await self._change(self._planned())
        self._note(attached=str(len(copies)))

    async def _bound(self) -> list[Change]:
        """Services that use the waypoint one by one; the labels of namespaces move themselves."""
        sight = await see(self.work.cluster, self.request.options.namespaces)
        return [one for one in changes(self.request, sight) if one.ref.kind == "Service"]

    async def _move(self) -> None:
        moved = await self._mover().move(_FromSidecars())
        self._left = moved.left
        self.kept = self.kept.model_copy(update={"namespaces": list(moved.names)})
        self._note(labelled=str(len(moved.names)))

    async def _remove(self) -> None:
        """Waits until no pod has a sidecar; tells those that nobody restarts."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.request.options.disruption_timeout_s
        while left := await self._with_sidecars():
            self.work.fence.check()
            if loop.time() > deadline:
                stays = (
                    f"{len(left)} pods keep their sidecars to their end: {listing(left, limit=5)}"
                )
                self.kept = self.kept.model_copy(update={"stays": stays})
                self.work.progress.warn("Some pods have sidecars", stays)
                return
            await asyncio.sleep(_LOOK_EVERY_S)

    async def _with_sidecars(self) -> list[Ref]:
        found = []
        for namespace in self.request.options.namespaces:
            pods = await self.work.cluster.select(
                [("", "Pod")], namespace=namespace, fields="status.phase=Running"
            )
            found += [
                pod.ref
                for pod in pods
                if _SIDECAR in annotations_of(pod.obj)
                and "gateway" not in annotations_of(pod.obj).get("inject.istio.io/templates", "")
                and not pod.obj["metadata"].get("deletionTimestamp")
            ]
        return found

    async def _back(self) -> None:
        self._left = (await self._mover().move_back()).left
        if self._left:
            return
        await self._undo()
        if self.kept.former:
            copies = [Ref.of(obj) for obj in self.store.opened(self.kept.former)]
            await self.work.engine.delete_all(copies)
        await self._remove_made()

    def _mover(self, *, anyones: bool = False) -> Mover:
        options, waypoint = self.request.options, self.request.options.waypoint
        bound: dict[str, str | None] = {}
        if waypoint is not None and waypoint.bind == "namespace":
            # A shared waypoint in one of the namespaces is named there with its namespace, too.
            bound = binding(waypoint, "")
        labels = {
            istio.INJECTION: None,
            istio.REVISION: None,
            istio.DATAPLANE_MODE: AMBIENT,
            **bound,
        }
        return Mover(
            work=self.work,
            restarter=self._restarter(),
            rollout=self.kept.rollout,
            labels=labels,
            goal="ambient",
            namespaces_at_once=options.namespaces_at_once,
            note=FORMER,
            only=frozenset(options.namespaces),
            anyones=anyones,
        )


class Returning(Moving):
    """A step of the way back that is asked for later."""

    async def _precheck(self) -> None:
        await self._claim()
        sight = await see(self.work.cluster, self.request.options.namespaces)
        lacking = [n for n, one in sight.namespaces.items() if FORMER not in annotations_of(one)]
        if lacking:
            raise NoWayBack(
                f"nothing says what {', '.join(lacking[:5])} was before ambient",
                cause="only what `action: move` has moved has a note of its labels",
                remedy="withdraw it, and label it for sidecars by `label-namespace`",
            )
        inventory = await take_inventory(self.work.cluster)
        there = {*inventory.revisions(), *inventory.tags()}
        for name, namespace in sight.namespaces.items():
            revision = former_labels(namespace, note=FORMER).get(istio.REVISION)
            if revision and revision not in there:
                raise RevisionUnknown(
                    f"namespace {name} had sidecars of {revision}, which is not installed",
                    remedy=f"install it, or correct the annotation {FORMER}",
                )

    async def _apply(self) -> None:
        """Nothing: narrowed policies are about sidecars already, which come now."""

    async def _move(self) -> None:
        moved = await self._mover(anyones=True).move_back()
        self._left = moved.left
        before = int(self.kept.found.get("labelled", "0"))
        self._note(labelled=str(before + len(moved.names)))

    async def _remove(self) -> None:
        """Policies are about all pods again, their copies go, and so does the waypoint that is
        named, unless others use it. Before the last pod is back a ztunnel would make them deny."""
        for namespace in self.request.options.namespaces:
            for kind in COPIED:
                found = await self.work.cluster.objects(*kind, namespace)
                copies = {ref: obj for ref, obj in found.items() if copy_of(obj)}
                originals = {copy_of(obj) for obj in copies.values()}
                widened = [
                    widening(ref, obj) for ref, obj in found.items() if ref.name in originals
                ]
                await self._change([one for one in widened if one is not None])
                await self.work.engine.delete_all(copies)
        await self._change(await self._bound())
        await self._withdraw_waypoint()

    async def _back(self) -> None:
        """To stop is to go back, and that is the way already."""
        await self._move()
        if not self._left:
            await self._remove()


def _fitting(rows: list[Row], *, clusters: int) -> str:
    """The rows as JSON, as many as fit."""
    documents = [row.document() for row in rows]
    while (text := orjson.dumps(documents).decode()) and len(text) > _MOST_CHARACTERS // clusters:
        if not documents:
            return "[]"
        documents = documents[: len(documents) // 2]
    return text
