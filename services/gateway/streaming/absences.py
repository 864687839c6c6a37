"""How far back a stream begins: what was published while nobody looked is old news.

Meshery's page opens its stream only now and then, so events that nobody got are the normal case.
And mesheryctl takes the first end that it knows for the end of what it waits for, whosever it is:
an hour-old failure makes it say "failed" while the mesh is being installed. So whoever comes after
a longer absence gets what was published shortly before, and all of operations that still run; the
rest can be asked for (`mesh.gateway.events`).

An absence is the client's own. While the gateway was away its clients could not but miss events,
and they come back within seconds: then delivery goes on at the mark. So the moment at which the
last client of an identity left is kept in the bucket `delivery`, beside the mark; where there is
none, somebody was connected when the last gateway ended.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import structlog

from services.chassis.bus.records import Bucket
from services.chassis.errors import BusUnavailable
from services.gateway.background import Background

log = structlog.get_logger(__name__)


def begins_at(
    now: datetime, *, left: datetime | None, started: datetime, gap: timedelta
) -> datetime | None:
    """The moment from which on ended operations are told; None for everything after the mark.

    `left` is when the last client left, None for one that stayed until the gateway ended; `started`
    is when this gateway did.
    """
    return None if now - (left or started) <= gap else now - gap


@dataclass(slots=True)
class Absences:
    """When the last client of an identity left, in the bucket."""

    bucket: Bucket
    key: str
    background: Background
    now: Callable[[], datetime]
    started: datetime
    gap: timedelta
    _is_present: bool = False
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def end(self, *, was_ever: bool) -> datetime | None:
        """A first client is here: from when on it is told of ended operations (`begins_at`).

        Without `was_ever` this identity had no client before.
        """
        self._is_present = True
        now = self.now()
        async with self._turn:
            entry = await self.bucket.get(self._key)
            if entry is not None:
                await self.bucket.delete(self._key)
        if entry is None and not was_ever:
            return now - self.gap
        left = _read(entry.value) if entry is not None else None
        return begins_at(now, left=left, started=self.started, gap=self.gap)

    def begin(self) -> None:
        """The last client has left."""
        self._is_present = False
        self.background.start("keep-absence", self._keep(self.now()))

    async def _keep(self, left: datetime) -> None:
        async with self._turn:
            if self._is_present:
                return
            try:
                await self.bucket.put(self._key, left.isoformat().encode())
            except BusUnavailable as error:
                # The next client then gets more than it should, and misses nothing.
                log.warning("absence_not_stored", reason=error.summary)

    @property
    def _key(self) -> str:
        return f"{self.key}.left"


def _read(value: bytes) -> datetime | None:
    try:
        found = datetime.fromisoformat(value.decode())
    except ValueError:
        return None
    return found if found.tzinfo is not None else None
