"""What happens to a command: claim it, run it, end it, and tell; each step safe to repeat.

The order makes a crash harmless: RUNNING in `ops` (compare-and-swap), idempotent work, the terminal
record with the final event inside, the final event on the bus, and then the acknowledgement. A
redelivery that finds a terminal record only tells its event again.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Protocol

import structlog

from services.chassis.bus import subjects
from services.chassis.bus.connection import Bus
from services.chassis.bus.deadletters import DeadLetter
from services.chassis.bus.leases import Fence, Leases
from services.chassis.bus.publishing import Publisher
from services.chassis.bus.pulling import Abandon, Delivery
from services.chassis.bus.records import Records, RevisionConflict
from services.chassis.errors import (
    AttemptsExhausted,
    BusUnavailable,
    DeadlineExpired,
    InternalError,
    InvalidMessage,
    LeaseLost,
    MeshbusError,
    OperationCancelled,
    UnknownOperation,
)
from services.chassis.kube.applying import Applier
from services.chassis.kube.readiness import Readiness
from services.chassis.messages import (
    Command,
    Event,
    OperationRecord,
    OperationState,
    Phase,
    SlotKind,
    Verb,
)
from services.chassis.operations.commands import processing, read_command, read_letter
from services.chassis.operations.endings import (
    Endings,
    Result,
    failure_event,
    first_error,
    success_event,
)
from services.chassis.operations.progress import Progress
from services.chassis.telemetry import metrics
from services.lifecycle.engine import Engine
from services.lifecycle.inventory import Surveyor
from services.lifecycle.planning import by_kind, listing
from services.lifecycle.plans import carrying_out
from services.lifecycle.samples import BY_NAME
from services.lifecycle.work import Connection, Operation, Work

log = structlog.get_logger(__name__)

SERVICE = "lifecycle"


class Credentials(Protocol):
    """Opens the kubeconfig that a command refers to."""

    async def kubeconfig(self, command: Command) -> str: ...

    async def forget(self, command: Command) -> None: ...


class Connections(Protocol):
    """Reaches the cluster of a kubeconfig."""

    def use(self, kubeconfig: str) -> AbstractAsyncContextManager[Connection]: ...


@dataclass(slots=True, kw_only=True)
class Handlers:
    """Handles the messages of `cmd.lifecycle.>`."""

    bus: Bus
    publisher: Publisher
    records: Records[OperationRecord]
    credentials: Credentials
    connections: Connections
    leases: Leases
    operations: Mapping[str, Operation]
    metrics: metrics.Metrics
    endings: Endings
    worker: str
    ack_wait: timedelta
    parallel_writes: int

    async def handle(self, delivery: Delivery) -> None:
        """One command; returning means it is done with, for better or worse."""
        command = read_command(delivery)
        with processing(delivery, command, service=SERVICE):
            await self._claimed(delivery, command)

    async def cancel(self, operation: str, cluster: str) -> bool:
        """Asks for a running operation to stop; False when it is not running."""
        key = subjects.operation_key(operation, cluster)
        stored = await self.records.get(key)
        if stored is None or stored[0].state.is_terminal:
            return False
        record, revision = stored
        wanted = record.model_copy(update={"cancel_requested": True})
        await self.records.update(key, wanted, revision=revision)
        return True

    async def mourn(self, letter: DeadLetter, error: AttemptsExhausted) -> None:
        """Ends the operation of a command that no worker survived."""
        try:
            command = read_letter(letter)
        except InvalidMessage:
            return
        stored = await self.records.get(subjects.operation_key(command.operation, command.cluster))
        if stored is not None and stored[0].state.is_terminal:
            return
        attempt = stored[0].attempt + 1 if stored else 1
        progress = Progress(self.publisher, command, attempt, service=SERVICE)
        final = failure_event(progress, error, doing=doing(command), applied="")
        await self.endings.end(command, progress, final, error)

    async def _claimed(self, delivery: Delivery, command: Command) -> None:
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
            worker=self.worker,
            cancel_requested=stored[0].cancel_requested if stored else False,
        )
        try:
            if stored is None:
                await self.records.create(key, record)
            else:
                await self.records.update(key, record, revision=stored[1])
        except RevisionConflict:
            raise Abandon from None
        await self._told(delivery, command, attempt)

    async def _told(self, delivery: Delivery, command: Command, attempt: int) -> None:
        """Runs the operation between its first and its last event."""
        began = time.monotonic()
        progress = Progress(self.publisher, command, attempt, service=SERVICE)
        progress.start()
        self.metrics.add(metrics.RUNNING, 1)
        try:
            async with self._heartbeats(delivery, command, attempt) as fence:
                final, error = await self._outcome(command, progress, fence)
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
        self, command: Command, progress: Progress, fence: Fence
    ) -> tuple[Event, MeshbusError | None]:
        """The final event, and the error in it; a lost claim or a lost bus goes up instead."""
        engines: list[Engine] = []
        try:
            result = await self._run(command, progress, fence, engines)
        except Exception as raised:
            error = first_error(raised)
            if isinstance(error, LeaseLost):
                log.warning("claim_lost", reason=error.summary)
                raise Abandon from raised
            if isinstance(error, BusUnavailable):
                raise error from raised
            if isinstance(error, InternalError):
                log.exception("operation_crashed", kind=command.kind)
            applied = applied_text(engines)
            return failure_event(progress, error, doing=doing(command), applied=applied), error
        return success_event(progress, result), None

    async def _run(
        self, command: Command, progress: Progress, fence: Fence, engines: list[Engine]
    ) -> Result:
        operation = self._operation(command)
        if command.deadline <= datetime.now(timezone.utc):
            raise DeadlineExpired("the command was not started before its deadline")
        kubeconfig = await self.credentials.kubeconfig(command)
        async with self.connections.use(kubeconfig) as connection:
            progress.tell(
                Phase.STARTED,
                f"{_verb_text(command)} started on {connection.client.config.context}",
            )
            work = self._work(command, connection, progress, fence)
            engines.append(work.engine)
            if operation.advertised.slot is not SlotKind.MESH:
                return await operation.run(work)
            # What changes the mesh holds the cluster's lease as well; manifests flow beside it.
            async with work.mesh():
                return await operation.run(work)

    def _operation(self, command: Command) -> Operation:
        if command.plan is not None:
            return carrying_out(command.plan, self.operations)
        operation = self.operations.get(command.kind)
        if operation is None:
            raise UnknownOperation(f"lifecycle offers no operation {command.kind!r}")
        return operation

    def _work(
        self, command: Command, connection: Connection, progress: Progress, fence: Fence
    ) -> Work:
        client, resources = connection.client, connection.resources
        return Work(
            command=command,
            client=client,
            resources=resources,
            engine=Engine(
                Applier(client, resources),
                Readiness(client, resources),
                fence,
                self.parallel_writes,
            ),
            surveyor=Surveyor(client, resources),
            fence=fence,
            progress=progress,
            mesh=lambda: self._mesh(command, connection, progress, fence),
        )

    @asynccontextmanager
    async def _mesh(
        self, command: Command, connection: Connection, progress: Progress, fence: Fence
    ) -> AsyncIterator[None]:
        """The lease of the cluster's mesh, whatever the cluster's address."""
        uid = await connection.identity()
        async with self.leases.held(
            f"mesh.{uid}", operation=command.operation, attempt=progress.attempt, fence=fence
        ):
            yield

    @asynccontextmanager
    async def _heartbeats(
        self, delivery: Delivery, command: Command, attempt: int
    ) -> AsyncIterator[Fence]:
        """Keeps the command ours while we work; the fence falls when that fails."""
        fence = Fence(self.ack_wait * 0.9)
        beating = asyncio.create_task(
            self._beat(delivery, command, attempt, fence), name="heartbeat"
        )
        try:
            yield fence
        finally:
            beating.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await beating

    async def _beat(self, delivery: Delivery, command: Command, attempt: int, fence: Fence) -> None:
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
                if stored is not None and stored[0].attempt != attempt:
                    fence.lose("another worker has claimed the operation")
                if stored is not None and stored[0].cancel_requested:
                    fence.stop(OperationCancelled("the operation was cancelled on request"))
            except Exception as error:  # the fence is what answers for missed beats
                log.warning("heartbeat_missed", reason=type(error).__name__)
                with contextlib.suppress(MeshbusError):
                    fence.check()


def applied_text(engines: list[Engine]) -> str:
    """What an operation did before it failed."""
    if not engines:
        return "Nothing was changed."
    outcome = engines[0].outcome
    parts = []
    if outcome.applied:
        refs = list(outcome.applied)
        parts.append(f"Applied before the failure: {by_kind(refs)} ({listing(refs)}).")
    if outcome.deleted:
        parts.append(f"Deleted before the failure: {listing(outcome.deleted)}.")
    return " ".join(parts) or "Nothing was changed."


def _verb_text(command: Command) -> str:
    action = "Deletion" if command.verb is Verb.DELETE else "Operation"
    return f"{action} {command.kind}"


def doing(command: Command) -> str:
    """Completes "Error while …" in the adapter's words; none says that something is gone."""
    if command.plan is not None:
        return command.plan.failing
    deleting = command.verb is Verb.DELETE
    match command.kind:
        case "istio":
            return f"{'removing' if deleting else 'installing'} Istio service mesh"
        case "label-namespace":
            return f"labeling {command.namespace}"
        case "manifest":
            return f"{'removing' if deleting else 'deploying'} the manifest"
    if command.kind in BY_NAME:
        word = "" if BY_NAME[command.kind].is_addon else " application"
        return f"{'removing' if deleting else 'installing'} {command.kind}{word}"
    return f"running {command.kind}"
