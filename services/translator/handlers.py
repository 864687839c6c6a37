"""What happens to a command: translate it, hand the plan to lifecycle, or end it here.

The operation's record stays untouched until somebody ends the operation: a translation has no
effect, so whoever gets a redelivered command translates again and publishes the same command, which
the stream drops by its message id and lifecycle by the operation's record.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from services.chassis.bus import subjects
from services.chassis.bus.publishing import Publisher
from services.chassis.bus.pulling import Delivery, kept
from services.chassis.bus.records import Records
from services.chassis.errors import (
    BusUnavailable,
    ClusterBusy,
    DeadlineExpired,
    InternalError,
    MeshbusError,
    RequestTooLarge,
    UnknownOperation,
)
from services.chassis.messages import Command, Event, OperationRecord, Plan, SlotKind
from services.chassis.operations.commands import processing, read_command
from services.chassis.operations.endings import (
    Endings,
    failure_event,
    first_error,
    success_event,
)
from services.chassis.operations.progress import Progress
from services.chassis.telemetry import metrics
from services.translator.work import Cluster, Definitions, Operation, Outcome, Work

SERVICE = "translator"
_WITHIN = timedelta(seconds=20)

log = structlog.get_logger(__name__)


@dataclass(slots=True, kw_only=True)
class Handlers:
    """Handles the messages of `cmd.translator.>`."""

    publisher: Publisher
    records: Records[OperationRecord]
    endings: Endings
    definitions: Definitions
    cluster_of: Callable[[Command, Progress], Cluster]
    operations: Mapping[str, Operation]
    metrics: metrics.Metrics
    ack_wait: timedelta
    now: Callable[[], datetime]

    async def handle(self, delivery: Delivery) -> None:
        """One command; returning means it is done with, for better or worse."""
        command = read_command(delivery)
        with processing(delivery, command, service=SERVICE):
            await self._told(delivery, command)

    async def _told(self, delivery: Delivery, command: Command) -> None:
        key = subjects.operation_key(command.operation, command.cluster)
        stored = await self.records.get(key)
        if stored is not None:
            # Lifecycle has it, or it has ended.
            await self.endings.told_again(command, stored[0])
            return
        progress = Progress(self.publisher, command, delivery.attempt, service=SERVICE)
        progress.start()
        try:
            async with kept(delivery, ack_wait=self.ack_wait):
                plan, final, error = await self._outcome(command, progress)
                await progress.close()
                if plan is not None:
                    error = await self._hand_on(command, plan)
                    final = self._failure(command, progress, error) if error else None
                if final is not None:
                    await self.endings.end(command, progress, final, error)
        except BaseException:
            progress.abandon()
            raise
        outcome = "failed" if error else "handed_on" if plan is not None else "done"
        self.metrics.count(metrics.COMMANDS, command.kind, outcome)
        log.info("command_translated", outcome=outcome, kind=command.kind)

    async def _outcome(
        self, command: Command, progress: Progress
    ) -> tuple[Plan | None, Event | None, MeshbusError | None]:
        """A plan, or the final event and the error in it; a lost bus goes up instead."""
        operation = self.operations.get(command.kind)
        try:
            outcome = await self._run(operation, command, progress)
        except Exception as raised:
            error = first_error(raised)
            if isinstance(error, BusUnavailable):
                raise error from raised
            if isinstance(error, InternalError):
                log.exception("operation_crashed", kind=command.kind)
            return None, self._failure(command, progress, error), error
        if isinstance(outcome, Plan):
            return outcome, None, None
        return None, success_event(progress, outcome), None

    async def _run(
        self, operation: Operation | None, command: Command, progress: Progress
    ) -> Outcome:
        if operation is None:
            raise UnknownOperation(f"the translator offers no operation {command.kind!r}")
        if command.deadline <= self.now():
            raise DeadlineExpired("the command was not started before its deadline")
        work = Work(
            command=command,
            progress=progress,
            cluster=self.cluster_of(command, progress),
            definitions=self.definitions,
            now=self.now,
        )
        return await operation.run(work)

    def _failure(self, command: Command, progress: Progress, error: MeshbusError) -> Event:
        operation = self.operations.get(command.kind)
        doing = operation.doing(command.verb) if operation else f"running {command.kind}"
        return failure_event(progress, error, doing=doing, applied="Nothing was changed.")

    async def _hand_on(self, command: Command, plan: Plan) -> MeshbusError | None:
        """The same operation, now for lifecycle; returns why that will never work."""
        translated = command.model_copy(update={"plan": plan, "body": ""})
        try:
            await self.publisher.command(
                translated, service="lifecycle", slot=SlotKind.APPLY, within=_WITHIN
            )
        except ClusterBusy:
            return None  # it can only be its own: an earlier attempt has handed it on
        except (DeadlineExpired, RequestTooLarge) as error:
            return error
        return None
