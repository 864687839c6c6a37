"""Key-value records with compare-and-swap, on the buckets that `streams` defines.

A thin layer over JetStream messages: get by direct read, create and update by expected revision.
nats-py's own KV class is not used because of its watch, its history and its expiry markers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Generic, TypeVar

import nats.errors
import nats.js.errors
import structlog
from nats.js.api import RawStreamMsg
from pydantic import ValidationError

from services.chassis.bus.connection import Bus
from services.chassis.bus.publishing import retried
from services.chassis.bus.reading import StoredMessage, last_of_each
from services.chassis.bus.streams import call_api
from services.chassis.errors import BusUnavailable, MeshbusError, shortened
from services.chassis.messages.models import Message
from services.chassis.reading.jsons import read_json

_WRONG_LAST_SEQUENCE = 10071
_TRY_TIMEOUT_S = 2.0
_OPERATION = "KV-Operation"
_MARKED_FOR = timedelta(days=30)
"""How long a mark of deletion is kept. A server that is killed finds values again on its disk that
were overwritten, as long as nothing newer is there: until then the mark is what is newer."""
_BRIEFLY = timedelta(minutes=10)
_FEW = 16

log = structlog.get_logger(__name__)

M = TypeVar("M", bound=Message)


def is_deletion(headers: Mapping[str, str] | None) -> bool:
    """Whether a message of a bucket is the mark of a key that was deleted."""
    return (headers or {}).get(_OPERATION) in ("DEL", "PURGE")


class RevisionConflict(Exception):
    """Another writer changed the key first."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A stored value and the revision that it was stored under."""

    value: bytes
    revision: int
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Bucket:
    """One bucket by its name."""

    bus: Bus
    name: str
    within: timedelta = timedelta(seconds=10)

    async def get(self, key: str) -> Entry | None:
        """The newest value; None for a key that is missing or deleted."""
        subject = f"$KV.{self.name}.{key}"

        async def once() -> RawStreamMsg:
            context = self.bus.client.jetstream(timeout=_TRY_TIMEOUT_S)
            return await context.get_last_msg(f"KV_{self.name}", subject, direct=True)

        try:
            message = await retried(once, within=self.within, what=f"reading {self.name}/{key}")
        except nats.js.errors.NotFoundError:
            return None
        if is_deletion(message.headers):
            return None
        return Entry(message.data or b"", message.seq or 0, message.headers or {})

    async def get_all(self, keys: Collection[str]) -> dict[str, Entry]:
        """The newest values of those keys that have one, by one question."""
        prefix = f"$KV.{self.name}."
        subjects = [f"{prefix}{key}" for key in keys]
        try:
            [found] = await last_of_each(self.bus, f"KV_{self.name}", subjects, [None])
        except BusUnavailable:
            # Also where the server's rights are of a version that asked one by one.
            entries = await asyncio.gather(*(self.get(key) for key in keys))
            pairs = zip(keys, entries, strict=True)
            return {key: entry for key, entry in pairs if entry is not None}
        return {
            one.subject.removeprefix(prefix): Entry(one.body, one.sequence, one.headers)
            for one in found
            if not is_deletion(one.headers)
        }

    async def put(
        self,
        key: str,
        value: bytes,
        *,
        ttl: timedelta | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> int:
        """Stores over any earlier value; returns the revision."""
        return await self._store(key, value, expected=None, ttl=ttl, headers=headers)

    async def create(self, key: str, value: bytes) -> int:
        """Stores under a key that is free; raises `RevisionConflict` otherwise."""
        try:
            return await self._store(key, value, expected=0)
        except RevisionConflict:
            # A deleted key leaves a marker that counts as a revision.
            marker = await self._marker(key)
            if marker is None:
                raise
            return await self._store(key, value, expected=marker)

    async def create_unseen(self, key: str, value: bytes, *, ttl: timedelta | None) -> None:
        """The same for a writer without the right to read: to it a deleted key is a taken one."""
        await self._store(key, value, expected=0, ttl=ttl, may_read=False)

    async def update(self, key: str, value: bytes, *, revision: int) -> int:
        """Stores only over `revision`; raises `RevisionConflict` otherwise."""
        return await self._store(key, value, expected=revision)

    async def delete(self, key: str, *, revision: int | None = None, expires: bool = False) -> None:
        """Leaves a mark of deletion, which vanishes by itself: soon where the value `expires`
        anyway, as what belongs to one operation does."""
        ttl = _BRIEFLY if expires else _MARKED_FOR
        await self._store(key, b"", expected=revision, ttl=ttl, headers={_OPERATION: "DEL"})

    async def keys(self, *, matching: str = ">") -> list[str]:
        """All keys that match, deleted ones included: a listing without a consumer.

        The server answers with at most 100 000 at once (its `JSMaxSubjectDetails`), so it is asked
        until there are no more.
        """
        prefix = f"$KV.{self.name}."
        found: set[str] = set()
        while True:
            answer = await call_api(
                self.bus.client,
                f"STREAM.INFO.KV_{self.name}",
                {"subjects_filter": f"{prefix}{matching}", "offset": len(found)},
            )
            names = (answer.get("state") or {}).get("subjects") or {}
            before = len(found)
            found.update(name.removeprefix(prefix) for name in names)
            if len(found) == before or len(found) >= int(answer.get("total") or 0):
                return sorted(found)

    async def keys_among(self, patterns: Collection[str], *, within: str) -> set[str]:
        """Keys that match one of `patterns`, which all lie in the pattern `within`; with many
        patterns all keys of `within`.

        Few are asked for one by one: a cluster has many keys, and where objects come and go, many
        more that only mark what was deleted.
        """
        asked = sorted(patterns) if len(patterns) <= _FEW else [within]
        listings = await asyncio.gather(*(self.keys(matching=pattern) for pattern in asked))
        return {key for listing in listings for key in listing}

    async def _stored(self, key: str, value: bytes, *, deletion: bool) -> int | None:
        """The key's revision, if its value is the one that we meant to write."""
        if deletion:
            return await self._marker(key)
        entry = await self.get(key)
        return entry.revision if entry is not None and entry.value == value else None

    async def _marker(self, key: str) -> int | None:
        async def once() -> RawStreamMsg:
            return await self.bus.client.jetstream(timeout=_TRY_TIMEOUT_S).get_last_msg(
                f"KV_{self.name}", f"$KV.{self.name}.{key}", direct=True
            )

        try:
            message = await retried(once, within=self.within, what=f"reading {self.name}/{key}")
        except nats.js.errors.NotFoundError:
            return None
        deleted = is_deletion(message.headers)
        return message.seq if deleted else None

    async def _store(
        self,
        key: str,
        value: bytes,
        *,
        expected: int | None,
        ttl: timedelta | None = None,
        headers: Mapping[str, str] | None = None,
        may_read: bool = True,
    ) -> int:
        sent = dict(headers or {})
        if expected is not None:
            sent["Nats-Expected-Last-Subject-Sequence"] = str(expected)
        seconds = max(1, round(ttl.total_seconds())) if ttl else None
        attempts = 0

        async def once() -> int:
            nonlocal attempts
            attempts += 1
            context = self.bus.client.jetstream(timeout=_TRY_TIMEOUT_S)
            ack = await context.publish(
                f"$KV.{self.name}.{key}", value, headers=dict(sent) or None, msg_ttl=seconds
            )
            return int(ack.seq)

        try:
            return await retried(once, within=self.within, what=f"writing {self.name}/{key}")
        except nats.js.errors.APIError as error:
            if error.err_code != _WRONG_LAST_SEQUENCE:
                raise BusUnavailable(shortened(str(error.description))) from error
            if attempts > 1 and may_read:
                # The answer to an earlier try may have been lost: was it our own write?
                stored = await self._stored(key, value, deletion=_OPERATION in sent)
                if stored is not None:
                    return stored
            raise RevisionConflict(f"{self.name}/{key}") from None


@dataclass(frozen=True, slots=True)
class Records(Generic[M]):
    """A bucket whose values are JSON of one message type."""

    bucket: Bucket
    model: type[M]

    async def get(self, key: str) -> tuple[M, int] | None:
        entry = await self.bucket.get(key)
        if entry is None:
            return None
        return self.model.model_validate(read_json(entry.value)), entry.revision

    def read(self, message: StoredMessage) -> M | None:
        """What a message of the bucket's stream holds; None for a mark of deletion, and for what
        another version wrote and this one cannot read."""
        if is_deletion(message.headers):
            return None
        try:
            return self.model.model_validate(read_json(message.body))
        except (ValidationError, MeshbusError) as error:
            log.warning("record_unreadable", bucket=self.bucket.name, reason=type(error).__name__)
            return None

    async def create(self, key: str, record: M) -> int:
        return await self.bucket.create(key, record.model_dump_json().encode())

    async def put(self, key: str, record: M) -> int:
        return await self.bucket.put(key, record.model_dump_json().encode())

    async def update(self, key: str, record: M, *, revision: int) -> int:
        return await self.bucket.update(key, record.model_dump_json().encode(), revision=revision)
