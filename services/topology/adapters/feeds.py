"""Telling the feed of one cluster, as its owner.

Each publish expects the last sequence of the cluster's subjects. Who was paused, lost the lease and
goes on is refused by the server itself, whatever it believes about its own lease.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta

import nats.js.errors
from nats.js.api import RawStreamMsg

from services.chassis.bus import envelopes
from services.chassis.bus.connection import Bus
from services.chassis.bus.leases import Fence
from services.chassis.bus.publishing import retried
from services.chassis.errors import BusUnavailable, LeaseLost, shortened
from services.chassis.telemetry.metrics import CHANGES_TOLD, Metrics
from services.topology.feed import wire
from services.topology.feed.feeds import Delta, Parts, Stage, Topic
from services.topology.feed.views import ClusterView, Views

_WRONG_LAST_SEQUENCE = 10071
_TRY_TIMEOUT_S = 5.0
_WITHIN = timedelta(seconds=30)
# A checkpoint is due when the changes since the last one take this many times its size.
_CHECKPOINT_FACTOR = 4
_SMALLEST_CHECKPOINT_BYTES = 256 * 1024
# Also of a cluster where little happens: the stream forgets, by age and by size, and a replica that
# starts, or a question about the past, begins at a checkpoint.
_CHECKPOINT_AGE_S = 6 * 3600.0


@dataclass(slots=True)
class Feed:
    """Implements `ports.Teller`; `view` is this process's own view of the cluster."""

    bus: Bus
    views: Views
    view: ClusterView
    fence: Fence
    metrics: Metrics | None = None
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

    async def tell(self, topic: Topic, parts: Parts) -> None:
        for piece in wire.cut(parts):
            delta = self._delta(piece, topic, Stage.DELTA)
            await self._publish(delta)
            self.view.apply(delta)
            self.views.tell(delta)
            if self.metrics is not None:
                self.metrics.count(CHANGES_TOLD, topic)
        if self._since > max(
            _SMALLEST_CHECKPOINT_BYTES, _CHECKPOINT_FACTOR * self._checkpoint_bytes
        ):
            await self.checkpoint()

    async def keep(self) -> None:
        """Called now and then: stores a checkpoint where the last one is old or forgotten."""
        age_s = asyncio.get_running_loop().time() - self._checkpoint_at
        begin = wire.subject(self.view.cluster, Topic.CHECKPOINT, Stage.BEGIN)
        if (
            age_s > _CHECKPOINT_AGE_S
            or await last_message(self.bus, self.view.cluster, begin) is None
        ):
            await self.checkpoint()

    def fill(self, parts: Parts) -> None:
        if self._rising is None:
            self._rising = ClusterView(self.view.cluster, epoch=self.view.epoch)
        for part, items in parts.items():
            for ident, item in items.items():
                self._rising.put(part, ident, item)

    def forget_filled(self) -> None:
        """What was filled in by a watch that failed before its first word."""
        self._rising = None

    async def begin(self) -> None:
        """The first word of an owner, or everything anew: as a checkpoint."""
        view = self._rising or ClusterView(self.view.cluster, epoch=self.view.epoch)
        view.number = self.view.number + 1
        self.view, self._rising = view, None
        await self.checkpoint()
        self.views.replace(self.view)

    async def checkpoint(self) -> None:
        """Stores everything as it is. It carries the number of the last delta, and none itself."""
        before = self._since
        await self._publish(self._delta({}, Topic.CHECKPOINT, Stage.BEGIN))
        for piece in wire.cut(self.view.parts):
            await self._publish(self._delta(piece, Topic.CHECKPOINT, Stage.ITEMS))
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

    async def _publish(self, delta: Delta) -> None:
        self.fence.check()
        body, headers = wire.encoded(delta)
        cluster = delta.cluster
        subject = wire.subject(cluster, delta.topic, delta.stage)
        self._messages += 1
        ident = f"{cluster}.{delta.epoch}.{self._messages}"
        headers |= {
            envelopes.MESSAGE_ID: ident,
            "Nats-Expected-Last-Subject-Sequence": str(self._last),
            "Nats-Expected-Last-Subject-Sequence-Subject": wire.every(cluster),
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
                wire.STREAM, subject or wire.every(cluster), direct=True
            )
        except nats.js.errors.NotFoundError:
            return None

    return await retried(once, within=_WITHIN, what=f"reading the feed of {cluster}")
