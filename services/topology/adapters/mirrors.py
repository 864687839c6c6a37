"""Following a cluster that another worker owns: its last checkpoint, then everything since.

The same reading tells the past: from the checkpoint before a moment up to the moment.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime

import structlog

from services.chassis.bus.connection import Bus
from services.chassis.bus.reading import OrderedReader, StoredMessage
from services.chassis.errors import HistoryGone, InvalidMessage
from services.topology.adapters.feeds import last_message, last_sequence
from services.topology.feed import wire
from services.topology.feed.feeds import Delta, Stage, Topic
from services.topology.feed.views import ClusterView, Views

_LAST_CHANGES = 1000

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Replay:
    """Builds a view from the messages of a feed, whichever worker told them."""

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


async def follow(bus: Bus, views: Views, *, cluster: str) -> None:
    """Keeps this process's view of a cluster that another worker owns; endless."""
    replay = Replay(cluster)
    start = await _last_checkpoint(bus, cluster)
    reader = OrderedReader(bus, wire.STREAM, wire.every(cluster), start)
    async with aclosing(reader.messages()) as messages:
        async for message in messages:
            delta = _read(message)
            if delta is None:
                continue
            if replay.take(delta) and replay.view is not None:
                views.replace(replay.view)
            elif delta.stage is Stage.DELTA and replay.view is not None:
                views.tell(delta)


async def moments(bus: Bus, cluster: str) -> list[tuple[datetime, int]]:
    """The checkpoints of a cluster: when, and where in the stream."""
    subject = wire.subject(cluster, Topic.CHECKPOINT, Stage.BEGIN)
    last = await _last_checkpoint(bus, cluster)
    if not last:
        return []
    found: list[tuple[datetime, int]] = []
    async with aclosing(OrderedReader(bus, wire.STREAM, subject, 1).messages()) as messages:
        async for message in messages:
            delta = _read(message)
            if delta is not None:
                found.append((delta.time, message.sequence))
            if message.sequence >= last:
                return found
    return found


async def past(bus: Bus, cluster: str, moment: datetime) -> ClusterView:
    """The view of a cluster as it was; raises `HistoryGone`."""
    before = [place for at, place in await moments(bus, cluster) if at <= moment]
    if not before:
        raise HistoryGone(f"nothing is kept of the cluster at {moment:%Y-%m-%d %H:%M:%S} UTC")
    replay = Replay(cluster)
    async for delta in _told(bus, cluster, before[-1]):
        # A checkpoint that began in time is taken whole.
        if delta.time > moment and replay.view is not None:
            break
        replay.take(delta)
    if replay.view is None:
        raise HistoryGone("the record of that moment is not complete")
    return replay.view


async def changed(bus: Bus, cluster: str) -> list[datetime]:
    """When something changed, oldest first: all checkpoints, and each of the last changes."""
    places = await moments(bus, cluster)
    if not places:
        return []
    start = max(places[0][1], await last_sequence(bus, cluster) - _LAST_CHANGES)
    told = {delta.time async for delta in _told(bus, cluster, start)}
    return sorted(told | {at for at, _ in places})


async def _told(bus: Bus, cluster: str, start: int) -> AsyncIterator[Delta]:
    """Everything told about a cluster from a place up to now."""
    last = await last_sequence(bus, cluster)
    reader = OrderedReader(bus, wire.STREAM, wire.every(cluster), start)
    async with aclosing(reader.messages()) as messages:
        async for message in messages:
            delta = _read(message)
            if delta is not None:
                yield delta
            if message.sequence >= last:
                return


async def _last_checkpoint(bus: Bus, cluster: str) -> int:
    """Where the last checkpoint of a cluster begins; 0 when there is none."""
    subject = wire.subject(cluster, Topic.CHECKPOINT, Stage.BEGIN)
    message = await last_message(bus, cluster, subject)
    return (message.seq or 0) if message is not None else 0


def _read(message: StoredMessage) -> Delta | None:
    try:
        return wire.decoded(message.body, message.headers)
    except InvalidMessage as error:
        log.warning("feed_unreadable", sequence=message.sequence, reason=error.summary)
        return None
