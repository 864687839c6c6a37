"""Publishing the feed of a cluster as its owner, following that of another owner, reading the past.

Each publish expects the last sequence of the cluster's subjects. Who was paused, lost the lease and
goes on is refused by the server itself, whatever it believes about its own lease.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import nats.js.errors
import structlog
from nats.js.api import RawStreamMsg

from services.chassis.bus import envelopes
from services.chassis.bus.connection import Bus
from services.chassis.bus.leases import Fence
from services.chassis.bus.publishing import retried
from services.chassis.bus.reading import OrderedReader, StoredMessage
from services.chassis.errors import (
    BusUnavailable,
    HistoryGone,
    InvalidMessage,
    LeaseLost,
    shortened,
)
from services.chassis.telemetry.metrics import CHANGES_TOLD, Metrics
from services.topology.feed import deltas
from services.topology.feed.deltas import (
    DRIFT_PART,
    FINDINGS_PART,
    Delta,
    Item,
    Parts,
    Stage,
    Topic,
)
from services.topology.feed.views import ClusterView, Views
from services.topology.observing import Watches

_WRONG_LAST_SEQUENCE = 10071
_TRY_TIMEOUT_S = 5.0
_WITHIN = timedelta(seconds=30)
# A checkpoint is due when the changes since the last one take this many times its size.
_CHECKPOINT_FACTOR = 4
_SMALLEST_CHECKPOINT_BYTES = 256 * 1024
# Also of a cluster where little happens: the stream forgets, by age and by size, and a replica that
# starts, or a question about the past, begins at a checkpoint.
_CHECKPOINT_AGE_S = 6 * 3600.0


@dataclass(frozen=True, slots=True)
class Inheritance:
    """What a new owner needs from the one before."""

    epoch: int
    """Of the lease that it has taken."""
    seen: Mapping[str, int] = field(default_factory=dict)
    """Up to which versions the former owner has seen the collections of the cluster."""


@dataclass(slots=True)
class Feed:
    """Implements `observing.FeedWriter`; `view` is this process's own view of the cluster."""

    bus: Bus
    views: Views
    view: ClusterView
    fence: Fence
    metrics: Metrics | None = None
    succeed: Callable[[], Awaitable[Inheritance]] | None = None
    """Takes the lease over from another owner, when everything is filled; None once it is ours."""
    watches: Watches | None = None
    """The watches that this feed tells about, while there are some."""
    is_closed: bool = False
    """Whether it has ended between two messages, for another owner."""
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while something is published."""
    _last: int = 0
    """Sequence of the cluster's last message in the stream."""
    _since: int = 0
    """Bytes told since the last checkpoint."""
    _checkpoint_bytes: int = 0
    _checkpoint_at: float = 0.0
    """Loop time."""
    _messages: int = 0
    _rising: ClusterView | None = None

    @classmethod
    async def take(
        cls,
        bus: Bus,
        views: Views,
        *,
        cluster: str,
        epoch: int,
        fence: Fence,
        counted: Metrics | None = None,
    ) -> Feed:
        """The feed of a cluster whose lease was just taken."""
        feed = cls(bus, views, ClusterView(cluster, epoch=epoch), fence, counted)
        feed._last = await last_sequence(bus, cluster)
        return feed

    @property
    def is_beside(self) -> bool:
        return self.succeed is not None

    @property
    def last(self) -> int:
        """Sequence of the cluster's last message in the stream."""
        return self._last

    async def take_over(self) -> None:
        """Ends the other owner's telling, and waits until here is all that it has seen.

        What is not made of the watches goes over from its last view: drifts, and since when there
        is a finding.
        """
        if self.succeed is None:
            return
        came = await self.succeed()
        self.succeed = None
        self.view = ClusterView(self.view.cluster, epoch=came.epoch)
        self._last = await last_sequence(self.bus, self.view.cluster)
        if self.watches is not None:
            await self.watches.reach(came.seen)
        told = self.views.view(self.view.cluster)
        if told is not None:
            self.fill({DRIFT_PART: {item["id"]: item for item in told.decoded(DRIFT_PART)}})

    async def close(self) -> Mapping[str, int]:
        """Tells nothing more once the present message is stored; returns what was seen by then."""
        async with self._turn:
            self.is_closed = True
        return self.watches.seen() if self.watches is not None else {}

    async def publish(self, topic: Topic, parts: Parts) -> None:
        async with self._telling():
            for piece in deltas.cut(parts):
                delta = self._delta(piece, topic, Stage.DELTA)
                await self._publish(delta)
                self.view.apply(delta)
                self.views.notify(delta)
                if self.metrics is not None:
                    self.metrics.count(CHANGES_TOLD, topic)
            if self._since > max(
                _SMALLEST_CHECKPOINT_BYTES, _CHECKPOINT_FACTOR * self._checkpoint_bytes
            ):
                await self._checkpoint()

    async def ensure_checkpoint(self) -> None:
        """Stores a checkpoint when the last one is old, or the stream has dropped it."""
        age_s = asyncio.get_running_loop().time() - self._checkpoint_at
        begin = deltas.subject(self.view.cluster, Topic.CHECKPOINT, Stage.BEGIN)
        if (
            age_s > _CHECKPOINT_AGE_S
            or await last_message(self.bus, self.view.cluster, begin) is None
        ):
            await self.checkpoint()

    def fill(self, parts: Parts) -> None:
        if self._rising is None:
            self._rising = ClusterView(self.view.cluster, epoch=self.view.epoch)
        if (findings := parts.get(FINDINGS_PART)) is not None:
            parts = {**parts, FINDINGS_PART: {i: self._known(f, i) for i, f in findings.items()}}
        self._rising.fill(parts)

    def _known(self, item: Item | None, ident: str) -> Item | None:
        """A finding that another owner has told is there since then."""
        view = self.views.view(self.view.cluster)
        told = view.item(FINDINGS_PART, ident) if view is not None else None
        return item if item is None or told is None else {**item, "since": told["since"]}

    def discard_filled(self) -> None:
        """Drops the items of a watch that failed before its first checkpoint."""
        self._rising = None

    async def begin(self) -> None:
        """Publishes the filled items as a checkpoint, in place of all earlier ones."""
        async with self._telling():
            view = self._rising or ClusterView(self.view.cluster)
            view.epoch, view.number = self.view.epoch, self.view.number + 1
            self.view, self._rising = view, None
            await self._checkpoint()
            self.views.replace(self.view)

    async def checkpoint(self) -> None:
        """Stores everything as it is. It carries the number of the last delta, and none itself."""
        async with self._telling():
            await self._checkpoint()

    @asynccontextmanager
    async def _telling(self) -> AsyncIterator[None]:
        """The turn to tell something; raises, as the fence does, when it comes after the end. By
        then the next owner was told the number of the last message, and nothing counts on here."""
        async with self._turn:
            self.fence.check()
            if self.is_closed:
                raise LeaseLost("the cluster was handed over")
            yield

    async def _checkpoint(self) -> None:
        before = self._since
        await self._publish(self._delta({}, Topic.CHECKPOINT, Stage.BEGIN))
        pieces = deltas.cut(self.view.parts)
        items = (self._delta(piece, Topic.CHECKPOINT, Stage.ITEMS) for piece in pieces)
        async with aclosing(_encoded_ahead(items)) as ahead:
            async for delta, encoded in ahead:
                await self._publish(delta, encoded)
        await self._publish(self._delta({}, Topic.CHECKPOINT, Stage.END))
        self._checkpoint_bytes, self._since = self._since - before, 0
        self._checkpoint_at = asyncio.get_running_loop().time()

    def _delta(self, parts: Parts, topic: Topic, stage: Stage) -> Delta:
        if stage is Stage.DELTA:
            self.view.number += 1
        return Delta(
            cluster=self.view.cluster,
            epoch=self.view.epoch,
            number=self.view.number,
            parts=parts,
            topic=topic,
            stage=stage,
        )

    async def _publish(self, delta: Delta, encoded: deltas.Encoded | None = None) -> None:
        self.fence.check()
        body, headers = encoded or deltas.encoded(delta)
        cluster = delta.cluster
        subject = deltas.subject(cluster, delta.topic, delta.stage)
        self._messages += 1
        ident = f"{cluster}.{delta.epoch}.{self._messages}"
        headers |= {
            envelopes.MESSAGE_ID: ident,
            "Nats-Expected-Last-Subject-Sequence": str(self._last),
            "Nats-Expected-Last-Subject-Sequence-Subject": deltas.every(cluster),
        }
        tries = 0

        async def once() -> int:
            nonlocal tries
            tries += 1
            ack = await self.bus.client.jetstream(timeout=_TRY_TIMEOUT_S).publish(
                subject, body, headers=dict(headers)
            )
            return int(ack.seq)

        try:
            self._last = await retried(once, within=_WITHIN, what=f"a message for {subject}")
        except nats.js.errors.APIError as error:
            if error.err_code != _WRONG_LAST_SEQUENCE:
                raise BusUnavailable(shortened(str(error.description))) from error
            message = await last_message(self.bus, cluster)
            if message is None and self._last:
                # The stream has forgotten all that was told; nobody else has told anything.
                self._last = 0
                await self._publish(delta)
                return
            # The answer to an earlier try may have been lost: was that message our own?
            if tries == 1 or message is None or _ident(message) != ident:
                raise LeaseLost("another worker tells about this cluster now") from None
            self._last = message.seq or 0
        self._since += len(body)


async def _encoded_ahead(
    items: Iterable[Delta],
) -> AsyncGenerator[tuple[Delta, deltas.Encoded], None]:
    """Deltas of hundreds of kilobytes, each with its body and headers. The next one is deflated
    while whoever asks for them waits for the server, and the process serves others meanwhile."""
    made: tuple[Delta, deltas.Encoded] | None = None
    for delta in items:
        coming = asyncio.create_task(asyncio.to_thread(deltas.encoded, delta), name="deflating")
        try:
            if made is not None:
                yield made
            made = delta, await coming
        finally:
            coming.cancel()
    if made is not None:
        yield made


def _ident(message: RawStreamMsg) -> str:
    return str((message.headers or {}).get(envelopes.MESSAGE_ID, ""))


async def last_sequence(bus: Bus, cluster: str) -> int:
    """The stream sequence of the last message about a cluster; 0 when there is none."""
    message = await last_message(bus, cluster)
    return (message.seq or 0) if message is not None else 0


async def last_message(bus: Bus, cluster: str, subject: str = "") -> RawStreamMsg | None:
    """The last message about a cluster, or of one of its subjects."""

    async def once() -> RawStreamMsg | None:
        context = bus.client.jetstream(timeout=_TRY_TIMEOUT_S)
        try:
            return await context.get_last_msg(
                deltas.STREAM, subject or deltas.every(cluster), direct=True
            )
        except nats.js.errors.NotFoundError:
            return None

    return await retried(once, within=_WITHIN, what=f"reading the feed of {cluster}")


_LAST_CHANGES = 1000

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Replay:
    """Builds a view from the messages of a feed, over changes of its owner."""

    cluster: str
    view: ClusterView | None = None
    """Complete up to the last message; None until a checkpoint has come whole."""
    _rising: ClusterView | None = None

    def take(self, delta: Delta) -> bool:
        """Takes the next message; True when the view is another one from here on."""
        if self.view is not None and delta.epoch < self.view.epoch:
            return False
        match delta.stage:
            case Stage.BEGIN:
                known = self.view
                # A checkpoint of what is known already says nothing new.
                if known is None or known.epoch != delta.epoch or known.number != delta.number:
                    self._rising = ClusterView(self.cluster)
            case Stage.ITEMS if self._rising is not None:
                self._rising.apply(delta)
            case Stage.END if self._rising is not None:
                self._rising.apply(delta)
                self.view, self._rising = self._rising, None
                return True
            case Stage.DELTA if self.view is not None:
                self.view.apply(delta)
        return False


async def follow(
    bus: Bus, views: Views, *, cluster: str, known: ClusterView | None = None, after: int = 0
) -> None:
    """Keeps this process's view of a cluster that another worker owns; endless.

    Who owned the cluster until now has a `known` view, as it is `after` a sequence of the stream.
    """
    replay = Replay(cluster, known)
    start = after + 1 if known is not None else await _last_checkpoint(bus, cluster)
    reader = OrderedReader(bus, deltas.STREAM, deltas.every(cluster), start)
    async with aclosing(reader.messages()) as messages:
        async for message in messages:
            delta = _read(message)
            if delta is None:
                continue
            if replay.take(delta) and replay.view is not None:
                views.replace(replay.view)
            elif delta.stage is Stage.DELTA and replay.view is not None:
                views.notify(delta)


async def checkpoints(bus: Bus, cluster: str) -> list[tuple[datetime, int]]:
    """The checkpoints of a cluster: when, and where in the stream."""
    subject = deltas.subject(cluster, Topic.CHECKPOINT, Stage.BEGIN)
    last = await _last_checkpoint(bus, cluster)
    if not last:
        return []
    found: list[tuple[datetime, int]] = []
    async with aclosing(OrderedReader(bus, deltas.STREAM, subject, 1).messages()) as messages:
        async for message in messages:
            delta = _read(message)
            if delta is not None:
                found.append((delta.time, message.sequence))
            if message.sequence >= last:
                return found
    return found


async def past_view(bus: Bus, cluster: str, moment: datetime) -> ClusterView:
    """The view of a cluster as it was; raises `HistoryGone`."""
    before = [place for at, place in await checkpoints(bus, cluster) if at <= moment]
    if not before:
        raise HistoryGone(f"nothing is kept of the cluster at {moment:%Y-%m-%d %H:%M:%S} UTC")
    replay = Replay(cluster)
    async for delta in _deltas_since(bus, cluster, before[-1]):
        # A checkpoint that began in time is taken whole.
        if delta.time > moment and replay.view is not None:
            break
        replay.take(delta)
    if replay.view is None:
        raise HistoryGone("the record of that moment is not complete")
    return replay.view


async def change_times(bus: Bus, cluster: str) -> list[datetime]:
    """When something changed, oldest first: all checkpoints, and each of the last changes."""
    places = await checkpoints(bus, cluster)
    if not places:
        return []
    start = max(places[0][1], await last_sequence(bus, cluster) - _LAST_CHANGES)
    times = {delta.time async for delta in _deltas_since(bus, cluster, start)}
    return sorted(times | {at for at, _ in places})


async def _deltas_since(bus: Bus, cluster: str, start: int) -> AsyncIterator[Delta]:
    """The deltas of a cluster from a stream sequence up to now."""
    last = await last_sequence(bus, cluster)
    reader = OrderedReader(bus, deltas.STREAM, deltas.every(cluster), start)
    async with aclosing(reader.messages()) as messages:
        async for message in messages:
            delta = _read(message)
            if delta is not None:
                yield delta
            if message.sequence >= last:
                return


async def _last_checkpoint(bus: Bus, cluster: str) -> int:
    """Where the last checkpoint of a cluster begins; 0 when there is none."""
    subject = deltas.subject(cluster, Topic.CHECKPOINT, Stage.BEGIN)
    message = await last_message(bus, cluster, subject)
    return (message.seq or 0) if message is not None else 0


def _read(message: StoredMessage) -> Delta | None:
    try:
        return deltas.decoded(message.body, message.headers)
    except InvalidMessage as error:
        log.warning("feed_unreadable", sequence=message.sequence, reason=error.summary)
        return None
