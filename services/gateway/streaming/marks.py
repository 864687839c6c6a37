"""Up to where clients have got the events: the mark that keeps a restart from losing or repeating.

The mark is the sequence, in the stream EVT, up to which every event that an identity may see was
written to at least one of its clients, of any replica. Each identity has a mark of its own, so that
no stranger's stream uses up its events. It is shared through the bucket `delivery`, where it only
grows.

The stored mark follows a moment behind. gRPC acknowledges nothing, and a client's library throws
away what its program has not read when a connection breaks: so a gateway that is killed repeats
what it wrote in its last second, and loses nothing of it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import structlog
from pydantic import ValidationError

from services.chassis.bus.records import Bucket, Entry, RevisionConflict
from services.chassis.errors import BusUnavailable
from services.chassis.messages.models import Message
from services.gateway.background import Background

KEY = "floor"
"""Of the local user, who is everybody where nobody is told apart."""
_BEHIND_S = 0.5
"""So long a client's program has for reading an event before it counts as delivered; up to twice as
long where events follow each other. NATS being away, also the time between two attempts."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class StreamState:
    """The state of the stream EVT on the server."""

    created: str
    """When the stream was made: a stream that was lost and made anew is another one."""
    last: int
    """Sequence of its newest message."""


class Mark(Message):
    """A value of the bucket `delivery`."""

    stream: str
    """`StreamState.created`, as the server writes it."""
    sequence: int

    def covers(self, other: Mark) -> bool:
        """Whether this mark stands at or after `other`."""
        return (self.stream, self.sequence) >= (other.stream, other.sequence)


@dataclass(slots=True)
class Marks:
    """The mark, in memory and in the bucket."""

    bucket: Bucket
    state: Callable[[], Awaitable[StreamState]]
    background: Background
    key: str = KEY
    floor: int = 0
    stream: str = ""
    _stored: Mark | None = None
    _revision: int | None = None
    """None: nothing is stored yet."""
    _storing: asyncio.Lock = field(default_factory=asyncio.Lock)
    _following: asyncio.Task[None] | None = None

    @property
    def is_known(self) -> bool:
        """Whether something was ever delivered to this identity, of any stream."""
        return self._stored is not None

    async def recall(self) -> int:
        """Reads the stream's state and the stored mark; delivery goes on after the result."""
        state = await self.state()
        async with self._storing:
            await self._reread()
        memory = min(self.floor, state.last) if self.stream == state.created else 0
        self.stream = state.created
        self.floor = max(memory, _floor_of(self._stored, state))
        stored = self._stored
        if stored is not None and stored != self._mark() and stored.covers(self._mark()):
            await self._replace()
        return self.floor

    def delivered(self, sequence: int, *, stream: str) -> None:
        """Everything up to `sequence` was written to a client; it is stored a moment later."""
        self.pass_over(sequence, stream=stream)
        is_followed = self._following is not None and not self._following.done()
        if not is_followed and not self._has(self._mark()):
            self._following = self.background.start("store-mark", self._follow())

    def pass_over(self, sequence: int, *, stream: str) -> None:
        """An event that this identity may not see, and all before it were delivered."""
        # An event of a stream that is gone counts for nothing any more.
        if stream == self.stream:
            self.floor = max(self.floor, sequence)

    async def keep(self) -> None:
        """Stores what was delivered or passed over by now: a client has left with what it has."""
        with contextlib.suppress(BusUnavailable):
            await self._store(self._mark())

    async def _follow(self) -> None:
        """Stores the mark half a second late, until it stands at the floor."""
        while not self._has(mark := self._mark()):
            await asyncio.sleep(_BEHIND_S)
            with contextlib.suppress(BusUnavailable):
                await self._store(mark)

    def _has(self, mark: Mark) -> bool:
        return self._stored is not None and self._stored.covers(mark)

    def _mark(self) -> Mark:
        return Mark(stream=self.stream, sequence=self.floor)

    async def _store(self, mark: Mark) -> None:
        """Stores the mark, unless this or another replica has stored a later one."""
        async with self._storing:
            while mark.stream == self.stream and not self._has(mark):
                try:
                    await self._write(mark)
                except RevisionConflict:
                    await self._reread()

    async def _replace(self) -> None:
        """Stores a lower floor: the stream lost events and will use their numbers again."""
        log.warning("delivery_mark_reset", sequence=self.floor)
        async with self._storing:
            try:
                await self._write(self._mark())
            except RevisionConflict:
                await self._reread()

    async def _write(self, mark: Mark) -> None:
        value = mark.model_dump_json().encode()
        if self._revision is None:
            self._revision = await self.bucket.create(self.key, value)
        else:
            self._revision = await self.bucket.update(self.key, value, revision=self._revision)
        self._stored = mark

    async def _reread(self) -> None:
        entry = await self.bucket.get(self.key)
        self._revision = entry.revision if entry else None
        self._stored = _decoded(entry) if entry else None


def _floor_of(stored: Mark | None, state: StreamState) -> int:
    """Where delivery stands, by the stored mark."""
    if stored is None or stored.stream != state.created:
        return 0  # nothing of this stream was ever delivered
    # A mark beyond the stream's end: the stream was restored from an older copy.
    return min(stored.sequence, state.last)


def _decoded(entry: Entry) -> Mark | None:
    try:
        return Mark.model_validate_json(entry.value)
    except ValidationError:
        log.warning("delivery_mark_unreadable")
        return None
