"""NATS, a lifecycle worker, and the drift of one real cluster as the topology service looks at it.

`Rig` gives commands as a person with the nats CLI does, and tells what drifted. What it watches
with is `Drifts` in this process; the tests only read `told`, so that they can as well be run with
what the service tells on its feed.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import orjson

from services.chassis.bus import subjects
from services.chassis.bus.connection import Bus, connect
from services.chassis.bus.credentials import Sealer
from services.chassis.bus.intents import prefix_of, unpacked
from services.chassis.bus.publishing import Publisher
from services.chassis.bus.records import Bucket, Records
from services.chassis.errors import KindUnknown
from services.chassis.kube.client import KubeClient
from services.chassis.kube.kubeconfigs import parse_kubeconfig
from services.chassis.kube.resources import Resources
from services.chassis.kube.watching import ChangeType, watched
from services.chassis.messages import Command, OperationRecord, OperationState, SlotKind
from services.chassis.regions import Regions
from services.lifecycle.cluster.inventory import OWNED_KINDS
from services.topology.adapters.applied import ClusterApplied
from services.topology.cluster.objects import Key
from services.topology.drift.watching import Drifts
from services.topology.feed.deltas import DRIFT_PART, Item, Parts
from tests.testbed.clusters import Cluster
from tests.testbed.stack import Stack

_WITHIN = timedelta(seconds=20)


@dataclass(frozen=True, slots=True)
class Told:
    """One word on one object, and when it came (monotonic clock)."""

    ident: str
    item: Item | None
    at: float


@dataclass(slots=True)
class Rig:
    """One cluster with lifecycle and its drift."""

    cluster: Cluster
    token: str
    bus: Bus
    drifts: Drifts | None = None
    told: list[Told] = field(default_factory=list)
    seen: dict[str, float] = field(default_factory=dict)
    """When a watch last brought an object, by the id that its drift has."""
    events: int = 0
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    # --- what happens ---------------------------------------------------------------------------

    async def run(self, kind: str, *, operation: str, **command: Any) -> OperationRecord:
        """One operation of lifecycle, to its end."""
        await self.begin(kind, operation=operation, **command)
        records = Records(Bucket(self.bus, "ops"), OperationRecord)
        key = subjects.operation_key(operation, self.token)
        async with asyncio.timeout(120.0):
            while True:
                stored = await records.get(key)
                if stored is not None and stored[0].state.is_terminal:
                    assert stored[0].state is OperationState.SUCCEEDED, stored[0]
                    return stored[0]
                await asyncio.sleep(0.02)

    async def begin(self, kind: str, *, operation: str, **command: Any) -> None:
        """Queues an operation."""
        asked = Command(operation=operation, kind=kind, cluster=self.token, **command)
        slot = SlotKind.MESH if kind == "istio" else SlotKind.APPLY
        await Publisher(self.bus).command(asked, service="lifecycle", slot=slot, within=_WITHIN)

    async def apply(self, operation: str, *objects: dict[str, Any]) -> None:
        """Applies objects by a manifest, and waits until their intents are known here."""
        await self.run("manifest", operation=operation, body=manifest(*objects))
        drifts = self.watching
        await self.until(lambda: {_key(obj) for obj in objects} <= drifts.kinds())

    async def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        return await asyncio.to_thread(self.cluster.kubectl, *arguments, stdin=stdin)

    async def intents(self) -> list[str]:
        """All records of applied objects, as the bucket has them."""
        bucket = Bucket(self.bus, "intents")
        keys = await bucket.keys(matching=f"{prefix_of(self.token)}.>")
        found = [await bucket.get(key) for key in keys]
        return [unpacked(entry.value).model_dump_json() for entry in found if entry is not None]

    async def kept(self) -> int:
        """How many keys of applied objects there are, forgotten ones included."""
        found = await Bucket(self.bus, "intents").keys(matching=f"{prefix_of(self.token)}.>")
        return len(found)

    # --- what is told -----------------------------------------------------------------------------

    @property
    def watching(self) -> Drifts:
        assert self.drifts is not None
        return self.drifts

    def tell(self, parts: Parts) -> None:
        for ident, item in parts[DRIFT_PART].items():
            self.told.append(Told(ident, item, time.monotonic()))
        self._changed.set()

    def changed(self) -> None:
        self._changed.set()

    async def until(self, holds: Callable[[], object], *, within_s: float = 60.0) -> None:
        async with asyncio.timeout(within_s):
            while not holds():
                self._changed.clear()
                await self._changed.wait()

    async def drift(self, ident: str, **expected: Any) -> Item:
        """The drift of an object as it is told now, once it has these fields."""
        found: Item = {}

        def is_told() -> bool:
            nonlocal found
            last = next((t.item for t in reversed(self.told) if t.ident == ident), None)
            found = last or {}
            return bool(last) and all(found[name] == value for name, value in expected.items())

        try:
            await self.until(is_told)
        except TimeoutError:
            raise AssertionError(f"never {expected}: {found}; {self.told}") from None
        return found

    async def over(self, ident: str) -> None:
        """Until the drift of an object has ended."""
        await self.until(lambda: ident not in self.watching.items() and self.was_told(ident))

    def was_told(self, ident: str, *, since: int = 0) -> bool:
        """Whether there was a word on it, after the first `since` words on anything."""
        return any(told.ident == ident for told in self.told[since:])

    def latency_s(self, ident: str) -> float:
        """From the last watch event of an object to the word on it."""
        told = next(t.at for t in reversed(self.told) if t.ident == ident)
        return told - self.seen[ident]


def manifest(*objects: dict[str, Any]) -> str:
    return "\n---\n".join(orjson.dumps(obj).decode() for obj in objects)


def _key(obj: dict[str, Any]) -> Key:
    group = obj["apiVersion"].rpartition("/")[0]
    metadata = obj["metadata"]
    return Key(f"{group}/{obj['kind']}", metadata.get("namespace", ""), metadata["name"])


@dataclass(slots=True)
class _Watches:
    """Watches of all kinds that lifecycle applies, started as they are wanted."""

    rig: Rig
    client: KubeClient
    resources: Resources
    group: asyncio.TaskGroup
    _kinds: set[str] = field(default_factory=set)

    async def want(self, kind: str) -> None:
        if kind in self._kinds:
            return
        group, _, name = kind.partition("/")
        resource = await self.resources.preferred(group, name)
        if resource is None:
            # Defined since discovery was read last.
            await self.resources.refresh()
            resource = await self.resources.preferred(group, name)
        if resource is not None and "watch" in resource.verbs:
            self._kinds.add(kind)
            self.group.create_task(self._watch(kind, resource.collection()))

    async def _watch(self, kind: str, path: str) -> None:
        with contextlib.suppress(KindUnknown):  # its definition went
            await self._watched(kind, path)
        self._kinds.discard(kind)

    async def _watched(self, kind: str, path: str) -> None:
        drifts = self.rig.watching
        async with aclosing(watched(self.client, path)) as changes:
            async for change in changes:
                if change.type is ChangeType.LISTED:
                    drifts.relisted(kind, change.items)
                    continue
                self.rig.events += 1
                metadata = change.obj["metadata"]
                ident = f"{kind}/{metadata.get('namespace', '')}/{metadata['name']}"
                self.rig.seen[ident] = time.monotonic()
                if change.type is ChangeType.DELETED:
                    drifts.gone(kind, change.obj)
                else:
                    drifts.saw(kind, change.obj)
                self.rig.changed()


@asynccontextmanager
async def rigged(folder: Path, cluster: Cluster, **options: Any) -> AsyncIterator[Rig]:
    """A rig for the block; `options` are those of `Drifts`."""
    stack = Stack(folder)
    async with AsyncExitStack() as exits:
        exits.push_async_callback(asyncio.to_thread, stack.stop)
        await asyncio.to_thread(stack.nats.start)
        await asyncio.to_thread(stack.apply_streams)
        await asyncio.to_thread(stack.add, "lifecycle")
        await asyncio.to_thread(stack.wait_ready, "lifecycle")
        bus = await connect(stack.settings("admin"), service="admin")
        exits.push_async_callback(bus.close)
        bus.keys = stack.keys
        config = parse_kubeconfig(cluster.kubeconfig_text)
        sealer = Sealer(Bucket(bus, "credentials"))
        await sealer.register(config.cluster, cluster.kubeconfig_text)
        client = await exits.enter_async_context(KubeClient(config, connections=100))
        rig = Rig(cluster, config.cluster, bus)
        async with watching(rig, client, options):
            yield rig
        assert stack.refusals("lifecycle") == []


@asynccontextmanager
async def watching(rig: Rig, client: KubeClient, options: dict[str, Any]) -> AsyncIterator[None]:
    """Watches the rig's cluster for the block."""
    resources = Resources(client)
    applied = ClusterApplied(
        cluster=rig.token,
        name="bed",
        bus=rig.bus,
        client=client,
        resources=resources,
        publisher=Publisher(rig.bus),
        region=partial(Regions(rig.bus).serving, "lifecycle", ""),
    )
    rig.drifts = Drifts(
        applied=applied,
        publish=rig.tell,
        **options,
    )

    async def work() -> None:
        async with asyncio.TaskGroup() as group:
            watches = _Watches(rig, client, resources, group)
            group.create_task(rig.watching.run())
            for owned in OWNED_KINDS:
                await watches.want("/".join(owned))
            async for intent in applied.followed():
                rig.watching.intended(intent.key, intent.applied)
                if intent.applied is not None:
                    await watches.want(intent.key.kind)
                rig.changed()

    working = asyncio.create_task(work())
    try:
        yield
    finally:
        ended = working.done()
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
        if ended:
            working.result()
