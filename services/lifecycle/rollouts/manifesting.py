"""The steps of a manifest on one cluster: tried by a dry run, applied, and put back as it was."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Sequence
from dataclasses import dataclass

from services.chassis.errors import ObjectInvalid
from services.chassis.kube.objects import KubeObject, Ref
from services.lifecycle.cluster.facts import dry_run
from services.lifecycle.cluster.inventory import take_inventory
from services.lifecycle.manifests.objects import PlannedObject, listing
from services.lifecycle.manifests.reach import Reach
from services.lifecycle.manifests.readiness import await_ready
from services.lifecycle.manifests.work import Work
from services.lifecycle.manifests.writing import (
    apply_objects,
    delete_objects,
    refuse_duplicates,
    set_namespaces,
    tell_plan,
)
from services.lifecycle.rollouts.options import RolloutRequest
from services.lifecycle.rollouts.records import EVERYWHERE

_MOST_TOLD = 5


@dataclass(frozen=True, slots=True)
class Manifest:
    """The objects of a rollout on one cluster."""

    work: Work
    request: RolloutRequest

    async def check(self) -> None:
        """Raises for what the policy, or the API server with its webhooks, would refuse."""
        objects, planned = await self._planned()
        tell_plan(self.work, planned)
        refusals = await dry_run(self.work.cluster, objects)
        told = [f"{one.ref}: {why}" for one, why in zip(planned, refusals, strict=True) if why]
        if told:
            more = f" and {len(told) - _MOST_TOLD} more" if len(told) > _MOST_TOLD else ""
            raise ObjectInvalid(f"a dry run refuses {'; '.join(told[:_MOST_TOLD])}{more}")

    async def former(self) -> tuple[list[KubeObject], list[Ref]]:
        """The objects that are there, as they are, and those that are not."""
        _, planned = await self._planned()
        live = await asyncio.gather(*(self.work.cluster.get(one.ref) for one in planned))
        found = list(zip(planned, live, strict=True))
        there = [bare(one.ref, obj) for one, obj in found if obj is not None]
        return there, [one.ref for one, obj in found if obj is None]

    async def apply(self) -> None:
        """Applies them all, and waits for the workloads among them."""
        _, planned = await self._planned()
        await apply_objects(self.work, planned)
        await await_ready(self.work, planned, within=self.request.mesh.readiness_timeout)

    async def put_back(self, objects: Sequence[KubeObject], added: Sequence[str]) -> None:
        """Applies objects as they were, and deletes those that were added."""
        _, planned = await self._planned()
        gone = [one for one in planned if str(one.ref) in set(added)]
        if gone:
            await delete_objects(self.work, gone)
        former = [PlannedObject.of(obj) for obj in objects]
        await apply_objects(self.work, former)
        await await_ready(self.work, former, within=self.request.mesh.readiness_timeout)
        self.work.progress.note(
            f"{len(former)} objects are as they were, {len(gone)} are deleted",
            listing([one.ref for one in [*former, *gone]]),
        )

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
