"""The steps of a manifest on one cluster: tried by a dry run, applied, and put back as it was.

What goes back is what the rollout has changed, where it still is as the rollout left it. What
others have changed or put in since stays, and is told.
"""

from __future__ import annotations

import asyncio
import base64
import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from services.chassis.errors import ClusterError, ObjectConflict, ObjectInvalid
from services.chassis.kube.applying import is_own, managed_fields, own_entry
from services.chassis.kube.objects import KubeObject, Ref
from services.lifecycle.cluster.facts import dry_run, would_be
from services.lifecycle.cluster.inventory import take_inventory
from services.lifecycle.manifests.objects import CRD, NAMESPACE, PlannedObject, listing
from services.lifecycle.manifests.reach import Reach
from services.lifecycle.manifests.readiness import await_ready
from services.lifecycle.manifests.records import side_by_side
from services.lifecycle.manifests.work import Work
from services.lifecycle.manifests.writing import (
    apply_objects,
    delete_objects,
    refuse_duplicates,
    set_namespaces,
    tell_plan,
)
from services.lifecycle.mesh.uninstalling import residents
from services.lifecycle.rollouts.options import RolloutRequest
from services.lifecycle.rollouts.records import EVERYWHERE
from services.lifecycle.rollouts.undoing import Standing, change, reverse, standing

_MOST_TOLD = 5
_TRIES = 5
"""To change an object that others change at the same moment."""
_NO_CONTENT = frozenset({"f:metadata", "f:status"})
_CHANGED = "somebody has changed it since"


@dataclass(frozen=True, slots=True)
class Former:
    """An object of the manifest before the rollout."""

    ref: Ref
    obj: KubeObject | None
    """As it was; None when it was not there."""
    uid: str = ""
    patch: Mapping[str, Any] | None = None
    """What the rollout changes in it (`undoing.change`); None when an earlier version of ours kept
    it."""
    intent: bytes = b""
    """The record of it in `intents`."""

    def document(self) -> dict[str, Any]:
        """What is kept beside the object."""
        ref, intent = self.ref, base64.b64encode(self.intent).decode()
        named = [ref.api_version, ref.kind, ref.namespace, ref.name]
        return {"ref": named, "uid": self.uid, "patch": self.patch, "intent": intent}


def formers(objects: Sequence[KubeObject], documents: Sequence[Mapping[str, Any]]) -> list[Former]:
    """What was kept of objects and of what the rollout changes in them."""
    by_ref = {Ref.of(obj): obj for obj in objects}
    found = {
        ref: Former(ref, by_ref.get(ref), one["uid"], one["patch"], base64.b64decode(one["intent"]))
        for one in documents
        for ref in [Ref(*one["ref"])]
    }
    return [*found.values(), *(Former(ref, by_ref[ref]) for ref in by_ref.keys() - found.keys())]


@dataclass(slots=True)
class _WayBack:
    """What has become of objects on their way back."""

    back: list[Ref] = field(default_factory=list)
    deleted: list[Ref] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    """Objects that stay as they are, with the reason."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """The objects of a rollout on one cluster."""

    work: Work
    request: RolloutRequest

    async def check(self) -> None:
        """Raises for what the policy, or the API server with its webhooks, would refuse."""
        objects, planned = await self._planned()
        tell_plan(self.work, planned)
        early = await self._before_their_namespace(planned)
        tried = [pair for pair in zip(planned, objects, strict=True) if pair[0].ref not in early]
        refusals = await dry_run(self.work.cluster, [obj for _, obj in tried])
        told = [f"{one.ref}: {why}" for (one, _), why in zip(tried, refusals, strict=True) if why]
        if told:
            more = f" and {len(told) - _MOST_TOLD} more" if len(told) > _MOST_TOLD else ""
            raise ObjectInvalid(f"a dry run refuses {'; '.join(told[:_MOST_TOLD])}{more}")

    async def _before_their_namespace(self, planned: Sequence[PlannedObject]) -> set[Ref]:
        """Objects whose namespace the manifest makes: no dry run can be made there before."""
        own = [one.ref for one in planned if one.ref.group_kind == NAMESPACE]
        live = await asyncio.gather(*(self.work.cluster.get(ref) for ref in own))
        absent = {ref.name for ref, obj in zip(own, live, strict=True) if obj is None}
        return {one.ref for one in planned if one.ref.namespace in absent}

    async def remember(self) -> list[Former]:
        """The objects as they are, and what the rollout is going to change in them."""
        objects, planned = await self._planned()

        async def one(pair: tuple[PlannedObject, KubeObject]) -> Former:
            ref, cluster = pair[0].ref, self.work.cluster
            live, intent = await cluster.get(ref), await self.work.engine.ledger.kept(ref)
            if live is None:
                return Former(ref, None, patch={}, intent=intent)
            before, after = bare(ref, live), bare(ref, await would_be(cluster, pair[1]))
            return Former(ref, before, live["metadata"]["uid"], change(before, after), intent)

        pairs = zip(planned, objects, strict=True)
        return await side_by_side(one, pairs, parallel=self.work.engine.parallel)

    async def apply(self) -> None:
        """Applies them all, and waits for the workloads among them."""
        _, planned = await self._planned()
        await apply_objects(self.work, planned)
        await await_ready(self.work, planned, within=self.request.mesh.readiness_timeout)

    async def put_back(self, formers: Sequence[Former], *, added: Sequence[str]) -> None:
        """Undoes what the rollout has changed, and deletes what it has added. What others have
        changed since stays, and so does what holds others' objects; intents are as they were."""
        way = _WayBack()
        of = {one.ref: one for one in formers}
        _, planned = await self._planned()
        mine = [one for one in planned if str(one.ref) in set(added)]
        await self._take_away(mine, of, way)
        there = [one for one in formers if one.obj is not None]
        parallel = self.work.engine.parallel
        await side_by_side(lambda one: self._undo(one, way), there, parallel=parallel)
        again = [PlannedObject.of(one.obj) for one in there if one.obj and one.ref in way.back]
        await await_ready(self.work, again, within=self.request.mesh.readiness_timeout)
        self.work.progress.note(
            f"{len(way.back)} objects are as they were, {len(way.deleted)} are deleted",
            listing([*way.back, *way.deleted]),
        )
        if way.left:
            self.work.progress.warn(
                f"{len(way.left)} objects are left as they are", "; ".join(sorted(way.left))
            )

    async def _undo(self, former: Former, way: _WayBack) -> None:
        """Undoes the change of one object, where it still is what the change has made."""

        async def write() -> KubeObject | None:
            for _ in range(_TRIES):
                live = await self.work.cluster.get(former.ref)
                why = _not_undone(former, live)
                if why or live is None or former.obj is None:
                    way.left.append(f"{former.ref}: {why}")
                    return None
                before, patch = former.obj, former.patch
                if patch is None:
                    patch = change(before, bare(former.ref, live))
                try:
                    if standing(live, before, patch) is Standing.CHANGED:
                        live = await self._patched(former.ref, live, reverse(before, patch))
                except ObjectConflict:
                    continue
                way.back.append(former.ref)
                return live
            raise ObjectConflict(f"{former.ref} is changed all the time", subject=str(former.ref))

        await self.work.engine.ledger.give_back(former.ref, former.intent, write)

    async def _patched(self, ref: Ref, live: KubeObject, patch: Mapping[str, Any]) -> KubeObject:
        """Changes the object as it was read; raises `ObjectConflict` for one that is not so now."""
        version = {"resourceVersion": live["metadata"]["resourceVersion"]}
        body = {**patch, "metadata": {**patch.get("metadata", {}), **version}}
        self.work.fence.check()
        return await self.work.cluster.merge(ref, body)

    async def _take_away(
        self, added: Sequence[PlannedObject], of: Mapping[Ref, Former], way: _WayBack
    ) -> None:
        """Deletes what was added: first what lies in something, then what holds it, if empty."""
        holders = [one for one in added if one.ref.group_kind in (NAMESPACE, CRD)]
        others = [one for one in added if one not in holders]
        for some in (others, holders):
            live = await asyncio.gather(*(self.work.cluster.get(one.ref) for one in some))
            doomed = []
            for one, obj in zip(some, live, strict=True):
                if obj is None:
                    continue
                why = _CHANGED if _is_others(obj) else await self._held(one.ref)
                if why:
                    way.left.append(f"{one.ref}: {why}")
                else:
                    doomed.append(one)
            if doomed:
                way.deleted += (await delete_objects(self.work, doomed)).removed
        for one in added:
            intent = of[one.ref].intent if one.ref in of else b""
            await self.work.engine.ledger.give_back(one.ref, intent, _nothing)

    async def _held(self, ref: Ref) -> str:
        """Whose objects would go with a namespace or a definition; "" for nobody's."""
        try:
            if ref.group_kind == NAMESPACE:
                found = await residents(self.work, ref.name)
            elif ref.group_kind == CRD:
                plural, _, group = ref.name.partition(".")
                kind = await self.work.cluster.resources.kind_of(group, plural)
                of_kind = await self.work.cluster.select([(group, kind)]) if kind else []
                found = [one.ref for one in of_kind]
            else:
                return ""
        except ClusterError as error:
            return f"what it holds cannot be seen: {error.summary}"
        return f"it holds {listing(found, limit=_MOST_TOLD)}" if found else ""

    async def namespaces(self) -> list[str]:
        """Those that the objects are about: all where one lies in the mesh's own, or in none."""
        _, planned = await self._planned()
        named = {one.ref.namespace for one in planned}
        root = (await take_inventory(self.work.cluster)).namespace("istio-system")
        return [EVERYWHERE] if {"", root} & named else sorted(named)

    async def _planned(self) -> tuple[list[KubeObject], list[PlannedObject]]:
        objects = copy.deepcopy(list(self.request.objects))
        await set_namespaces(self.work, objects)
        planned = [PlannedObject.of(obj) for obj in objects]
        refuse_duplicates(planned)
        Reach.of(self.work.command).require(one.ref for one in planned)
        return objects, planned


async def _nothing() -> None:
    """Writes nothing."""


def _not_undone(former: Former, live: KubeObject | None) -> str:
    """Why an object is left as it is; "" when its change can be undone."""
    if live is None:
        return "somebody has deleted it since"
    if former.patch is None or former.obj is None:
        return ""
    if live["metadata"]["uid"] != former.uid:
        return "it is another one by now"
    is_edited = standing(live, former.obj, former.patch) is Standing.EDITED
    return _CHANGED if is_edited else ""


def _is_others(obj: KubeObject) -> bool:
    """Whether somebody has written an object's content since we made it, or made it anew."""
    return own_entry(obj) is None or any(
        not is_own(entry)
        and not entry.get("subresource")
        and set(entry.get("fieldsV1") or {}) - _NO_CONTENT
        for entry in managed_fields(obj)
    )


def bare(ref: Ref, obj: KubeObject) -> KubeObject:
    """An object without what the API server adds, to be applied again."""
    metadata = obj.get("metadata") or {}
    names = ("name", "namespace", "labels", "annotations")
    rest = {k: v for k, v in obj.items() if k not in ("apiVersion", "kind", "metadata", "status")}
    return {
        "apiVersion": ref.api_version,
        "kind": ref.kind,
        "metadata": {name: metadata[name] for name in names if metadata.get(name)},
        **rest,
    }
