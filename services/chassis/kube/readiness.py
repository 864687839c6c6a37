"""When a workload counts as ready: pure predicates on raw objects, and the wait on watches.

The rules are those of `kubectl rollout status` and of the API conventions' conditions.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from contextlib import aclosing
from dataclasses import dataclass
from datetime import timedelta

from services.chassis.errors import KindUnknown
from services.chassis.kube.client import KubeClient
from services.chassis.kube.objects import KubeObject, Ref
from services.chassis.kube.resources import Resources
from services.chassis.kube.watching import ChangeType, watched

Predicate = Callable[[KubeObject], bool]
OnReady = Callable[[Ref], Awaitable[None]]


def _observed(obj: KubeObject) -> bool:
    status = obj.get("status") or {}
    return int(status.get("observedGeneration") or 0) >= int(obj["metadata"].get("generation") or 0)


def deployment_ready(obj: KubeObject) -> bool:
    """All wanted replicas are of the newest template and available."""
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    wanted = int(spec.get("replicas", 1))
    return (
        _observed(obj)
        and int(status.get("updatedReplicas") or 0) >= wanted
        and int(status.get("replicas") or 0) <= int(status.get("updatedReplicas") or 0)
        and int(status.get("availableReplicas") or 0) >= wanted
    )


def daemon_set_ready(obj: KubeObject) -> bool:
    """Every node that should run it runs the newest template; no node at all counts as ready."""
    status = obj.get("status") or {}
    wanted = int(status.get("desiredNumberScheduled") or 0)
    return (
        _observed(obj)
        and int(status.get("updatedNumberScheduled") or 0) >= wanted
        and int(status.get("numberAvailable") or 0) >= wanted
    )


def stateful_set_ready(obj: KubeObject) -> bool:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    wanted = int(spec.get("replicas", 1))
    return (
        _observed(obj)
        and int(status.get("readyReplicas") or 0) >= wanted
        and int(status.get("updatedReplicas") or 0) >= wanted
    )


def crd_established(obj: KubeObject) -> bool:
    conditions = (obj.get("status") or {}).get("conditions") or []
    return any(c["type"] == "Established" and c["status"] == "True" for c in conditions)


def gateway_programmed(obj: KubeObject) -> bool:
    """Its controller has made what answers for it, of the newest spec."""
    generation = int(obj["metadata"].get("generation") or 0)
    conditions = (obj.get("status") or {}).get("conditions") or []
    return any(
        c["type"] == "Programmed"
        and c["status"] == "True"
        and int(c.get("observedGeneration") or 0) >= generation
        for c in conditions
    )


def namespace_active(obj: KubeObject) -> bool:
    return (obj.get("status") or {}).get("phase") == "Active"


PREDICATES: dict[tuple[str, str], Predicate] = {
    ("apps", "Deployment"): deployment_ready,
    ("apps", "DaemonSet"): daemon_set_ready,
    ("apps", "StatefulSet"): stateful_set_ready,
    ("apiextensions.k8s.io", "CustomResourceDefinition"): crd_established,
    ("", "Namespace"): namespace_active,
    ("gateway.networking.k8s.io", "Gateway"): gateway_programmed,
}


def is_ready(obj: KubeObject) -> bool:
    """True for kinds that have no readiness of their own."""
    predicate = PREDICATES.get(Ref.of(obj).group_kind)
    return predicate is None or predicate(obj)


@dataclass(frozen=True, slots=True)
class Readiness:
    """Waits on watches, one for each kind and namespace, until objects are ready."""

    client: KubeClient
    resources: Resources

    async def wait(self, refs: Iterable[Ref], *, within: timedelta, on_ready: OnReady) -> set[Ref]:
        """Calls `on_ready` as each object becomes ready; returns those that did not in time."""
        waiting = set(refs)

        async def became_ready(ref: Ref) -> None:
            waiting.discard(ref)
            await on_ready(ref)

        try:
            async with asyncio.timeout(within.total_seconds()), asyncio.TaskGroup() as group:
                for wanted in _by_collection(waiting):
                    group.create_task(self._watch(wanted, became_ready), name="ready")
        except TimeoutError:
            return waiting
        return set()

    async def wait_gone(self, refs: Iterable[Ref], *, within: timedelta) -> set[Ref]:
        """Waits until objects are gone; returns those that are still there when time is up."""
        waiting = set(refs)
        try:
            async with asyncio.timeout(within.total_seconds()), asyncio.TaskGroup() as group:
                for wanted in _by_collection(waiting):
                    group.create_task(self._watch_gone(wanted, waiting), name="gone")
        except TimeoutError:
            return waiting
        return set()

    async def _watch_gone(self, wanted: set[Ref], waiting: set[Ref]) -> None:
        sample = next(iter(wanted))
        try:
            resource = await self.resources.find(sample.api_version, sample.kind)
        except KindUnknown:
            waiting -= wanted
            return
        names = {ref.name: ref for ref in wanted}
        path = resource.collection(sample.namespace)
        async with aclosing(watched(self.client, path, query=_only(names))) as changes:
            async for change in changes:
                if change.type is ChangeType.LISTED:
                    present = {obj["metadata"]["name"] for obj in change.items}
                    left = [name for name in names if name not in present]
                elif change.type is ChangeType.DELETED:
                    left = [change.obj["metadata"]["name"]]
                else:
                    continue
                for ref in [names.pop(name) for name in left if name in names]:
                    waiting.discard(ref)
                if not names:
                    return

    async def _watch(self, wanted: set[Ref], became_ready: OnReady) -> None:
        """Reports those of `wanted` (all of one collection) that are or become ready."""
        sample = next(iter(wanted))
        resource = await self.resources.find(sample.api_version, sample.kind)
        names = {ref.name: ref for ref in wanted}
        path = resource.collection(sample.namespace)
        async with aclosing(watched(self.client, path, query=_only(names))) as changes:
            async for change in changes:
                if change.type is ChangeType.DELETED:
                    continue
                objects = change.items if change.type is ChangeType.LISTED else (change.obj,)
                for obj in objects:
                    ref = names.get(obj["metadata"]["name"])
                    if ref is not None and is_ready(obj):
                        await became_ready(names.pop(ref.name))
                if not names:
                    return


def _by_collection(refs: Iterable[Ref]) -> list[set[Ref]]:
    """The objects of one kind and namespace together: one watch serves them all."""
    collections: dict[tuple[str, str, str], set[Ref]] = {}
    for ref in refs:
        collections.setdefault((ref.api_version, ref.kind, ref.namespace), set()).add(ref)
    return list(collections.values())


def _only(names: dict[str, Ref]) -> dict[str, str]:
    """A field selector for a single object, so that the server sends only its events."""
    return {"fieldSelector": f"metadata.name={next(iter(names))}"} if len(names) == 1 else {}
