"""An ordered reader of a stream: every message once, in stream order, from a given sequence.

It stands on an ephemeral pull consumer that is made anew, from the next sequence, whenever the
server restarts or forgets it; the reader checks the sequences itself.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field

import nats.errors
import orjson
import structlog
from nats.aio.msg import Msg

from services.chassis.bus.connection import Bus
from services.chassis.bus.streams import call_api
from services.chassis.errors import BusUnavailable

_BATCH = 256
_EXPIRES_S = 30.0
_HEARTBEAT_S = 3.0
_SILENCE_S = 7.5
_INACTIVE_S = 60.0
_PAUSE_S = 0.25

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """A message and its place in the stream."""

    sequence: int
    subject: str
    body: bytes
    headers: dict[str, str]


@dataclass(slots=True)
class OrderedReader:
    """Reads `stream` from `start` (a stream sequence) on."""

    bus: Bus
    stream: str
    subject: str
    start: int
    _queue: asyncio.Queue[Msg | None] = field(default_factory=asyncio.Queue)

    async def messages(self) -> AsyncGenerator[StoredMessage, None]:
        """Endless; over restarts of the server as well."""
        following = self.start
        forget = self.bus.on_reconnect(lambda: self._queue.put_nowait(None))
        try:
            while True:
                try:
                    async with contextlib.aclosing(self._session(following)) as session:
                        async for stored in session:
                            following = stored.sequence + 1
                            yield stored
                except (BusUnavailable, nats.errors.Error) as error:
                    log.info("reader_restarts", stream=self.stream, reason=type(error).__name__)
                    await asyncio.sleep(_PAUSE_S)
        finally:
            forget()

    async def _session(self, start: int) -> AsyncGenerator[StoredMessage, None]:
        """Messages of one consumer; ends when it has to be made anew."""
        self._queue = asyncio.Queue()
        client = self.bus.client
        inbox = client.new_inbox()
        subscription = await client.subscribe(inbox, cb=self._queue.put)
        try:
            consumer = await self._create(start)
            asked = 0
            while True:
                if asked <= _BATCH // 2:
                    await self._request(consumer, inbox)
                    asked += _BATCH
                message = await self._next()
                if message is None:
                    return
                status = (message.headers or {}).get("Status")
                if status == "100":
                    continue
                if status == "408":
                    asked -= _unserved(message, asked)
                    continue
                if status is not None:
                    return
                asked -= 1
                metadata = message.metadata
                yield StoredMessage(
                    sequence=metadata.sequence.stream,
                    subject=message.subject,
                    body=message.data,
                    headers=dict(message.headers or {}),
                )
        finally:
            if not client.is_closed:
                await subscription.unsubscribe()

    async def _next(self) -> Msg | None:
        try:
            async with asyncio.timeout(_SILENCE_S):
                return await self._queue.get()
        except TimeoutError:
            return None

    async def _create(self, start: int) -> str:
        answer = await call_api(
            self.bus.client,
            f"CONSUMER.CREATE.{self.stream}",
            {
                "stream_name": self.stream,
                "config": {
                    "deliver_policy": "by_start_sequence",
                    "opt_start_seq": max(1, start),
                    "ack_policy": "none",
                    "filter_subject": self.subject,
                    "mem_storage": True,
                    "num_replicas": 1,
                    "inactive_threshold": int(_INACTIVE_S * 1e9),
                },
            },
        )
        if "error" in answer:
            raise BusUnavailable(f"stream {self.stream} cannot be read")
        return str(answer["name"])

    async def _request(self, consumer: str, inbox: str) -> None:
        body = {
            "batch": _BATCH,
            "expires": int(_EXPIRES_S * 1e9),
            "idle_heartbeat": int(_HEARTBEAT_S * 1e9),
        }
        await self.bus.client.publish(
            f"$JS.API.CONSUMER.MSG.NEXT.{self.stream}.{consumer}", orjson.dumps(body), reply=inbox
        )


def _unserved(expired: Msg, asked: int) -> int:
    """How many of the messages that were asked for an expired pull leaves unserved."""
    return min(int((expired.headers or {}).get("Nats-Pending-Messages", asked)), asked)
