"""Fails operations that no worker began in time: their clients wait for a final event.

A command leaves the work queue by itself at its deadline. Shortly after it the gateway looks: where
a worker had begun, ending the operation is the worker's duty; where none had, it is failed here.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import structlog

from services.chassis.bus import subjects
from services.chassis.bus.records import Records
from services.chassis.errors import BusUnavailable
from services.chassis.messages import RequestRecord
from services.gateway.notices import Notices, parts_of

# A worker that took the command just before its deadline has recorded that by then.
_MARGIN = timedelta(seconds=5)
_RETRY_AFTER = timedelta(seconds=5)
_SCANNED_AT_ONCE = 64

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Deadlines:
    """Watches the operations that this process accepted, and at its start all that it finds."""

    records: Records[RequestRecord]
    notices: Notices
    now: Callable[[], datetime]
    _due: list[tuple[datetime, str]] = field(default_factory=list)
    _watched: dict[str, RequestRecord] = field(default_factory=dict)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    def watch(self, record: RequestRecord) -> None:
        """Looks after the operation when its deadline has passed."""
        if record.deadline is not None:
            self._put(record, record.deadline + _MARGIN)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._wait()
            while self._due and self._due[0][0] <= self.now():
                record = self._watched.pop(heapq.heappop(self._due)[1])
                try:
                    await self._end(record)
                except BusUnavailable:
                    self._put(record, self.now() + _RETRY_AFTER)

    async def scan(self) -> None:
        """Takes over operations that were accepted before this process started."""
        keys = await self.records.bucket.keys()
        begun = {key for key in keys if "." in key}
        requests = [key for key in keys if "." not in key]
        for start in range(0, len(requests), _SCANNED_AT_ONCE):
            chunk = requests[start : start + _SCANNED_AT_ONCE]
            for found in await asyncio.gather(*(self.records.get(key) for key in chunk)):
                if found is not None and not self._all_begun(found[0], begun):
                    self.watch(found[0])

    def _all_begun(self, record: RequestRecord, begun: set[str]) -> bool:
        keys = {subjects.operation_key(record.operation, c) for c in record.clusters}
        return keys <= begun

    async def _end(self, record: RequestRecord) -> None:
        """Fails the parts of the operation that no worker has begun."""
        if await self.records.get(subjects.operation_key(record.operation)) is None:
            # Refused as a whole after all.
            return
        for part in parts_of(record):
            key = subjects.operation_key(part.operation, part.cluster)
            if await self.records.bucket.get(key) is None:
                log.warning("operation_expired", operation=part.operation, cluster=part.cluster)
                await self.notices.expired(part, service=record.service)

    async def _wait(self) -> None:
        """Until the first deadline, or until there is an earlier one."""
        self._changed.clear()
        left = (self._due[0][0] - self.now()).total_seconds() if self._due else None
        try:
            async with asyncio.timeout(left):
                await self._changed.wait()
        except TimeoutError:
            return

    def _put(self, record: RequestRecord, due: datetime) -> None:
        if record.operation in self._watched:
            return
        self._watched[record.operation] = record
        heapq.heappush(self._due, (due, record.operation))
        self._changed.set()
