"""Carrying a command out as the only worker that does: claim it, run it, end it, and tell.

Each step is safe to repeat, and the order makes a crash harmless: RUNNING in `ops`
(compare-and-swap), idempotent work, the terminal record with the final event inside, the final
event on the bus, and then the acknowledgement. A redelivery that finds a terminal record only tells
its event again.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

import structlog

from services.chassis.bus import subjects
from services.chassis.bus.connection import Bus
from services.chassis.bus.leases import Fence
from services.chassis.bus.publishing import Publisher
from services.chassis.bus.pulling import Abandon, Delivery
from services.chassis.bus.records import Records, RevisionConflict
from services.chassis.errors import (
    BusUnavailable,
    InternalError,
    LeaseLost,
    MeshbusError,
    OperationCancelled,
)
from services.chassis.messages import Command, Event, OperationRecord, OperationState
from services.chassis.operations.endings import Endings, Result, first_error, success_event
from services.chassis.operations.progress import Progress
from services.chassis.telemetry import metrics

log = structlog.get_logger(__name__)

Run = Callable[[Progress, Fence], Awaitable[Result]]
"""Does the work of one attempt."""
Failure = Callable[[Progress, MeshbusError], Event]
"""The final event of an attempt that failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """Claims and carries out the commands of one worker."""

    bus: Bus
    publisher: Publisher
    records: Records[OperationRecord]
    endings: Endings
    metrics: metrics.Metrics
    ack_wait: timedelta

    async def carry_out(
        self, delivery: Delivery, command: Command, *, run: Run, failure: Failure
    ) -> None:
        """One delivery of `command`; returning means that it is done with.

        Raises `Abandon` when another worker has it, and `BusUnavailable` when the end could not be
        stored: the command then comes again.
        """
        key = subjects.operation_key(command.operation, command.cluster)
        stored = await self.records.get(key)
        if await self.endings.told_again(command, stored[0] if stored else None):
            return
        attempt = stored[0].attempt + 1 if stored else 1
        record = OperationRecord(
            operation=command.operation,
            kind=command.kind,
            cluster=command.cluster,
            cluster_name=command.cluster_name,
            state=OperationState.RUNNING,
            attempt=attempt,
            worker=self.endings.worker,
            cancel_requested=stored[0].cancel_requested if stored else False,
        )
        try:
            if stored is None:
                await self.records.create(key, record)
            else:
                await self.records.update(key, record, revision=stored[1])
        except RevisionConflict:
            raise Abandon from None
        progress = Progress(self.publisher, command, attempt, service=self.endings.service)
        await self._told(
            delivery, progress, run=run, failure=failure, is_cancelled=record.cancel_requested
        )

    async def cancel(self, operation: str, cluster: str, *, kind: str = "") -> bool:
        """Asks for an operation to stop; False when it is not running.

        With `kind`, one that waits in its queue is cancelled as well: whoever takes it ends it.
        """
        key = subjects.operation_key(operation, cluster)
        while True:
            stored = await self.records.get(key)
            with contextlib.suppress(RevisionConflict):
                if stored is None and kind:
                    await self.records.create(key, _cancelled_ahead(operation, cluster, kind))
                    return True
                if stored is None or stored[0].state.is_terminal:
                    return False
                wanted = stored[0].model_copy(update={"cancel_requested": True})
                await self.records.update(key, wanted, revision=stored[1])
                return True

    async def _told(
        self,
        delivery: Delivery,
        progress: Progress,
        *,
        run: Run,
        failure: Failure,
        is_cancelled: bool,
    ) -> None:
        """Runs the operation between its first and its last event."""
        began = time.monotonic()
        command = progress.command
        progress.start()
        self.metrics.add(metrics.RUNNING, 1)
        try:
            async with self._heartbeats(delivery, progress) as fence:
                if is_cancelled:
                    fence.stop(OperationCancelled("the operation was cancelled on request"))
                final, error = await self._outcome(progress, fence, run=run, failure=failure)
                await progress.close()
                await self.endings.end(command, progress, final, error)
        except BaseException:
            progress.abandon()
            raise
        finally:
            self.metrics.add(metrics.RUNNING, -1)
            self.metrics.observe(metrics.COMMAND_SECONDS, time.monotonic() - began, command.kind)
        outcome = "failed" if error else "done"
        self.metrics.count(metrics.COMMANDS, command.kind, outcome)
        code = error.code if error else ""
        log.info("operation_ended", outcome=outcome, code=code, kind=command.kind)

    async def _outcome(
        self, progress: Progress, fence: Fence, *, run: Run, failure: Failure
    ) -> tuple[Event, MeshbusError | None]:
        """The final event, and the error in it; a lost claim or a lost bus goes up instead."""
        try:
            result = await run(progress, fence)
        except Exception as raised:
            error = first_error(raised)
            if isinstance(error, LeaseLost):
                log.warning("claim_lost", reason=error.summary)
                raise Abandon from raised
            if isinstance(error, BusUnavailable):
                raise error from raised
            if isinstance(error, InternalError):
                log.exception("operation_crashed", kind=progress.command.kind)
            return failure(progress, error), error
        return success_event(progress, result), None

    @asynccontextmanager
    async def _heartbeats(self, delivery: Delivery, progress: Progress) -> AsyncIterator[Fence]:
        """Keeps the command ours while we work; the fence falls when that fails."""
        fence = Fence(self.ack_wait * 0.9)
        beating = asyncio.create_task(self._beat(delivery, progress, fence), name="heartbeat")
        try:
            yield fence
        finally:
            beating.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await beating

    async def _beat(self, delivery: Delivery, progress: Progress, fence: Fence) -> None:
        command = progress.command
        key = subjects.operation_key(command.operation, command.cluster)
        period = self.ack_wait.total_seconds() / 3
        while True:
            await asyncio.sleep(period)
            try:
                sent = asyncio.get_running_loop().time()
                await delivery.message.in_progress()
                # The answer to a ping comes after everything sent before it was read.
                await self.bus.rtt_s()
                fence.beat(at=sent)
                stored = await self.records.get(key)
                if stored is not None and stored[0].attempt != progress.attempt:
                    fence.lose("another worker has claimed the operation")
                if stored is not None and stored[0].cancel_requested:
                    fence.stop(OperationCancelled("the operation was cancelled on request"))
            except Exception as error:  # the fence is what answers for missed beats
                log.warning("heartbeat_missed", reason=type(error).__name__)
                with contextlib.suppress(MeshbusError):
                    fence.check()


def _cancelled_ahead(operation: str, cluster: str, kind: str) -> OperationRecord:
    """The record of an operation that nobody has taken yet."""
    return OperationRecord(
        operation=operation,
        kind=kind,
        cluster=cluster,
        state=OperationState.RUNNING,
        attempt=0,
        cancel_requested=True,
    )
