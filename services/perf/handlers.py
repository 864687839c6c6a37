"""What happens to a run's command: claim it, conduct it, end it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime

from services.chassis.bus.leases import Fence
from services.chassis.bus.pulling import Delivery
from services.chassis.errors import (
    DeadlineExpired,
    MeshbusError,
    OperationCancelled,
    UnknownOperation,
)
from services.chassis.messages import Command, Event
from services.chassis.operations.claims import Claims
from services.chassis.operations.commands import processing, read_command
from services.chassis.operations.endings import Result, failure_event
from services.chassis.operations.progress import Progress
from services.perf.runs.ports import Stop
from services.perf.runs.work import NO_CLUSTER, Mesh, Operation, Work

SERVICE = "perf"


@dataclass(frozen=True, slots=True, kw_only=True)
class Handlers:
    """Handles the messages of `cmd.perf.<cluster>.apply.<operation>`."""

    claims: Claims
    operations: Mapping[str, Operation]
    mesh_of: Callable[[Command], Mesh]
    cancelling: Callable[[str, str, Stop], AbstractAsyncContextManager[None]]
    """Hears, for a block, that an operation on a cluster is to be cancelled."""
    now: Callable[[], datetime]

    async def handle(self, delivery: Delivery) -> None:
        """One command; returning means it is done with, for better or worse."""
        command = read_command(delivery)

        async def run(progress: Progress, fence: Fence) -> Result:
            return await self._run(command, progress, fence)

        def failure(progress: Progress, error: MeshbusError) -> Event:
            operation = self.operations.get(command.kind)
            doing = operation.doing(command.verb) if operation else f"running {command.kind}"
            return failure_event(progress, error, doing=doing, applied="")

        with processing(delivery, command, service=SERVICE):
            await self.claims.carry_out(delivery, command, run=run, failure=failure)

    async def _run(self, command: Command, progress: Progress, fence: Fence) -> Result:
        operation = self.operations.get(command.kind)
        if operation is None:
            raise UnknownOperation(f"perf offers no operation {command.kind!r}")
        is_first = progress.attempt == 1
        if is_first and command.deadline <= self.now():
            raise DeadlineExpired("the command was not started before its deadline")
        mesh = None if command.cluster == NO_CLUSTER else self.mesh_of(command)
        work = Work(command=command, progress=progress, fence=fence, mesh=mesh)

        def cancel() -> None:
            fence.stop(OperationCancelled("the run was cancelled on request"))

        async with self.cancelling(command.operation, command.cluster, cancel):
            return await operation.run(work)
