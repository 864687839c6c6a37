"""What happens to a command: reach its cluster and run its operation there."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Protocol

import structlog

from services.chassis.bus import subjects
from services.chassis.bus.deadletters import DeadLetter
from services.chassis.bus.leases import Fence, Leases
from services.chassis.bus.pulling import Delivery
from services.chassis.bus.records import Bucket
from services.chassis.errors import (
    AttemptsExhausted,
    DeadlineExpired,
    InvalidMessage,
    LeaseLost,
    MeshbusError,
    UnknownOperation,
)
from services.chassis.kube.applying import Applier
from services.chassis.kube.readiness import Readiness
from services.chassis.messages import (
    Command,
    Event,
    Phase,
    SlotKind,
    Verb,
)
from services.chassis.operations.claims import Claims
from services.chassis.operations.commands import processing, read_command, read_letter
from services.chassis.operations.endings import (
    Result,
    failure_event,
    first_error,
)
from services.chassis.operations.progress import Progress
from services.lifecycle.applications.samples import BY_NAME
from services.lifecycle.cluster.connections import Connection
from services.lifecycle.cluster.inventory import Surveyor
from services.lifecycle.manifests.engine import Engine
from services.lifecycle.manifests.objects import by_kind, listing
from services.lifecycle.manifests.plans import carrying_out
from services.lifecycle.manifests.records import Ledger
from services.lifecycle.work import Operation, Work

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

    claims: Claims
    credentials: Credentials
    connections: Connections
    leases: Leases
    operations: Mapping[str, Operation]
    parallel_writes: int
    applied: Bucket

    async def handle(self, delivery: Delivery) -> None:
        """One command; returning means it is done with, for better or worse."""
        command = read_command(delivery)
        with processing(delivery, command, service=SERVICE):
            await self._carried_out(delivery, command)

    async def mourn(self, letter: DeadLetter, error: AttemptsExhausted) -> None:
        """Ends the operation of a command that no worker survived."""
        try:
            command = read_letter(letter)
        except InvalidMessage:
            return
        stored = await self.claims.records.get(
            subjects.operation_key(command.operation, command.cluster)
        )
        if stored is not None and stored[0].state.is_terminal:
            return
        attempt = stored[0].attempt + 1 if stored else 1
        progress = Progress(self.claims.publisher, command, attempt, service=SERVICE)
        final = failure_event(progress, error, doing=doing(command), applied="")
        await self.claims.endings.end(command, progress, final, error)

    async def _carried_out(self, delivery: Delivery, command: Command) -> None:
        engines: list[Engine] = []

        async def run(progress: Progress, fence: Fence) -> Result:
            return await self._run(command, progress, fence, engines)

        def failure(progress: Progress, error: MeshbusError) -> Event:
            applied = applied_text(engines)
            return failure_event(progress, error, doing=doing(command), applied=applied)

        await self.claims.carry_out(delivery, command, run=run, failure=failure)

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
                return await _kept(operation, work)
            # What changes the mesh holds the cluster's lease as well; manifests flow beside it.
            async with work.mesh():
                return await _kept(operation, work)

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
                Ledger(self.applied, command, connection.identity),
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


async def _kept(operation: Operation, work: Work) -> Result:
    """Runs an operation and keeps what it applied, also when it fails on the way: that is in the
    cluster all the same."""
    try:
        result = await operation.run(work)
    except Exception as raised:
        # Who lost the command leaves the record to the worker that has it now.
        if not isinstance(first_error(raised), LeaseLost):
            with contextlib.suppress(MeshbusError, ExceptionGroup):
                await work.engine.ledger.settle()
        raise
    await work.engine.ledger.settle()
    return result


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
