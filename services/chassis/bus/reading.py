"""An ordered reader of a stream: every message once, in stream order, from a given sequence.

It stands on direct reads of many messages at once (ADR-31 of NATS), and on what the stream tells of
each new one under `live.`. A consumer of its own would be one request less; but whoever may create
consumers may name the subject that they deliver to, and so reach what only the streams' own account
may.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

import nats.errors
import orjson
import structlog
from nats.aio.msg import Msg

from services.chassis.bus.connection import Bus
from services.chassis.bus.streams import live
from services.chassis.errors import BusUnavailable

_BATCH = 256
_BATCH_BYTES = 8 * 1024 * 1024
"""One message is read whatever it holds."""
_SUBJECTS = 250
"""Named in one question for the last of each; the server answers 1024 at most."""
_ANSWER_WITHIN_S = 5.0
_PAUSE_S = 0.25
# A replica of the stream may be behind the one that told of a message; some never show, because
# they were overwritten or deleted in between.
_BEHIND_S = 0.02
_BEHIND_AT_MOST_S = 1.0
# A hint can be lost, and some streams give none.
_LOOK_AGAIN_S = 5.0
_LOOK_UNTOLD_S = 0.5

# The server tells nanoseconds, Python knows microseconds.
_TO_MICROSECONDS = re.compile(r"(\.\d{6})\d*Z\Z")
_END = "204"
_NOTHING = "404"

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

    async def messages(self) -> AsyncGenerator[StoredMessage, None]:
        """Endless; over restarts of the server as well."""
        following = max(1, self.start)
        async with _listening(self.bus, live(self.subject)) as hearing:
            while True:
                try:
                    async with contextlib.aclosing(self._there(hearing, following)) as there:
                        async for stored in there:
                            following = stored.sequence + 1
                            yield stored
                except (BusUnavailable, nats.errors.Error) as error:
                    log.info("reader_restarts", stream=self.stream, reason=type(error).__name__)
                    await asyncio.sleep(_PAUSE_S)
                    continue
                await hearing.for_news(following)

    async def stored(self) -> AsyncGenerator[StoredMessage, None]:
        """What is there, and no more. Raises `BusUnavailable`."""
        try:
            async with (
                _listening(self.bus, "") as hearing,
                contextlib.aclosing(self._there(hearing, max(1, self.start))) as there,
            ):
                async for stored in there:
                    yield stored
        except nats.errors.Error as error:
            raise BusUnavailable(f"stream {self.stream} cannot be read") from error

    async def _there(
        self, hearing: _Hearing, following: int
    ) -> AsyncGenerator[StoredMessage, None]:
        has_more = True
        while has_more:
            hearing.begin()
            await hearing.ask(
                self.stream,
                {
                    "seq": following,
                    "next_by_subj": self.subject,
                    "batch": _BATCH,
                    "max_bytes": _BATCH_BYTES,
                },
            )
            while True:
                message = await hearing.answer()
                status = (message.headers or {}).get("Status")
                if status is not None:
                    has_more = _has_more(self.stream, message, status)
                    break
                stored = _stored(message)
                following = stored.sequence + 1
                yield stored


async def last_of_each(
    bus: Bus, stream: str, subjects: Sequence[str], moments: Sequence[datetime | None]
) -> list[list[StoredMessage]]:
    """For each moment, the message of each subject that was stored last until then; for None the
    last there is.

    Moments are of the server's clock. It finds the messages itself, and what lies between is not
    read. Raises `BusUnavailable`.
    """
    pieces = [subjects[at : at + _SUBJECTS] for at in range(0, len(subjects), _SUBJECTS)]
    async with _listening(bus, "") as hearing:
        return [
            [
                message
                for piece in pieces
                for message in await _last_until(hearing, stream, piece, moment)
            ]
            for moment in moments
        ]


async def _last_until(
    hearing: _Hearing, stream: str, subjects: Sequence[str], moment: datetime | None
) -> list[StoredMessage]:
    found: list[StoredMessage] = []
    bounds = {"multi_last": list(subjects), "batch": _SUBJECTS, "max_bytes": _BATCH_BYTES}
    asked: dict[str, Any] = dict(bounds)
    if moment is not None:
        asked["up_to_time"] = _told_time(moment)
    try:
        await hearing.ask(stream, asked)
        while True:
            message = await hearing.answer()
            headers = message.headers or {}
            status = headers.get("Status")
            if status is None:
                found.append(_stored(message))
            elif not _has_more(stream, message, status):
                return found
            else:
                # The rest, as of the same message of the stream.
                asked = {
                    **bounds,
                    "seq": found[-1].sequence + 1,
                    "up_to_seq": int(headers["Nats-UpTo-Sequence"]),
                }
                await hearing.ask(stream, asked)
    except (nats.errors.Error, KeyError, IndexError) as error:
        # Also an end that does not say where it is, of a server that knows no such reads.
        raise BusUnavailable(f"stream {stream} cannot be read") from error


def _told_time(moment: datetime) -> str:
    return moment.astimezone(timezone.utc).isoformat().replace("+00:00", "Z")


@asynccontextmanager
async def _listening(bus: Bus, hints: str) -> AsyncIterator[_Hearing]:
    """An inbox for answers, and hints on the subject `hints`, where there are some."""
    client = bus.client
    hearing = _Hearing(bus, client.new_inbox(), tells=bool(hints))
    listened = [await client.subscribe(f"{hearing.inbox}.*", cb=hearing.take)]
    if hints:
        listened.append(await client.subscribe(hints, cb=hearing.told))
    forget = bus.on_reconnect(hearing.wake)
    try:
        yield hearing
    finally:
        forget()
        if not client.is_closed:
            for subscription in listened:
                await subscription.unsubscribe()


@dataclass(slots=True)
class _Hearing:
    """What comes to one reader: answers to what it asked last, and hints that there is more."""

    bus: Bus
    inbox: str
    tells: bool
    _news: asyncio.Event = field(default_factory=asyncio.Event)
    _newest: int = 0
    """The highest sequence that a hint named."""
    _behind_s: float = 0.0
    """How long that has not shown."""
    _asked: int = 0
    _answers: asyncio.Queue[Msg | None] = field(default_factory=asyncio.Queue)

    def begin(self) -> None:
        """What is told from now on is news to what is asked next."""
        self._news.clear()

    async def ask(self, stream: str, asked: Mapping[str, Any]) -> None:
        self._asked += 1
        self._answers = asyncio.Queue()
        await self.bus.client.publish(
            f"$JS.API.DIRECT.GET.{stream}",
            orjson.dumps(asked),
            reply=f"{self.inbox}.{self._asked}",
        )

    async def answer(self) -> Msg:
        """Raises `BusUnavailable` when none comes, or the connection was lost meanwhile."""
        try:
            async with asyncio.timeout(_ANSWER_WITHIN_S):
                message = await self._answers.get()
        except TimeoutError:
            message = None
        if message is None:
            raise BusUnavailable("NATS does not answer a read")
        return message

    async def for_news(self, following: int) -> None:
        """Returns when there may be something at `following` or behind it."""
        if self._newest >= following and self._behind_s < _BEHIND_AT_MOST_S:
            self._behind_s += _BEHIND_S
            await asyncio.sleep(_BEHIND_S)
            return
        self._newest, self._behind_s = 0, 0.0
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LOOK_AGAIN_S if self.tells else _LOOK_UNTOLD_S):
                await self._news.wait()

    async def take(self, message: Msg) -> None:
        if message.subject.endswith(f".{self._asked}"):
            self._answers.put_nowait(message)

    async def told(self, message: Msg) -> None:
        sequence = (message.headers or {}).get("Nats-Sequence", "")
        if sequence.isdecimal():
            self._newest = max(self._newest, int(sequence))
        self._news.set()

    def wake(self) -> None:
        """Gives up what was asked: the answer went with the connection."""
        self._answers.put_nowait(None)
        self._news.set()


def _has_more(stream: str, message: Msg, status: str) -> bool:
    """Whether there is more than this answer held; raises for an answer that is none."""
    if status == _NOTHING:
        return False
    if status != _END:
        raise BusUnavailable(f"stream {stream} cannot be read")
    return (message.headers or {}).get("Nats-Num-Pending", "0") != "0"


def _stored(message: Msg) -> StoredMessage:
    headers = dict(message.headers or {})
    try:
        sequence = int(headers.pop("Nats-Sequence"))
        time = datetime.fromisoformat(_TO_MICROSECONDS.sub(r"\1+00:00", headers["Nats-Time-Stamp"]))
        is_newest = headers["Nats-Num-Pending"] == "0"
        subject = headers["Nats-Subject"]
    except (KeyError, ValueError):
        raise BusUnavailable("an answer of a stream cannot be read") from None
    return StoredMessage(
        sequence=sequence,
        time=time,
        is_newest=is_newest,
        subject=subject,
        body=message.data,
        headers=headers,
    )
