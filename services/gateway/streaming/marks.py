"""Up to where clients have got the events: the mark that keeps a restart from losing or repeating.

The mark is the sequence, in the stream EVT, up to which every event that an identity may see was
written to at least one of its clients, of any replica. Each identity has a mark of its own, so that
no stranger's stream uses up its events. It is shared through the bucket `delivery`, where it only
grows. A client's next event waits until the mark of its last one is stored, so a gateway that dies
repeats one event at most; in a burst there is a mark for each group of events, and it repeats two
groups at most.
"""

from __future__ import annotations

import asyncio
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
_RETRY_AFTER_S = 1.0

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
    _store_task: asyncio.Task[None] | None = None
    """One write for all clients that wait at the moment."""
    _is_behind: bool = False

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

    async def delivered(self, sequence: int, *, stream: str) -> None:
        """A client has got everything up to `sequence`; returns when that is stored."""
        if stream == self.stream:
            self.floor = max(self.floor, sequence)
        # An event of a stream that is gone counts for nothing any more.
        while stream == self.stream and not self._is_behind and not self._has(sequence):
            if self._store_task is None or self._store_task.done():
                self._store_task = self.background.start("store-mark", self._store_or_postpone())
            # The client may leave at any moment; what it has got must be marked all the same.
            await asyncio.shield(self._store_task)

    def pass_over(self, sequence: int, *, stream: str) -> None:
        """An event that this identity may not see, and all before it were delivered."""
        if stream == self.stream:
            self.floor = max(self.floor, sequence)

    async def keep(self) -> None:
        """Stores what was passed over, so that the next client does not read it all again."""
        if self.floor and not self._is_behind and not self._has(self.floor):
            await self._store_or_postpone()

    async def _store_or_postpone(self) -> None:
        async with self._storing:
            try:
                await self._store()
            except BusUnavailable:
                # Clients are not kept waiting for the mark. Until it is stored, a crash of this
                # process would deliver again what it has delivered meanwhile.
                self._is_behind = True
                self.background.start("store-mark-late", self._catch_up())

    def _has(self, sequence: int) -> bool:
        wanted = Mark(stream=self.stream, sequence=sequence)
        return self._stored is not None and self._stored.covers(wanted)

    def _mark(self) -> Mark:
        return Mark(stream=self.stream, sequence=self.floor)

    async def _store(self) -> None:
        """Stores the floor, unless another replica has stored a later one."""
        while True:
            mark = self._mark()
            try:
                await self._write(mark)
            except RevisionConflict:
                await self._reread()
                if self._stored is not None and self._stored.covers(mark):
                    return
            else:
                return

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

    async def _catch_up(self) -> None:
        while True:
            await asyncio.sleep(_RETRY_AFTER_S)
            try:
                async with self._storing:
                    await self._store()
            except BusUnavailable:
                continue
            self._is_behind = False
            return


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
