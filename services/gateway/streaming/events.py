"""StreamEvents: durable, in order, to all clients, each with a bound of its own.

One ordered reader of the stream EVT for each identity (audiences.py), which runs only while one of
its clients is connected. It starts after the mark (marks.py), so events that nobody got wait in the
stream for the next client; after a longer absence (absences.py) those of ended operations go by.
Each client has a queue and a write loop of its own. A client that joins later begins after the mark
too, with what this process has read and nobody has got yet: the others may die before their writes.

Rejected: one consumer for each client (a hundred consumers for one and the same text), and an
acknowledging durable consumer (it hands each event to one replica, but all streams need all).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import structlog

from proto import meshops_pb2 as pb
from services.chassis.bus import envelopes
from services.chassis.bus.reading import StoredMessage
from services.chassis.errors import (
    ClientTooSlow,
    InternalError,
    InvalidMessage,
    MeshbusError,
)
from services.chassis.messages import Event
from services.chassis.messages.events import FINAL_PHASES
from services.chassis.telemetry import metrics
from services.gateway import wire
from services.gateway.background import Background
from services.gateway.streaming.absences import Absences
from services.gateway.streaming.marks import Marks

_RECHECK_AFTER_S = 1.0
# How long a write may go on when its call has to end.
_LAST_WRITE_S = 1.0

Write = Callable[[pb.EventsResponse], Awaitable[None]]
Joined = Callable[[], Awaitable[None]]
Read = Callable[[int], AsyncGenerator[StoredMessage, None]]
"""Messages of EVT from a sequence on, endless."""
Sees = Callable[[Event], Awaitable[bool]]
"""Whether the clients may see the event."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Item:
    """An event on its way to clients."""

    sequence: int
    stream: str
    response: pb.EventsResponse


@dataclass(slots=True, eq=False)
class Client:
    """One StreamEvents call: the events that wait for it, and the way to end it.

    An ending is seen between two writes. Cancelling a call inside of one of gRPC's own operations
    can leave it neither ended nor endable, so that is kept for a write that a client's full window
    has stopped.
    """

    call: asyncio.Task[None]
    backlog: deque[Item]
    """What was read before the client came; it goes first."""
    queue: asyncio.Queue[Item | None]
    """None wakes a call that has to end."""
    lags_since: float | None = None
    ending: MeshbusError | None = None
    is_cut: bool = False
    """The ending came as a cancellation."""
    _is_writing: bool = False

    @property
    def is_behind(self) -> bool:
        return self.queue.qsize() > self.queue.maxsize // 2

    async def take(self) -> Item:
        """The next event; raises the error that the call has to end with."""
        item = self.backlog.popleft() if self.backlog else await self.queue.get()
        if self.ending is not None:
            raise self.ending
        assert item is not None
        if not self.is_behind:
            self.lags_since = None
        return item

    async def give(self, write: Write, item: Item) -> None:
        self._is_writing = True
        try:
            await write(item.response)
        finally:
            self._is_writing = False

    def end(self, error: MeshbusError) -> None:
        """Ends the call with `error`; its queue takes no more."""
        if self.ending is not None:
            return
        self.ending = error
        self.discard()
        self.queue.put_nowait(None)
        asyncio.get_running_loop().call_later(_LAST_WRITE_S, self._cut)

    def discard(self) -> None:
        """Empties the queue, which lets go of a reader that waits for room in it."""
        while not self.queue.empty():
            self.queue.get_nowait()

    def _cut(self) -> None:
        if self._is_writing and not self.call.done():
            self.is_cut = True
            self.call.cancel()


@dataclass(slots=True, kw_only=True)
class Events:
    """All clients of one identity in this process, and the reader that feeds them."""

    read: Read
    sees: Sees
    marks: Marks
    absences: Absences
    metrics: metrics.Metrics
    background: Background
    queue_size: int
    slow_client_grace: timedelta
    _clients: set[Client] = field(default_factory=set)
    _undelivered: deque[Item] = field(default_factory=deque)
    """Read by this process, and got by no client yet."""
    _reader: asyncio.Task[None] | None = None
    _gate: asyncio.Lock = field(default_factory=asyncio.Lock)
    _closed: MeshbusError | None = None

    @property
    def open_streams(self) -> int:
        return len(self._clients)

    async def serve(self, write: Write, *, joined: Joined) -> None:
        """Writes events to one client until it leaves or has to.

        `joined` is called when the client is sure to get whatever is published from then on.
        """
        client = await self._join()
        try:
            await joined()
            while True:
                item = await client.take()
                await client.give(write, item)
                self.marks.delivered(item.sequence, stream=item.stream)
                self.metrics.count(metrics.EVENTS_DELIVERED)
                self._forget_delivered()
        except asyncio.CancelledError:
            if not client.is_cut or client.ending is None:
                raise
            # The cancellation was ours, as in asyncio.timeout.
            client.call.uncancel()
            raise client.ending from None
        finally:
            self._leave(client)

    def close(self, error: MeshbusError) -> None:
        """Ends all streams, and refuses new ones."""
        self._closed = error
        for client in list(self._clients):
            client.end(error)

    def recheck(self) -> None:
        """The connection was lost: was the stream lost as well?"""
        self.background.start("recheck-stream", self._recheck())

    # --- clients --------------------------------------------------------------------------------

    async def _join(self) -> Client:
        call = asyncio.current_task()
        assert call is not None
        async with self._gate:
            if self._closed is not None:
                raise self._closed
            if self._reader is None:
                await self._start_reader()
            client = Client(
                call=call,
                backlog=deque(self._undelivered),
                queue=asyncio.Queue(maxsize=self.queue_size),
            )
            self._clients.add(client)
        self.metrics.add(metrics.STREAMS_OPEN, 1)
        return client

    def _leave(self, client: Client) -> None:
        self._clients.discard(client)
        client.discard()
        self.metrics.add(metrics.STREAMS_OPEN, -1)
        # It has what was written to it.
        self.background.start("keep-mark", self.marks.keep())
        if not self._clients:
            self._stop_reader()
            # A gateway that ends its streams has sent nobody away.
            if self._closed is None:
                self.absences.begin()

    def _forget_delivered(self) -> None:
        while self._undelivered and self._undelivered[0].sequence <= self.marks.floor:
            self._undelivered.popleft()

    # --- the reader -----------------------------------------------------------------------------

    async def _start_reader(self, *, stayed: bool = False) -> None:
        """`stayed`: its clients were there all the time, so nothing is old to them."""
        floor = await self.marks.recall()
        begins = None if stayed else await self.absences.end(was_ever=self.marks.is_known)
        self._undelivered.clear()
        reading = self._feed(floor + 1, self.marks.stream, begins)
        self._reader = self.background.start("read-events", reading)

    def _stop_reader(self) -> None:
        if self._reader is not None:
            self._reader.cancel()
            self._reader = None
        self._undelivered.clear()

    async def _feed(self, start: int, stream: str, begins: datetime | None) -> None:
        """From the stream to every client's queue; waits while a queue is full."""
        old = _Old() if begins is not None else None
        try:
            async with contextlib.aclosing(self.read(start)) as messages:
                async for message in messages:
                    if old is not None and begins is not None:
                        is_old = message.time < begins
                        if is_old:
                            old.take(message)
                        if not is_old or message.is_newest:
                            await self._tell(old, stream)
                            old = None
                        if is_old:
                            continue
                    event = await self._seen(message)
                    if event is not None:
                        response = wire.events_response(event)
                        await self._spread(Item(message.sequence, stream, response))
                    elif not self._undelivered:
                        self.marks.pass_over(message.sequence, stream=stream)
        except Exception:
            for client in list(self._clients):
                client.end(InternalError("the events cannot be read"))
            raise

    async def _seen(self, message: StoredMessage) -> Event | None:
        """The event of a message, where there is one that these clients may see."""
        event = _event(message)
        return event if event is not None and await self.sees(event) else None

    async def _tell(self, old: _Old, stream: str) -> None:
        """Tells what is left of the old events; what lies between them counts as delivered too."""
        seen = [(message.sequence, await self._seen(message)) for message in old.of_running()]
        running = [(sequence, event) for sequence, event in seen if event is not None]
        if not running:
            self.marks.pass_over(old.last, stream=stream)
            return
        ends = [*(sequence - 1 for sequence, _ in running[1:]), old.last]
        for (_, event), end in zip(running, ends, strict=True):
            await self._spread(Item(end, stream, wire.events_response(event)))

    async def _spread(self, item: Item) -> None:
        self._undelivered.append(item)
        for client in list(self._clients):
            if client.ending is None:
                await client.queue.put(item)
                self._watch(client)

    def _watch(self, client: Client) -> None:
        """Gives a client that falls behind a time to catch up."""
        if client.is_behind and client.lags_since is None:
            loop = asyncio.get_running_loop()
            client.lags_since = loop.time()
            grace_s = self.slow_client_grace.total_seconds()
            loop.call_later(grace_s, self._judge, client, client.lags_since)

    def _judge(self, client: Client, since: float) -> None:
        """Drops a client that is still behind after the grace, unless all clients are."""
        if client.ending is not None or client not in self._clients or client.lags_since != since:
            return
        # One that is about to end has an empty queue, and is ahead of nobody.
        if all(other.is_behind for other in self._clients if other.ending is None):
            client.lags_since = None
            self._watch(client)
            return
        log.warning("slow_client_dropped", waiting=client.queue.qsize())
        self.metrics.count(metrics.CLIENTS_DROPPED)
        client.end(ClientTooSlow("this client reads its events too slowly"))

    async def _recheck(self) -> None:
        while self._clients:
            try:
                state = await self.marks.state()
            except MeshbusError:
                await asyncio.sleep(_RECHECK_AFTER_S)
                continue
            if state.created != self.marks.stream:
                await self._restart_reader()
            return

    async def _restart_reader(self) -> None:
        """EVT was made anew: it counts from one again."""
        log.warning("event_stream_replaced")
        async with self._gate:
            self._stop_reader()
            if self._clients:
                await self._start_reader(stayed=True)
            if not self._clients:
                self._stop_reader()


class _Old:
    """Messages from before a stream begins, by operation and cluster, until their end comes.

    There may be days of them, so their subjects and headers have to do.
    """

    def __init__(self) -> None:
        self.last = 0
        """The sequence of the last one, of whatever kind."""
        self._open: dict[str, list[StoredMessage]] = {}

    def take(self, message: StoredMessage) -> None:
        self.last = message.sequence
        # An operation goes from service to service: `evt.<service>.<cluster>.<operation>`.
        part = message.subject.split(".", 2)[2]
        if _phase(message) in FINAL_PHASES:
            self._open.pop(part, None)
        else:
            self._open.setdefault(part, []).append(message)

    def of_running(self) -> list[StoredMessage]:
        """Those whose end has not come, in the stream's order."""
        found = [message for messages in self._open.values() for message in messages]
        return sorted(found, key=lambda message: message.sequence)


def _phase(message: StoredMessage) -> str:
    """The phase that a message tells of; "" for one that is no event."""
    told = message.headers.get(envelopes.KIND, "").partition(" ")[0]
    if told:
        return told
    event = _event(message)
    return event.phase if event is not None else ""


def _event(message: StoredMessage) -> Event | None:
    """A stored event; None for a message that is none."""
    try:
        return envelopes.decode(Event, message.body, message.headers)
    except InvalidMessage as error:
        log.warning("event_unreadable", sequence=message.sequence, reason=error.summary)
        return None
