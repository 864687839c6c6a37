"""Fails operations that no worker began or ended in time: their clients wait for a final event.

A command leaves the work queue by itself at its deadline. Shortly after it the gateway looks: where
no worker had begun, the operation is failed here. Where one had, ending it is the worker's duty;
but one that dies now has no successor, since the queue has nothing to hand out again. So the
gateway looks again, and after a patience it fails what still runs; a worker that is alive after all
is fenced by that.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import structlog

from services.chassis.bus import subjects
from services.chassis.bus.reading import StoredMessage
from services.chassis.bus.records import Records
from services.chassis.errors import BusUnavailable
from services.chassis.messages import RequestRecord
from services.gateway.notices import Notices, parts_of
from services.gateway.streaming.marks import StreamState

# A worker that took the command just before its deadline has recorded that by then.
_MARGIN = timedelta(seconds=5)
_RETRY_AFTER = timedelta(seconds=5)
_LOOKS_AGAIN_AFTER = timedelta(minutes=1)
# What a gateway that was away for longer would find has long been given up by its client.
_LOOKS_BACK = timedelta(days=1)

log = structlog.get_logger(__name__)


@dataclass(slots=True, kw_only=True)
class Deadlines:
    """Watches the operations that this process accepted, and all that it finds: a replica that
    accepted others may be gone for good."""

    records: Records[RequestRecord]
    requests: Callable[[int], AsyncGenerator[StoredMessage, None]]
    """Reads requests from a sequence of their stream on, up to the newest."""
    stream: Callable[[], Awaitable[StreamState]]
    """Asks how that stream stands."""
    notices: Notices
    now: Callable[[], datetime]
    patience: timedelta
    """How long after its command has left the queue an operation may still run."""
    _due: list[tuple[datetime, str]] = field(default_factory=list)
    _watched: set[str] = field(default_factory=set)
    """Ids alone: a busy gateway watches thousands for half an hour, and the bucket has the rest."""
    _scanned: int = 0
    """Up to where a scan has read the requests."""
    _created: str = ""
    """When the stream was made that this counts in."""
    _overdue: dict[str, float] = field(default_factory=dict)
    """When operations that run were first seen after their deadlines, in loop time."""
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    def watch(self, record: RequestRecord) -> None:
        """Looks after the operation when its deadline has passed."""
        if record.deadline is not None:
            self._put(record.operation, record.deadline + _MARGIN)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._wait()
            while self._due and self._due[0][0] <= self.now():
                operation = heapq.heappop(self._due)[1]
                self._watched.discard(operation)
                try:
                    await self._end(operation)
                except BusUnavailable:
                    self._put(operation, self.now() + _RETRY_AFTER)

    async def scan(self) -> None:
        """Takes over operations that were accepted since the last time, by other processes too."""
        state = await self.stream()
        if state.created != self._created or state.last < self._scanned:
            # Another stream, or one that was put back: it has what nobody has read.
            self._created, self._scanned = state.created, 0
        begun: set[str] | None = None
        async with contextlib.aclosing(self.requests(self._scanned + 1)) as messages:
            async for message in messages:
                record = self.records.read(message)
                self._scanned = message.sequence
                if record is None:
                    continue
                if not self._is_recent(record):
                    # Only the first scan meets these, after a start.
                    begun = await self._begun() if begun is None else begun
                    clusters = record.clusters
                    if {subjects.operation_key(record.operation, c) for c in clusters} <= begun:
                        continue
                self.watch(record)

    async def _begun(self) -> set[str]:
        return {key for key in await self.records.bucket.keys() if "." in key}

    def _is_recent(self, record: RequestRecord) -> bool:
        due = (record.deadline or record.accepted) + timedelta(seconds=record.may_take_s)
        return due > self.now() - _LOOKS_BACK

    def _is_given_up(self, record: RequestRecord) -> bool:
        """Whether what is begun should have ended by now.

        By the monotonic clock: a jump of the time of day must not end what runs.
        """
        now_s = asyncio.get_running_loop().time()
        seen_s = self._overdue.setdefault(record.operation, now_s)
        return now_s - seen_s >= self.patience.total_seconds() + record.may_take_s

    async def _end(self, operation: str) -> None:
        """Fails the parts of the operation that no worker has begun, or ended when it is time, and
        repeats an end of ours that was recorded and not told."""
        kept = await self.records.get(subjects.operation_key(operation))
        if kept is None:
            # Refused as a whole after all.
            return
        record = kept[0]
        running = []
        for part in parts_of(record):
            stored = await self.notices.stored(part)
            if stored is None:
                log.warning("operation_expired", operation=part.operation, cluster=part.cluster)
                await self.notices.expired(part, service=record.service)
            elif stored.state.is_terminal:
                await self.notices.repeated(stored)
            else:
                running.append(part)
        if running and not self._is_given_up(record):
            self._put(operation, self.now() + min(self.patience, _LOOKS_AGAIN_AFTER))
            return
        for part in running:
            log.warning("operation_abandoned", operation=part.operation, cluster=part.cluster)
            await self.notices.abandoned(part)
        self._overdue.pop(record.operation, None)

    async def _wait(self) -> None:
        """Until the first deadline, or until there is an earlier one."""
        self._changed.clear()
        left = (self._due[0][0] - self.now()).total_seconds() if self._due else None
        try:
            async with asyncio.timeout(left):
                await self._changed.wait()
        except TimeoutError:
            return

    def _put(self, operation: str, due: datetime) -> None:
        if operation in self._watched:
            return
        self._watched.add(operation)
        heapq.heappush(self._due, (due, operation))
        self._changed.set()
