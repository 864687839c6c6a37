"""An ordered reader of a stream: every message once, in stream order, from a given sequence.

It stands on an ephemeral pull consumer that is made anew, from the next sequence, whenever the
server restarts or forgets it; the reader checks the sequences itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from datetime import datetime

import nats.errors
import structlog
from nats.aio.msg import Msg

from services.chassis.bus.connection import Bus
from services.chassis.bus.inbox import PullInbox
from services.chassis.bus.streams import call_api
from services.chassis.errors import BusUnavailable

_BATCH = 256
_HEARTBEAT_S = 3.0
_INACTIVE_S = 60.0
_PAUSE_S = 0.25

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """A message and its place in the stream."""

    sequence: int
    time: datetime
    """When the server stored it."""
    is_newest: bool
    """Whether no further one was there when the server sent it."""
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
    headers_only: bool = False
    """Leaves the bodies where they are."""

    async def messages(self) -> AsyncGenerator[StoredMessage, None]:
        """Endless; over restarts of the server as well."""
        following = self.start
        while True:
            try:
                consumer = await self._create(following)
                inbox = PullInbox(self.bus, f"{self.stream}.{consumer}", _BATCH, _HEARTBEAT_S)
                async with inbox.opened():
                    while (message := await inbox.next()) is not None:
                        stored = _stored(message)
                        following = stored.sequence + 1
                        yield stored
            except (BusUnavailable, nats.errors.Error) as error:
                log.info("reader_restarts", stream=self.stream, reason=type(error).__name__)
                await asyncio.sleep(_PAUSE_S)

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
                    "headers_only": self.headers_only,
                },
            },
        )
        if "error" in answer:
            raise BusUnavailable(f"stream {self.stream} cannot be read")
        return str(answer["name"])


def _stored(message: Msg) -> StoredMessage:
    return StoredMessage(
        sequence=message.metadata.sequence.stream,
        time=message.metadata.timestamp,
        is_newest=message.metadata.num_pending == 0,
        subject=message.subject,
        body=message.data,
        headers=dict(message.headers or {}),
    )
