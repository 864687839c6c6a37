"""Moves namespaces from one revision to another: labels, and restarts of what runs there.

What a namespace was labelled before stands on the namespace itself (`FORMER`), with the rollout
that moved it, so that any worker can bring it back, or give it its tag again once the tag has
moved. The note of another rollout is what a way back left that was given up: it counts for nothing.
A workload is restarted as
`kubectl rollout restart` does it, by an annotation of its template, which says for which rollout:
so it is restarted once, whoever comes by. A restart keeps to the workload's own maxUnavailable, and
waits until every PodDisruptionBudget of its pods allows a disruption.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Protocol

import orjson

from services.chassis.bus.subjects import token
from services.chassis.errors import (
    DisruptionDenied,
    NamespaceMissing,
    NotReadyInTime,
    ObjectNotFound,
)
from services.chassis.kube.objects import KubeObject, Ref, annotations_of, labels_of
from services.chassis.kube.readiness import is_ready
from services.chassis.kube.watching import listed
from services.chassis.messages import Phase
from services.chassis.reading.jsons import read_json
from services.lifecycle.cluster import istio
from services.lifecycle.manifests.readiness import why_not_ready
from services.lifecycle.manifests.records import side_by_side
from services.lifecycle.manifests.work import Work

FORMER = "meshbus.io/rollout-former-labels"
RESTARTED = "meshbus.io/restarted-by"
"""On a template, and on a namespace when all its workloads are ready."""
_BY = "rollout"
"""In `FORMER`, beside the labels: which rollout it is of."""
_INJECT = "sidecar.istio.io/inject"
WORKLOADS = ("Deployment", "StatefulSet", "DaemonSet")
_LOOK_EVERY_S = 1.0


class Leaving(Protocol):
    """Tells namespaces that are to move by their labels."""

    def has(self, labels: Mapping[str, str]) -> bool: ...


@dataclass(frozen=True, slots=True)
class Origin:
    """The revision that namespaces come from."""

    revision: str
    tags: Sequence[str]

    def has(self, labels: Mapping[str, str]) -> bool:
        """Whether pods of a namespace with these labels get sidecars of the revision."""
        if istio.INJECTION in labels:
            is_default = self.revision == istio.DEFAULT_REVISION or istio.DEFAULT_TAG in self.tags
            return labels[istio.INJECTION] == "enabled" and is_default
        return labels.get(istio.REVISION, "") in (self.revision, *self.tags)


@dataclass(frozen=True, slots=True)
class Moved:
    """Namespaces that have moved, and how many are left."""

    names: Sequence[str]
    left: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Restarter:
    """Restarts workloads of one cluster, some at a time, as their budgets allow."""

    work: Work
    workloads_at_once: int
    within: timedelta
    """How long one workload may take to become ready."""
    patience: timedelta
    """How long its budgets may allow no disruption."""
    _budgets: dict[str, asyncio.Lock] = field(default_factory=lambda: defaultdict(asyncio.Lock))

    async def restart(
        self,
        namespace: str,
        workloads: Sequence[tuple[Ref, KubeObject]],
        *,
        by: str,
        labels: Mapping[Ref, Mapping[str, str | None]] | None = None,
        is_back: bool = False,
    ) -> None:
        """Restarts workloads of a namespace, each once for `by`, as their budgets allow, and waits
        for them. `labels` are changed in their templates on the way."""
        found = await self.work.cluster.objects("policy", "PodDisruptionBudget", namespace)
        budgets = found.items()

        async def one(found: tuple[Ref, KubeObject]) -> None:
            ref, obj = found
            own = [b for b, each in budgets if selects(each, labels_of(obj["spec"]["template"]))]
            async with self._in_turn(own):
                is_restarted = annotations_of(obj["spec"]["template"]).get(RESTARTED) == by
                if not is_restarted:
                    if is_back and ref.kind == "Deployment" and not is_ready(obj):
                        # Its own pods are what the budget waits for. A restart takes those first
                        # that are not ready, and of others none that maxUnavailable keeps.
                        self.work.progress.note(f"{ref} is not ready: it goes back all the same")
                    else:
                        await self._until_allowed(ref, own)
                    note = {"annotations": {RESTARTED: by}, "labels": (labels or {}).get(ref, {})}
                    self.work.fence.check()
                    try:
                        await self.work.cluster.merge(
                            ref, {"spec": {"template": {"metadata": note}}}
                        )
                    except ObjectNotFound:
                        return
                if is_restarted or is_ready(obj):
                    await self._until_ready(ref)
                else:
                    self.work.progress.warn(f"{ref} was not ready before its restart: not awaited")

        await side_by_side(one, workloads, parallel=self.workloads_at_once)

    async def _until_ready(self, ref: Ref) -> None:
        async def quiet(_: Ref) -> None:
            return None

        if await self.work.engine.ready([ref], within=self.within, on_ready=quiet):
            cluster = self.work.cluster
            raise NotReadyInTime(
                f"{ref} is not ready {self.within.total_seconds():.0f} s after its restart",
                cause=await why_not_ready(cluster.client, cluster.resources, ref),
                subject=str(ref),
            )

    @asynccontextmanager
    async def _in_turn(self, budgets: Sequence[Ref]) -> AsyncIterator[None]:
        """Workloads that share a budget go one after the other; always in one order."""
        async with AsyncExitStack() as stack:
            for name in sorted(str(ref) for ref in budgets):
                await stack.enter_async_context(self._budgets[name])
            yield

    async def _until_allowed(self, workload: Ref, budgets: Sequence[Ref]) -> None:
        """Waits until every budget allows a disruption."""
        deadline = asyncio.get_running_loop().time() + self.patience.total_seconds()
        is_told = False
        while True:
            denied = [ref for ref in budgets if not await self._allows(ref)]
            if not denied:
                return
            self.work.fence.check()
            if asyncio.get_running_loop().time() > deadline:
                raise DisruptionDenied(
                    f"{denied[0]} allowed no disruption of {workload} for "
                    f"{self.patience.total_seconds():.0f} s",
                    subject=str(denied[0]),
                )
            if not is_told:
                is_told = True
                self.work.progress.note(f"{workload} waits for {denied[0]} to allow a disruption")
            await asyncio.sleep(_LOOK_EVERY_S)

    async def _allows(self, ref: Ref) -> bool:
        budget = await self.work.cluster.get(ref)
        status = (budget or {}).get("status") or {}
        generation = int((budget or {}).get("metadata", {}).get("generation") or 0)
        if budget is None:
            return True
        is_seen = int(status.get("observedGeneration") or 0) >= generation
        has_pods = int(status.get("expectedPods") or 0) > 0
        return is_seen and (not has_pods or int(status.get("disruptionsAllowed") or 0) > 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mover:
    """Moves the namespaces of one cluster, some at a time: no step holds a slot for hours."""

    work: Work
    restarter: Restarter
    rollout: str
    labels: Mapping[str, str | None]
    """What a namespace that has moved is labelled; None for what it has no more."""
    goal: str
    """Where namespaces move, for people."""
    namespaces_at_once: int
    note: str = FORMER
    """The annotation that says what a namespace was labelled."""
    only: Collection[str] | None = None
    """The namespaces that it is about; all without it."""
    anyones: bool = False
    """Whether notes of other operations count, for a way back that is asked for later."""

    async def move(self, origin: Leaving) -> Moved:
        """Brings the next namespaces of the origin to the target.

        Raises `DisruptionDenied`, and `NotReadyInTime` with the likeliest reason.
        """
        by = token(self.rollout)
        found = await self._namespaces()
        moved = {_name(one) for one in found if self.has_moved(one)}
        pending = [
            one
            for one in found
            if (_name(one) in moved and annotations_of(one).get(RESTARTED) != by)
            or (_name(one) not in moved and origin.has(labels_of(one)))
        ]

        async def one(namespace: KubeObject) -> None:
            if _name(namespace) not in moved:
                former = {name: labels_of(namespace).get(name) for name in self.labels}
                former[_BY] = by
                note = {self.note: orjson.dumps(former).decode(), RESTARTED: None}
                await self._relabel(namespace, self.labels, annotations=note)
            await self._restart(_name(namespace), by=by)
            await self._relabel(namespace, {}, annotations={RESTARTED: by})

        batch = self._next(pending, f"move to {self.goal}")
        await side_by_side(one, batch, parallel=len(batch) or 1)
        names = sorted(moved | {_name(one) for one in batch})
        return Moved(names, len(pending) - len(batch))

    async def move_back(self) -> Moved:
        """Gives the next namespaces that were moved their labels again, and restarts what runs
        there."""
        pending = [one for one in await self._namespaces() if self.has_moved(one)]

        async def one(namespace: KubeObject) -> None:
            await self._relabel(namespace, former_labels(namespace, note=self.note))
            by = f"{token(self.rollout)}-back"
            await self._restart(_name(namespace), by=by, is_back=True)
            await self._relabel(namespace, {}, annotations=self._no_notes)

        batch = self._next(pending, "go back")
        await side_by_side(one, batch, parallel=len(batch) or 1)
        return Moved([_name(one) for one in batch], len(pending) - len(batch))

    async def settle(self, old: str) -> None:
        """Gives namespaces the tag or the label that they had, now that it means the new revision.
        Those that named the old revision itself name the new one from now on."""
        for namespace in await self._namespaces():
            if not self.has_moved(namespace):
                continue
            former = former_labels(namespace, note=self.note)
            named_itself = former[istio.INJECTION] is None and former[istio.REVISION] == old
            labels = {} if named_itself else former
            await self._relabel(namespace, labels, annotations=self._no_notes)

    def _next(self, pending: Sequence[KubeObject], doing: str) -> Sequence[KubeObject]:
        batch = pending[: self.namespaces_at_once]
        if batch:
            self.work.progress.note(
                f"{', '.join(_name(one) for one in batch)} {doing}; "
                f"{len(pending) - len(batch)} namespaces are left"
            )
        return batch

    def has_moved(self, namespace: KubeObject) -> bool:
        """Whether the operation has moved it, or has begun to."""
        if self.note not in annotations_of(namespace):
            return False
        by = _noted(namespace, self.note).get(_BY)
        if by is None:  # noted by an earlier version of ours
            own = labels_of(namespace)
            return all(own.get(name) == value for name, value in self.labels.items())
        return self.anyones or bool(by == token(self.rollout))

    @property
    def _no_notes(self) -> Mapping[str, str | None]:
        return {self.note: None, RESTARTED: None}

    # --- namespaces -----------------------------------------------------------------------------

    async def _namespaces(self) -> list[KubeObject]:
        found = await listed(self.work.cluster.client, "/api/v1/namespaces")
        alive = (
            one
            for one in found.items
            if not one["metadata"].get("deletionTimestamp")
            and (self.only is None or _name(one) in self.only)
        )
        return sorted(alive, key=lambda one: str(one["metadata"]["name"]))

    async def _relabel(
        self,
        namespace: KubeObject,
        labels: Mapping[str, str | None],
        *,
        annotations: Mapping[str, str | None] | None = None,
    ) -> None:
        """Changes labels and notes in one patch; None removes one."""
        ref = Ref("v1", "Namespace", "", _name(namespace))
        metadata = {"labels": dict(labels), "annotations": dict(annotations or {})}

        async def write() -> KubeObject:
            return await self.work.cluster.merge(ref, {"metadata": metadata})

        self.work.fence.check()
        try:
            await self.work.engine.ledger.relabel(ref, labels, write)
        except (ObjectNotFound, NamespaceMissing):
            return  # deleted meanwhile

    # --- workloads ------------------------------------------------------------------------------

    async def _restart(self, namespace: str, *, by: str, is_back: bool = False) -> None:
        workloads = [
            (ref, obj)
            for kind in WORKLOADS
            for ref, obj in (await self.work.cluster.objects("apps", kind, namespace)).items()
            if _is_meshed(obj)
        ]
        await self.restarter.restart(namespace, workloads, by=by, is_back=is_back)
        if workloads:
            self.work.progress.tell(
                Phase.READY,
                f"{namespace}: {len(workloads)} workloads restarted",
                numbers={"workloads": len(workloads), "seconds": self.work.progress.seconds},
            )


def _name(namespace: KubeObject) -> str:
    return str(namespace["metadata"]["name"])


def _noted(namespace: KubeObject, note: str) -> dict[str, Any]:
    """What stands in the note; {} for one that nobody can read."""
    try:
        noted = read_json(annotations_of(namespace)[note].encode())
    except ValueError:
        return {}
    return noted if isinstance(noted, dict) else {}


def former_labels(namespace: KubeObject, *, note: str = FORMER) -> dict[str, str | None]:
    """The labels that a namespace had; of a note that nobody can read, none for sidecars."""
    found = _noted(namespace, note)
    names = (found.keys() - {_BY}) or {istio.INJECTION, istio.REVISION}
    return {n: found.get(n) if isinstance(found.get(n), str) else None for n in sorted(names)}


def _is_meshed(workload: KubeObject) -> bool:
    """Whether its pods get sidecars: control planes and what opts out are left alone."""
    template = (workload.get("spec") or {}).get("template") or {}
    notes = {**annotations_of(template), **labels_of(template)}
    is_out = notes.get(_INJECT) == "false" or bool((template.get("spec") or {}).get("hostNetwork"))
    return not is_out and labels_of(workload).get(istio.COMPONENT) != istio.PILOT


def selects(budget: KubeObject, labels: Mapping[str, str]) -> bool:
    """Whether a budget is about pods with these labels."""
    selector = (budget.get("spec") or {}).get("selector")
    if selector is None:
        return False
    wanted = selector.get("matchLabels") or {}
    if any(labels.get(name) != value for name, value in wanted.items()):
        return False
    return all(_holds(one, labels) for one in selector.get("matchExpressions") or [])


def _holds(expression: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    key, values = str(expression.get("key")), expression.get("values") or []
    match expression.get("operator"):
        case "In":
            return labels.get(key) in values
        case "NotIn":
            return labels.get(key) not in values
        case "Exists":
            return key in labels
        case "DoesNotExist":
            return key not in labels
    return False
