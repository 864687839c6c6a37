"""A waypoint that takes another one's place, by a canary.

The new one stands beside the old one and has its policies before anybody uses it. Then whoever
uses the old one is taken over, Service by Service where that is asked for, each when istiod says
that the one before uses it; the old one goes last. Until then everything can go back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from services.chassis.errors import NotReadyInTime, ObjectNotFound, PrecheckRefused
from services.chassis.kube.objects import KubeObject, Ref, labels_of
from services.lifecycle.ambient.attaching import ATTACHED
from services.lifecycle.ambient.changes import (
    OF_OBJECT,
    OF_SPEC,
    OF_TEMPLATE,
    Change,
    see,
    template_labels,
)
from services.lifecycle.ambient.enrolling import Enrolling
from services.lifecycle.ambient.options import WaypointOptions
from services.lifecycle.ambient.prerequisites import against_waypoint, plane_of, require_plane
from services.lifecycle.ambient.waypoints import (
    FOR,
    GATEWAY,
    USE,
    USE_NAMESPACE,
    condition,
    is_waypoint,
    ref_of,
    used_by,
    users,
)
from services.lifecycle.manifests.objects import listing
from services.lifecycle.manifests.reach import Reach

_BOUND = "istio.io/WaypointBound"
_LOOK_EVERY_S = 0.5


class Replacing(Enrolling):
    """A step of a waypoint's canary."""

    async def _precheck(self) -> None:
        await self._claim()
        require_plane(await plane_of(self.work.cluster), self.request)
        against_waypoint(self.request, await self._waypoints())
        for home in self.request.homes():
            old = ref_of(home, self._waypoint.replaces or "")
            live = await self.work.cluster.get(old)
            if live is None or not is_waypoint(live):
                raise ObjectNotFound(f"{old} is not there, or is no waypoint", subject=str(old))
            serves = labels_of(live).get(FOR, "service")
            if serves != self._waypoint.serves:
                raise PrecheckRefused(
                    f"{old} is for {serves}, and the new one for {self._waypoint.serves}",
                    cause="who uses it would lose what the new one does not get",
                    remedy=f"say `for: {serves}` of the waypoint",
                )
        planned = [*await self._policies(), *await self._rebound()]
        reach = Reach.of(self.work.command)
        for change in planned:
            place = change.ref.namespace or change.ref.name
            reach.require_namespace(place, what=str(change.ref))
        self.work.progress.note(
            f"Plan: {len(planned)} objects are taken over",
            listing([change.ref for change in planned]) or "Nobody uses the old one.",
        )

    async def _apply(self) -> None:
        """The new waypoint, and then its policies."""
        await Enrolling._apply(self)
        if not self.kept.undo:
            planned = [*await self._policies(), *await self._rebound()]
            await self.keep(undo=self.store.sealed([one.document() for one in planned]))
        await self._change([one for one in self._planned() if one.path == OF_SPEC])

    async def _move(self) -> None:
        """Takes over who uses the old one: all at once, or Services one by one before the rest."""
        planned = [one for one in self._planned() if one.path != OF_SPEC]
        services = [one for one in planned if one.ref.kind == "Service"]
        if self._waypoint.bind == "services":
            for change in services:
                await self._change([change])
                await self._await_bound([change])
                self.work.progress.note(f"{change.ref} uses waypoint {self._waypoint.name}")
            planned = [one for one in planned if one not in services]
            services = []
        await self._change(planned)
        await self._await_bound(services)
        self._note(labelled=str(len(self._planned())))

    async def _remove(self) -> None:
        """The old one goes, unless somebody has begun to use it; policies name it no more."""
        for home in self.request.homes():
            old = ref_of(home, self._waypoint.replaces or "")
            await self._remove_waypoints([old])
            if await self.work.cluster.get(old) is None:
                await self._change(await self._policies(home, leaves=True))

    async def _await_bound(self, changes: Sequence[Change]) -> None:
        """Waits until istiod says of each Service that it uses the new waypoint; of one that used
        none before, as istiod says, nothing is awaited."""
        deadline = asyncio.get_running_loop().time() + self.request.within.total_seconds()
        for change in changes:
            home = self._waypoint.namespace or change.ref.namespace
            wanted = f"{home}/{self._waypoint.name}"
            while live := await self.work.cluster.get(change.ref):
                told = condition(live, _BOUND)
                is_told = told.get("status") == "True"
                if not told or (is_told and str(told.get("message")).endswith(f" {wanted}")):
                    break
                self.work.fence.check()
                if asyncio.get_running_loop().time() > deadline:
                    raise NotReadyInTime(
                        f"{change.ref} does not use waypoint {wanted} after "
                        f"{self.request.within.total_seconds():.0f} s",
                        cause=str(told.get("message") or "istiod says nothing of it"),
                        remedy="see that the waypoint's revision serves this namespace",
                        subject=str(change.ref),
                    )
                await asyncio.sleep(_LOOK_EVERY_S)

    # --- parts of steps -------------------------------------------------------------------------

    @property
    def _waypoint(self) -> WaypointOptions:
        waypoint = self.request.options.waypoint
        if waypoint is None or waypoint.replaces is None:
            raise ObjectNotFound("the request names no waypoint that is replaced")
        return waypoint

    async def _rebound(self) -> list[Change]:
        """Who uses an old waypoint by labels; of pods the templates of their workloads."""
        found = []
        for home in self.request.homes():
            old = ref_of(home, self._waypoint.replaces or "")
            own = await users(self.work.cluster, old)
            for ref in sorted(own):
                live = await self.work.cluster.get(ref) if ref.kind != "Pod" else None
                if live is not None:
                    found.append(self._taken(ref, live, labels_of(live), home, OF_OBJECT))
            spaces = sorted({ref.namespace or ref.name for ref in own})
            sight = await see(self.work.cluster, spaces)
            for ref, workload in sorted(sight.workloads.items()):
                labels = template_labels(workload)
                if used_by(labels, ref.namespace) == old:
                    found.append(self._taken(ref, workload, labels, home, OF_TEMPLATE))
            if self._waypoint.bind == "services":
                found += [
                    self._taken(ref, service, labels_of(service), home, OF_OBJECT)
                    for ref, service in sorted(sight.services.items())
                    if USE not in labels_of(service)
                    and used_by(sight.labels(ref.namespace), ref.namespace) == old
                ]
        return found

    def _taken(
        self, ref: Ref, live: KubeObject, labels: Mapping[str, str], home: str, path: Sequence[str]
    ) -> Change:
        place = ref.namespace or ref.name
        wanted = {USE: self._waypoint.name, USE_NAMESPACE: home if home != place else None}
        before = {name: labels.get(name) for name in wanted}
        return Change(ref, wanted, before, str(live["metadata"]["uid"]), path)

    async def _policies(self, *homes: str, leaves: bool = False) -> list[Change]:
        """Policies that are attached to the old one: to the new one as well, or to that alone."""
        found = []
        group, kind = GATEWAY
        for home in homes or self.request.homes():
            for attached in ATTACHED:
                objects = await self.work.cluster.objects(*attached, home)
                for ref, obj in sorted(objects.items()):
                    own = list((obj.get("spec") or {}).get("targetRefs") or [])
                    gateways = {
                        str(one.get("name")): one
                        for one in own
                        if (one.get("group"), one.get("kind")) == (group, kind)
                    }
                    old = gateways.get(self._waypoint.replaces or "")
                    if old is None:
                        continue
                    wanted = [one for one in own if not (leaves and one is old)]
                    if self._waypoint.name not in gateways:
                        wanted.append({**old, "name": self._waypoint.name})
                    uid = str(obj["metadata"]["uid"])
                    if wanted != own:
                        change = Change(
                            ref, {"targetRefs": wanted}, {"targetRefs": own}, uid, OF_SPEC
                        )
                        found.append(change)
        return found
