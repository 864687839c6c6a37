"""Objects too large for a message: chunks on a stream, in the layout of NATS's object store.

The layout is ADR-20's, so that `nats object ls` and `nats object get` work on it. nats-py's own
object store is not used: its `get` copies all it has for each chunk, and it reads through an
ordered consumer. Here chunks are read directly, one request each.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

import nats.js.errors
import orjson
from nats.js.api import RawStreamMsg

from services.chassis.bus.connection import Bus
from services.chassis.bus.publishing import retried
from services.chassis.errors import BusUnavailable, InternalError
from services.chassis.reading.jsons import read_json

_LONGEST_NAME = 512
_CHUNK_BYTES = 128 * 1024
_TRY_TIMEOUT_S = 2.0
_WITHIN = timedelta(seconds=20)
_ROLLUP = {"Nats-Rollup": "sub"}


@dataclass(frozen=True, slots=True)
class Objects:
    """One object store by its bucket's name."""

    bus: Bus
    bucket: str
    within: timedelta = _WITHIN

    @property
    def stream(self) -> str:
        return f"OBJ_{self.bucket}"

    async def put(self, name: str, content: bytes, *, ttl: timedelta | None = None) -> None:
        """Stores `content` under `name`, in place of what was there; gone after `ttl`."""
        nuid = secrets.token_hex(11)
        chunks = [
            content[start : start + _CHUNK_BYTES] for start in range(0, len(content), _CHUNK_BYTES)
        ]
        for number, chunk in enumerate(chunks):
            await self._publish(
                f"$O.{self.bucket}.C.{nuid}",
                chunk,
                {"Nats-Msg-Id": f"{nuid}.{number}"},
                ttl=ttl,
            )
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode()
        info = {
            "name": name,
            "bucket": self.bucket,
            "nuid": nuid,
            "size": len(content),
            "chunks": len(chunks),
            "digest": f"SHA-256={digest}",
            "mtime": datetime.now(timezone.utc).isoformat().replace("+00:00", "Z"),
            "options": {"max_chunk_size": _CHUNK_BYTES},
        }
        await self._publish(self._meta(name), orjson.dumps(info), dict(_ROLLUP), ttl=ttl)

    async def get(self, name: str) -> bytes | None:
        """The content; None when there is no such object, or it has gone meanwhile."""
        if len(name) > _LONGEST_NAME:
            return None  # its subject would be longer than the server takes
        meta = await self._last(self._meta(name))
        if meta is None:
            return None
        info = read_json(meta.data or b"{}")
        if info.get("deleted"):
            return None
        subject = f"$O.{self.bucket}.C.{info['nuid']}"
        parts: list[bytes] = []
        sequence = 0
        for _ in range(int(info.get("chunks") or 0)):
            message = await self._next(subject, after=sequence)
            if message is None:
                return None
            parts.append(message.data or b"")
            sequence = message.seq or 0
        content = b"".join(parts)
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode()
        if info.get("digest") != f"SHA-256={digest}":
            raise InternalError(f"the object {name} is damaged")
        return content

    def _meta(self, name: str) -> str:
        return f"$O.{self.bucket}.M.{base64.urlsafe_b64encode(name.encode()).decode()}"

    async def _publish(
        self, subject: str, body: bytes, headers: dict[str, str], *, ttl: timedelta | None
    ) -> None:
        seconds = max(1, round(ttl.total_seconds())) if ttl else None

        async def once() -> None:
            await self.bus.client.jetstream(timeout=_TRY_TIMEOUT_S).publish(
                subject, body, headers=dict(headers), msg_ttl=seconds
            )

        try:
            await retried(once, within=self.within, what=f"an object in {self.bucket}")
        except nats.js.errors.APIError as error:
            raise BusUnavailable(f"NATS refuses an object in {self.bucket}") from error

    async def _last(self, subject: str) -> RawStreamMsg | None:
        return await self._read(subject, None)

    async def _next(self, subject: str, *, after: int) -> RawStreamMsg | None:
        return await self._read(subject, after + 1)

    async def _read(self, subject: str, sequence: int | None) -> RawStreamMsg | None:
        async def once() -> RawStreamMsg:
            context = self.bus.client.jetstream(timeout=_TRY_TIMEOUT_S)
            return await context.get_msg(
                self.stream, seq=sequence, subject=subject, direct=True, next=sequence is not None
            )

        try:
            return await retried(once, within=self.within, what=f"an object in {self.bucket}")
        except nats.js.errors.NotFoundError:
            return None
