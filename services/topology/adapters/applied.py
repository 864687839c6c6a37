"""The applied objects of a cluster, for the drift: intents, which lifecycle keeps on the bus, live
objects, and repairs, which lifecycle makes because topology writes to no cluster."""

from __future__ import annotations

import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

import structlog

from services.chassis.bus.connection import Bus
from services.chassis.bus.intents import (
    AppliedObject,
    comparable,
    healing_id,
    key_of,
    prefix_of,
    unpacked,
)
from services.chassis.bus.publishing import Publisher
from services.chassis.bus.reading import OrderedReader
from services.chassis.bus.records import Bucket, is_deletion
from services.chassis.errors import InvalidMessage, KindUnknown, NamespaceMissing, ObjectNotFound
from services.chassis.kube.client import KubeClient
from services.chassis.kube.manifests import dump_manifest
from services.chassis.kube.objects import KubeObject, Ref
from services.chassis.kube.resources import Resources
from services.chassis.messages import Command, SlotKind
from services.topology.cluster.objects import Key

_BUCKET = "intents"
_PUBLISH_WITHIN = timedelta(seconds=5)
_BEGUN_WITHIN = timedelta(seconds=30)
"""Later the object is looked at again anyway."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Intent:
    """An intent that came (`applied`), or was forgotten (None)."""

    key: Key
    applied: AppliedObject | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterApplied:
    """Implements `drift.watching.AppliedObjects` for one registered cluster."""

    cluster: str
    name: str
    bus: Bus
    client: KubeClient
    resources: Resources
    publisher: Publisher
    region: Callable[[], Awaitable[str]]
    """The one whose lifecycle workers write to the cluster, as the bus knows it now."""

    async def intent(self, key: Key) -> AppliedObject | None:
        """None also for an intent that another version wrote and this one cannot read."""
        entry = await Bucket(self.bus, _BUCKET).get(
            key_of(self.cluster, kind=key.kind, namespace=key.namespace, name=key.name)
        )
        applied = _read(entry.value) if entry is not None else None
        return comparable(applied, keys=self.bus.keys) if applied is not None else None

    async def followed(self) -> AsyncGenerator[Intent, None]:
        """All intents of the cluster, then each change, without end and over restarts of the
        bus."""
        reader = OrderedReader(
            self.bus, f"KV_{_BUCKET}", f"$KV.{_BUCKET}.{prefix_of(self.cluster)}.>", 1
        )
        keys: dict[str, Key] = {}
        async for message in reader.messages():
            if is_deletion(message.headers):
                # A mark of forgetting has no object in it; of an unknown one nothing is to be said.
                known = keys.pop(message.subject, None)
                if known is not None:
                    yield Intent(known, None)
                continue
            applied = _read(message.body)
            if applied is not None:
                key = Key(applied.kind, applied.namespace, applied.name)
                keys[message.subject] = key
                yield Intent(key, applied)

    async def live(self, key: Key) -> KubeObject | None:
        group, _, kind = key.kind.partition("/")
        resource = await self.resources.preferred(group, kind)
        if resource is None:
            # Defined since discovery was read last.
            await self.resources.refresh()
            resource = await self.resources.preferred(group, kind)
        if resource is None:
            return None
        ref = Ref(resource.api_version, kind, key.namespace, key.name)
        try:
            obj: KubeObject = await self.client.get(resource.path(ref), subject=str(ref))
        except (ObjectNotFound, NamespaceMissing, KindUnknown):
            return None
        return obj

    async def heal(self, intent: AppliedObject, body: KubeObject) -> str:
        region = await self.region()
        operation = healing_id(intent, number=uuid.uuid4().hex)
        command = Command(
            operation=operation,
            kind="manifest",
            cluster=self.cluster,
            cluster_name=self.name,
            namespace=intent.namespace or "default",
            username=intent.username,
            body=dump_manifest([body]),
            region=region,
            deadline=datetime.now(timezone.utc) + _BEGUN_WITHIN,
        )
        await self.publisher.command(
            command,
            service="lifecycle",
            slot=SlotKind.APPLY,
            within=_PUBLISH_WITHIN,
            sender="topology",
            region=region,
        )
        return operation


def _read(value: bytes) -> AppliedObject | None:
    try:
        return unpacked(value)
    except InvalidMessage:
        log.warning("intent_unreadable")
        return None
