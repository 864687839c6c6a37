"""A reader of a watch that knows what a cache would know, and the small objects that it watches."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, field

from services.chassis.kube.applying import Applier
from services.chassis.kube.client import KubeClient
from services.chassis.kube.objects import KubeObject
from services.chassis.kube.watching import Change, ChangeType, watched
from tests.real.chassis.kube.objects import body, config_map, ref
from tests.testbed.waiting import eventually

OURS = "owner=tests"
"""The cluster puts a ConfigMap of its own into each namespace, some time after it was made."""


@dataclass(slots=True)
class Cache:
    """What a reader of the changes knows: resource versions by name."""

    known: dict[str, str] = field(default_factory=dict)
    changes: list[Change] = field(default_factory=list)

    def take(self, change: Change) -> None:
        self.changes.append(change)
        if change.type is ChangeType.LISTED:
            self.known = versions(change.items)
        elif change.type is ChangeType.DELETED:
            self.known.pop(change.obj["metadata"]["name"], None)
        else:
            self.known |= versions([change.obj])

    def types(self) -> list[ChangeType]:
        return [change.type for change in self.changes]

    def listings(self) -> int:
        return self.types().count(ChangeType.LISTED)

    async def has(self, name: str) -> None:
        await eventually(lambda: name in self.known, what=f"{name} to be seen", within_s=60.0)

    async def has_not(self, name: str) -> None:
        await eventually(lambda: name not in self.known, what=f"{name} to be gone", within_s=60.0)


def versions(objects: list[KubeObject] | tuple[KubeObject, ...]) -> dict[str, str]:
    """Resource versions by name."""
    return {obj["metadata"]["name"]: obj["metadata"]["resourceVersion"] for obj in objects}


@asynccontextmanager
async def watching_into(client: KubeClient, path: str, **query: str) -> AsyncIterator[Cache]:
    """A cache that follows `path` during the block; it has the first listing already."""
    cache = Cache()

    async def watch() -> None:
        async with aclosing(watched(client, path, query=query)) as changes:
            async for change in changes:
                cache.take(change)

    task = asyncio.create_task(watch())
    try:
        await eventually(lambda: cache.changes or task.done(), what="the listing", within_s=60.0)
        yield cache
        assert not task.done(), task.exception()
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def config_maps(namespace: str) -> str:
    """The path of the namespace's ConfigMaps."""
    return f"/api/v1/namespaces/{namespace}/configmaps"


async def put(applier: Applier, namespace: str, name: str, **data: str) -> None:
    obj = config_map(name, namespace, **data)
    obj["metadata"]["labels"] = {"owner": "tests"}
    await applier.apply(ref(obj), body(obj))


async def drop(applier: Applier, namespace: str, name: str) -> None:
    await applier.delete(ref(config_map(name, namespace)))
