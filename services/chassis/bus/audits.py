"""Writing a service's audit stream, beside the answers: who asks does not wait for it.

An entry that waits is kept through the absence of NATS; what does not fit is counted, and in the
log all the same. The same refusal again and again makes one entry now and one with its count later,
so that a flood of refused calls cannot push older entries out of the stream.
"""

from __future__ import annotations

import asyncio
import uuid
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta

import nats.js.errors
import structlog

from services.chassis.bus import envelopes, subjects
from services.chassis.bus.publishing import Publisher
from services.chassis.errors import BusUnavailable
from services.chassis.messages import AuditEntry, Outcome
from services.chassis.telemetry.metrics import AUDIT_LOST, Metrics

_MOST_WAITING = 10_000
_MOST_COUNTED = 1_000
_COUNTED_FOR_S = 60.0
_LAST_WRITES_S = 5.0
_WITHIN = timedelta(seconds=10)

log = structlog.get_logger(__name__)

_Refusal = tuple[str, ...]


def _refusal(entry: AuditEntry) -> _Refusal:
    """What makes two refusals the same: who, from where, what, why, and on which clusters."""
    who = (entry.identity, entry.address)
    return (*who, entry.call, entry.code, entry.kind, *sorted(entry.clusters))


@dataclass(slots=True)
class Audit:
    """The entries of one process on their way."""

    publisher: Publisher
    metrics: Metrics
    _waiting: deque[AuditEntry] = field(default_factory=deque)
    _filled: asyncio.Event = field(default_factory=asyncio.Event)
    _counted: dict[_Refusal, AuditEntry] = field(default_factory=dict)
    """Refusals that came again: the newest entry, with its count."""

    def write(self, entry: AuditEntry) -> None:
        """Takes the entry; returns at once."""
        if entry.outcome is Outcome.REFUSED:
            refusal = _refusal(entry)
            if refusal not in self._counted and len(self._counted) >= _MOST_COUNTED:
                refusal = (entry.call, entry.code)
            counted = self._counted.get(refusal)
            if counted is not None:
                self._counted[refusal] = entry.model_copy(update={"times": counted.times + 1})
                return
            self._counted[refusal] = entry.model_copy(update={"times": 0})
            asyncio.get_running_loop().call_later(_COUNTED_FOR_S, self._tell_count, refusal)
        self._queue(entry)

    async def run(self) -> None:
        """Writes entries until cancelled, each until it is stored."""
        while True:
            while self._waiting:
                await self._store(self._waiting[0])
                self._waiting.popleft()
            self._filled.clear()
            await self._filled.wait()

    async def finish(self) -> None:
        """What waits, at the end of the process."""
        for refusal in list(self._counted):
            self._tell_count(refusal)
        with suppress(TimeoutError):
            async with asyncio.timeout(_LAST_WRITES_S):
                while self._waiting:
                    await self._store(self._waiting[0])
                    self._waiting.popleft()
        if self._waiting:
            self.metrics.count(AUDIT_LOST, times=len(self._waiting))

    def _tell_count(self, refusal: _Refusal) -> None:
        counted = self._counted.pop(refusal, None)
        if counted is not None and counted.times:
            self._queue(counted)

    def _queue(self, entry: AuditEntry) -> None:
        log.info("audit", **entry.model_dump(mode="json", exclude={"service", "schema_version"}))
        if len(self._waiting) >= _MOST_WAITING:
            self.metrics.count(AUDIT_LOST)
            return
        self._waiting.append(entry)
        self._filled.set()

    async def _store(self, entry: AuditEntry) -> None:
        body, headers = envelopes.encode(entry, content_type=envelopes.JSON)
        headers |= {envelopes.MESSAGE_ID: f"audit.{uuid.uuid4()}"}
        while True:
            try:
                await self.publisher.raw(
                    subjects.audit(entry.service), body, headers, within=_WITHIN
                )
            except BusUnavailable:
                continue
            except nats.js.errors.APIError as error:
                log.warning("audit_not_stored", reason=str(error.description))
                self.metrics.count(AUDIT_LOST)
            return


@asynccontextmanager
async def auditing(publisher: Publisher, metrics: Metrics) -> AsyncIterator[Audit]:
    """An audit whose entries are written during the block and at its end."""
    audit = Audit(publisher, metrics)
    writing = asyncio.create_task(audit.run(), name="audit")
    try:
        yield audit
    finally:
        writing.cancel()
        with suppress(asyncio.CancelledError):
            await writing
        await audit.finish()
