"""The record of an operation in the bucket `ops`: claimed before the work, closed after it.

Every change is a compare-and-swap, so of two workers with one command only one goes on. A worker
keeps its claim by heartbeats; the fence of one that falls silent stops it before its next write.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import NamedTuple

import structlog

from services.chassis.bus import subjects
from services.chassis.bus.connection import Bus
from services.chassis.bus.leases import Fence
from services.chassis.bus.pulling import Abandon, Delivery
from services.chassis.bus.records import Records, RevisionConflict
from services.chassis.errors import MeshbusError, OperationCancelled
from services.chassis.messages import Command, OperationRecord, OperationState

log = structlog.get_logger(__name__)

Stored = tuple[OperationRecord, int]
"""A record and its revision."""


class Claim(NamedTuple):
    """A worker's attempt, as it was recorded."""

    record: OperationRecord
    revision: int | None
    """None where nothing was."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """Claims the operations of one worker."""

    bus: Bus
    records: Records[OperationRecord]
    worker: str
    ack_wait: timedelta
    is_exclusive: bool = True
    """False for a service whose work has no effect until its end: it claims nothing, and a record
    that is there belongs to another service and stays as it is."""

    async def stored(self, operation: str, cluster: str) -> Stored | None:
        return await self.records.get(subjects.operation_key(operation, cluster))

    async def take(self, command: Command, delivery: Delivery, stored: Stored | None) -> Claim:
        """Makes this worker's attempt the current one; raises `Abandon` when another was faster."""
        attempt = stored[0].attempt + 1 if stored else 1
        record = OperationRecord(
            operation=command.operation,
            kind=command.kind,
            cluster=command.cluster,
            cluster_name=command.cluster_name,
            state=OperationState.RUNNING,
            attempt=attempt if self.is_exclusive else delivery.attempt,
            worker=self.worker,
            cancel_requested=stored[0].cancel_requested if stored else False,
        )
        if not self.is_exclusive:
            return Claim(record, None)
        try:
            return Claim(record, await self._write(record, stored))
        except RevisionConflict:
            raise Abandon from None

    async def take_new(self, command: Command, delivery: Delivery) -> Claim | None:
        """The same for a command that has most probably no record yet, which then need not be
        looked for; None when there is one, or where nothing is claimed."""
        if not self.is_exclusive or delivery.attempt > 1:
            return None
        try:
            return await self.take(command, delivery, None)
        except Abandon:
            return None

    async def close(self, record: OperationRecord, *, revision: int | None = None) -> None:
        """Writes a terminal record; raises `Abandon` when another worker or service has it.

        `revision` is that of the claim: the record is read only where it has changed since.
        """
        if revision is not None:
            with contextlib.suppress(RevisionConflict):
                key = subjects.operation_key(record.operation, record.cluster)
                await self.records.update(key, record, revision=revision)
                return
        while True:
            stored = await self.stored(record.operation, record.cluster)
            if stored is not None and stored[0] == record:
                return  # an earlier try arrived after all
            if stored is not None and (stored[0].attempt > record.attempt or not self.is_exclusive):
                raise Abandon
            with contextlib.suppress(RevisionConflict):
                await self._write(record, stored)
                return

    async def cancel(self, operation: str, cluster: str, *, kind: str = "") -> bool:
        """Asks for an operation to stop; False when it is not running.

        With `kind`, one that waits in its queue is cancelled as well: the worker that takes it
        ends it.
        """
        while True:
            stored = await self.stored(operation, cluster)
            with contextlib.suppress(RevisionConflict):
                if stored is None and kind:
                    await self._write(_cancelled_ahead(operation, cluster, kind), None)
                    return True
                if stored is None or stored[0].state.is_terminal:
                    return False
                wanted = stored[0].model_copy(update={"cancel_requested": True})
                await self._write(wanted, stored)
                return True

    async def resume(self, operation: str, cluster: str) -> None:
        """Takes back a request to stop: whoever has asked has heard it, and goes on otherwise."""
        while True:
            stored = await self.stored(operation, cluster)
            if stored is None or stored[0].state.is_terminal or not stored[0].cancel_requested:
                return
            with contextlib.suppress(RevisionConflict):
                await self._write(stored[0].model_copy(update={"cancel_requested": False}), stored)
                return

    @asynccontextmanager
    async def heartbeats(self, delivery: Delivery, claim: OperationRecord) -> AsyncIterator[Fence]:
        """Sends heartbeats for a claim during the block; its fence falls when they fail."""
        fence = Fence(self.ack_wait * 0.9)
        if claim.cancel_requested:
            _cancel(fence)
        beating = asyncio.create_task(self._beat(delivery, claim, fence), name="heartbeat")
        try:
            yield fence
        finally:
            beating.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await beating

    async def _beat(self, delivery: Delivery, claim: OperationRecord, fence: Fence) -> None:
        period = self.ack_wait.total_seconds() / 3
        while True:
            await asyncio.sleep(period)
            try:
                sent = asyncio.get_running_loop().time()
                await delivery.message.in_progress()
                # The answer to a ping comes after everything sent before it was read.
                await self.bus.rtt_s()
                fence.beat(at=sent)
                if self.is_exclusive:
                    await self._check_record(claim, fence)
            except Exception as error:  # the fence is what answers for missed beats
                log.warning("heartbeat_missed", reason=type(error).__name__)
                with contextlib.suppress(MeshbusError):
                    fence.check()

    async def _check_record(self, claim: OperationRecord, fence: Fence) -> None:
        """Ends the attempt when its record says so."""
        stored = await self.stored(claim.operation, claim.cluster)
        if stored is not None and stored[0].attempt != claim.attempt:
            fence.lose("another worker has claimed the operation")
        if stored is not None and stored[0].cancel_requested:
            _cancel(fence)

    async def _write(self, record: OperationRecord, stored: Stored | None) -> int:
        """Returns the revision; raises `RevisionConflict` when the record is not `stored` any
        more."""
        key = subjects.operation_key(record.operation, record.cluster)
        if stored is None:
            return await self.records.create(key, record)
        return await self.records.update(key, record, revision=stored[1])


def _cancel(fence: Fence) -> None:
    fence.stop(OperationCancelled("the operation was cancelled on request"))


def _cancelled_ahead(operation: str, cluster: str, kind: str) -> OperationRecord:
    """The record of an operation that is still in its queue."""
    return OperationRecord(
        operation=operation,
        kind=kind,
        cluster=cluster,
        state=OperationState.RUNNING,
        attempt=0,
        cancel_requested=True,
    )
