"""The intents that lifecycle keeps: read one by one, and followed as they change."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass

import structlog

from services.chassis.bus.connection import Bus
from services.chassis.bus.reading import OrderedReader
from services.chassis.bus.records import Bucket
from services.chassis.errors import InvalidMessage
from services.chassis.messages.applied import AppliedObject, key_of, prefix_of, unpacked
from services.topology.cluster.objects import Key

_BUCKET = "intents"
_OPERATION = "KV-Operation"

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Intent:
    """An intent that came (`applied`), or was forgotten (None)."""

    key: Key
    applied: AppliedObject | None


@dataclass(frozen=True, slots=True)
class IntentBucket:
    """Implements `drift.ports.Intents`."""

    bus: Bus

    async def read(self, cluster: str, key: Key) -> AppliedObject | None:
        """None also for what another version of ours wrote and this one cannot read."""
        entry = await Bucket(self.bus, _BUCKET).get(
            key_of(cluster, kind=key.kind, namespace=key.namespace, name=key.name)
        )
        return _read(entry.value) if entry is not None else None

    async def followed(self, cluster: str) -> AsyncGenerator[Intent, None]:
        """All intents of a cluster, then each change, without end and over restarts of the bus."""
        reader = OrderedReader(
            self.bus, f"KV_{_BUCKET}", f"$KV.{_BUCKET}.{prefix_of(cluster)}.>", 1
        )
        keys: dict[str, Key] = {}
        async for message in reader.messages():
            if message.headers.get(_OPERATION) in ("DEL", "PURGE"):
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


def _read(value: bytes) -> AppliedObject | None:
    try:
        return unpacked(value)
    except InvalidMessage:
        log.warning("intent_unreadable")
        return None
