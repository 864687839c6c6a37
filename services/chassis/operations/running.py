"""Runs the operations that a worker offers: claim, work, final event, acknowledgement.

Each step is safe to repeat, and the order makes a crash harmless: RUNNING in `ops`
(compare-and-swap), idempotent work, the terminal record with the final event inside, the final
event on the bus, and then the acknowledgement. A redelivery that finds a terminal record only
publishes its event again.

A service whose work has no effect before its end claims nothing (`Claims.is_exclusive`): a
redelivered command is worked on again, and what comes of it is dropped by message id or by the
record that is there by then.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any, Generic, TypeVar

import structlog

from services.chassis.bus import envelopes
from services.chassis.bus.deadletters import DeadLetter
from services.chassis.bus.leases import Fence
from services.chassis.bus.pulling import Abandon, Delivery, Retry, reading
from services.chassis.bus.records import Bucket, Records
from services.chassis.bus.streams import MAX_DELIVERIES
from services.chassis.bus.subjects import operation_key
from services.chassis.errors import (
    AttemptsExhausted,
    BusUnavailable,
    ClusterBusy,
    DeadlineExpired,
    InternalError,
    InvalidMessage,
    LeaseLost,
    MeshbusError,
    OperationCancelled,
    RequestTooLarge,
    SealingKeyMissing,
    Superseded,
    UnknownOperation,
)
from services.chassis.messages import (
    AdvertisedOperation,
    Command,
    Event,
    OperationRecord,
    OperationState,
    Plan,
    RequestRecord,
    ServiceCatalog,
    SlotKind,
    Step,
    StepKind,
    is_configuration,
)
from services.chassis.operations import accounts
from services.chassis.operations.claims import Claim, Claims
from services.chassis.operations.commands import (
    outlined,
    processing,
    read_command,
    read_letter,
    sender_of,
)
from services.chassis.operations.completion import (
    Parked,
    Result,
    failure_event,
    first_error,
    success_event,
)
from services.chassis.operations.progress import Progress
from services.chassis.service import Chassis
from services.chassis.telemetry import metrics

_HAND_ON_WITHIN = timedelta(seconds=20)
_ENDS: dict[type, str] = {Plan: "handed_on", Parked: "parked"}

log = structlog.get_logger(__name__)

W = TypeVar("W")
R_co = TypeVar("R_co", bound=Result | Plan | Parked, covariant=True)


# Without slots: Python 3.11 cannot call the alias of a generic class that is frozen and slotted.
@dataclass(frozen=True)
class Operation(Generic[W, R_co]):
    """An operation that a service offers: `run` does it with the service's own work object."""

    advertised: AdvertisedOperation
    run: Callable[[W], Awaitable[R_co]]
    doing: Callable[[Command], str]
    """Completes "Error while …" in a failure's event; it must not say that something is gone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One attempt of one worker at a command."""

    command: Command
    advertised: AdvertisedOperation
    progress: Progress
    fence: Fence


class Runner(Generic[W]):
    """Runs the commands of one worker."""

    def __init__(
        self,
        chassis: Chassis[Any],
        operations: Mapping[str, Operation[W, Result | Plan | Parked]],
        *,
        work: Callable[[Attempt], AbstractAsyncContextManager[W]],
        forget: Callable[[Command], Awaitable[None]],
        changes: Callable[[W | None], str] = lambda _work: "",
        planned: Callable[[Plan], Operation[W, Result]] | None = None,
        authorize: Callable[[Command, str], Awaitable[None]] | None = None,
        is_exclusive: bool = True,
        resumes: bool = False,
    ) -> None:
        """`work` makes the object that an operation works with, for the time that it runs.

        `forget` deletes the credential that came with an ended operation. `changes` says what an
        attempt had changed when it failed; it gets None when the work was never made. `planned`
        makes an operation of a command's plan, in a service that carries plans out. `authorize`
        raises when a command's sender may not ask for it; without it no service may hand on
        anything to this one. `is_exclusive`
        is False for a service that claims nothing (`Claims`). With `resumes` the deadline is the
        first attempt's alone: a later one goes on with its work.
        """
        self.service = chassis.service
        self.operations = operations
        self.claims = Claims(
            bus=chassis.bus,
            records=Records(Bucket(chassis.bus, "ops"), OperationRecord),
            worker=chassis.settings.instance,
            ack_wait=chassis.settings.ack_wait,
            is_exclusive=is_exclusive,
        )
        self._requests = Records(Bucket(chassis.bus, "ops"), RequestRecord)
        self._publisher = chassis.publisher
        self._audit = chassis.audit
        self._metrics = chassis.metrics
        self._work = work
        self._forget = forget
        self._changes = changes
        self._planned = planned
        self._authorize = authorize
        self._resumes = resumes

    async def advertise(self, *, versions: Sequence[str] = ()) -> None:
        """Publishes the service's catalog of operations for the gateway.

        The entry stays when the worker goes: its operations wait for the next one.
        """
        catalog = ServiceCatalog(
            service=self.service,
            operations=[operation.advertised for operation in self.operations.values()],
            versions=list(versions),
        )
        await Records(Bucket(self.claims.bus, "catalog"), ServiceCatalog).put(self.service, catalog)

    async def handle(self, delivery: Delivery) -> None:
        """Runs the command of a delivery; on return it is done with, in success or in failure.

        Raises `Abandon` when another worker has it, `BusUnavailable` when the end could not be
        stored (the command then comes again), and `InvalidMessage` for one that is not to be
        carried out and must not end somebody else's operation either.
        """
        with reading(delivery):
            command = read_command(delivery, keys=self.claims.bus.keys)
        sender = sender_of(delivery)
        with processing(delivery, command, service=self.service):
            refusal = await self._refusal(command, sender)
            is_for_another = self._is_for_another(delivery, command)
            if refusal is None and not is_for_another:
                claim = await self.claims.take_new(command, delivery)
                if claim is not None:
                    await self._attempt(delivery, command, claim)
                    return
            stored = await self.claims.stored(command.operation, command.cluster)
            if refusal is not None:
                await self._refuse(command, refusal, stored[0] if stored else None)
                return
            if stored is not None and stored[0].state.is_terminal:
                await self._repeat(command, stored[0])
                return
            if stored is not None and not self.claims.is_exclusive:
                return  # the service that the command was handed on to has it
            if is_for_another:
                raise Retry.by_a_later_version(delivery)
            claim = await self.claims.take(command, delivery, stored)
            await self._attempt(delivery, command, claim)

    async def fail_exhausted(self, letter: DeadLetter, error: AttemptsExhausted) -> None:
        """Fails the operation of a command whose every delivery has failed."""
        try:
            command = await self._given_up(letter)
        except InvalidMessage:
            return
        # Its credential stays until its own end, so that the letter can be put back.
        await self.fail(command, error, forgets=False)

    async def fail(self, command: Command, error: MeshbusError, *, forgets: bool = True) -> None:
        """Ends the operation of a command that no worker will carry out any more, unless it has
        ended."""
        stored = await self.claims.stored(command.operation, command.cluster)
        if stored is not None and stored[0].state.is_terminal:
            return
        attempt = stored[0].attempt + 1 if stored else 1
        progress = Progress(self._publisher.event, command, attempt, service=self.service)
        words = doing(self._operation(command), command)
        final = failure_event(progress, error, doing=words, applied="")
        await self._complete(progress, final, error, forgets=forgets)

    async def _given_up(self, letter: DeadLetter) -> Command:
        """The command of a letter. Of one that was sealed to another service its headers tell the
        operation, and the request's record what people call the cluster."""
        try:
            return read_letter(letter, keys=self.claims.bus.keys)
        except SealingKeyMissing:
            command = outlined(letter)
        request = await self._requests.get(operation_key(command.operation))
        names = request[0].cluster_names if request else {}
        return command.model_copy(update={"cluster_name": names.get(command.cluster, "")})

    async def _refusal(self, command: Command, sender: str) -> MeshbusError | None:
        """Why the command is not carried out for its sender; None when it is."""
        if self._authorize is None:
            if sender:
                raise InvalidMessage(f"{self.service} takes nothing that a service hands on")
            return None
        try:
            await self._authorize(command, sender)
        except (InvalidMessage, BusUnavailable):
            raise
        except MeshbusError as error:
            log.warning("command_refused", sender=sender, code=error.code, reason=error.summary)
            told = accounts.refused(command, error, service=self.service, sender=sender)
            self._audit.write(told)
            return error
        return None

    async def _refuse(
        self, command: Command, error: MeshbusError, stored: OperationRecord | None
    ) -> None:
        """Ends an operation that was never begun, without a look at its credential. One that is
        under way or has ended is not the refused command's to end: raises `InvalidMessage`. One
        whose place was taken is: a worker that was cut off hands such on late, or died with it."""
        if stored is not None and not isinstance(error, Superseded):
            raise InvalidMessage(f"{error.code} {error.summary}")
        if stored is not None and stored.state.is_terminal:
            return
        attempt = stored.attempt + 1 if stored else 1
        progress = Progress(self._publisher.event, command, attempt, service=self.service)
        words = doing(self._operation(command), command)
        await self._end(progress, failure_event(progress, error, doing=words, applied=""), error)

    async def _attempt(self, delivery: Delivery, command: Command, claim: Claim) -> None:
        """Runs the operation between its first and its last event."""
        began = time.monotonic()
        record = claim.record
        progress = Progress(self._publisher.event, command, record.attempt, service=self.service)
        progress.start()
        self._metrics.add(metrics.RUNNING, 1)
        try:
            async with self.claims.heartbeats(delivery, record) as fence:
                outcome, error = await self._outcome(progress, fence)
                await progress.close()
                if isinstance(outcome, Plan):
                    error = await self._hand_on(command, outcome)
                    if error is not None:
                        outcome = self._failure(progress, error, None)
                if isinstance(outcome, Event):
                    await self._complete(progress, outcome, error, claimed=claim.revision)
        except BaseException:
            progress.abandon()
            raise
        finally:
            self._metrics.add(metrics.RUNNING, -1)
            self._metrics.observe(metrics.COMMAND_SECONDS, time.monotonic() - began, command.kind)
        ended = _ENDS.get(type(outcome)) or ("failed" if error else "done")
        self._metrics.count(metrics.COMMANDS, command.kind, ended)
        code = error.code if error else ""
        log.info("operation_ended", outcome=ended, code=code, kind=command.kind)

    async def _complete(
        self,
        progress: Progress,
        final: Event,
        error: MeshbusError | None,
        *,
        forgets: bool = True,
        claimed: int | None = None,
    ) -> None:
        """Stores the end with its event, publishes the event, and deletes the credential.

        In this order a crash is harmless: the next worker finds the event in the record. `claimed`
        is the claim's revision. Raises `Abandon` when a later attempt has taken over.
        """
        await self._end(progress, final, error, claimed=claimed)
        self._audit.write(accounts.ended(progress.command, error, service=self.service))
        if forgets:
            await self._forget(progress.command)

    async def _end(
        self,
        progress: Progress,
        final: Event,
        error: MeshbusError | None,
        *,
        claimed: int | None = None,
    ) -> None:
        command = progress.command
        state = OperationState.SUCCEEDED if error is None else OperationState.FAILED
        if isinstance(error, OperationCancelled):
            state = OperationState.CANCELLED
        record = OperationRecord(
            operation=command.operation,
            kind=command.kind,
            cluster=command.cluster,
            cluster_name=command.cluster_name,
            state=state,
            attempt=progress.attempt,
            worker=self.claims.worker,
            summary=final.summary,
            error=final.error,
            final=final,
        )
        await self.claims.close(record, revision=claimed)
        await self._publisher.event(final)
        self._metrics.count(metrics.EVENTS, final.phase)

    async def _repeat(self, command: Command, stored: OperationRecord) -> None:
        """Publishes the final event of an operation that had ended before once more.

        An end that another service wrote is published by that service, on a subject of its own.
        """
        if stored.final is not None and stored.final.service == self.service:
            await self._publisher.event(stored.final)
        await self._forget(command)

    async def _outcome(
        self, progress: Progress, fence: Fence
    ) -> tuple[Event | Plan | Parked, MeshbusError | None]:
        """The final event and the error in it, or a plan to hand on, or the word that it waits.

        A lost claim and a lost bus are raised instead: another delivery goes on.
        """
        command = progress.command
        work: W | None = None
        try:
            operation = self._startable(progress)
            attempt = Attempt(
                command=command, advertised=operation.advertised, progress=progress, fence=fence
            )
            async with self._work(attempt) as work:
                result = await operation.run(work)
        except Exception as raised:
            error = first_error(raised)
            if isinstance(error, LeaseLost):
                log.warning("claim_lost", reason=error.summary)
                raise Abandon from raised
            if isinstance(error, BusUnavailable):
                raise error from raised
            if isinstance(error, InternalError):
                log.exception("operation_crashed", kind=command.kind)
            return self._failure(progress, error, work), error
        return (success_event(progress, result) if isinstance(result, Result) else result), None

    def _startable(self, progress: Progress) -> Operation[W, Result | Plan | Parked]:
        """The command's operation, when it is offered and may still start."""
        command = progress.command
        operation = self._operation(command)
        if operation is None:
            raise UnknownOperation(f"{self.service} offers no operation {command.kind!r}")
        goes_on = self._resumes and progress.attempt > 1
        if not goes_on and command.deadline <= datetime.now(timezone.utc):
            raise DeadlineExpired("the command was not started before its deadline")
        return operation

    def _is_for_another(self, delivery: Delivery, command: Command) -> bool:
        """Whether a worker of a later version may offer what this one does not. The last delivery
        tells instead that nobody does."""
        return (
            self._operation(command) is None
            and delivery.attempt < MAX_DELIVERIES
            and envelopes.is_from_a_later_version(delivery.headers)
        )

    def _operation(self, command: Command) -> Operation[W, Result | Plan | Parked] | None:
        if command.plan is not None and self._planned is not None:
            return self._planned(command.plan)
        return self.operations.get(command.kind)

    def _failure(self, progress: Progress, error: MeshbusError, work: W | None) -> Event:
        words = doing(self._operation(progress.command), progress.command)
        return failure_event(progress, error, doing=words, applied=self._changes(work))

    async def _hand_on(self, command: Command, plan: Plan) -> MeshbusError | None:
        """Publishes the same operation for lifecycle; returns the error if that can never work.

        What was asked for goes along where lifecycle has to see that the plan was asked for.
        """
        is_plain = all(_is_harmless(step) for step in plan.steps) and not plan.follow
        asked = "" if is_plain else command.body
        translated = command.model_copy(update={"plan": plan, "body": "", "asked": asked})
        try:
            await self._publisher.command(
                translated,
                service="lifecycle",
                slot=SlotKind.APPLY,
                within=_HAND_ON_WITHIN,
                sender=self.service,
                region=command.region,
            )
        except ClusterBusy:
            return None  # it can only be its own: an earlier attempt has handed it on
        except (DeadlineExpired, RequestTooLarge) as error:
            return error
        return None


def _is_harmless(step: Step) -> bool:
    """Whether a step only changes the mesh's configuration, as any grant of it allows."""
    return step.kind is StepKind.MANIFEST and all(is_configuration(obj) for obj in step.objects)


def doing(operation: Operation[Any, Any] | None, command: Command) -> str:
    """Completes "Error while …", also for a kind that the service does not offer."""
    return operation.doing(command) if operation else f"running {command.kind}"
