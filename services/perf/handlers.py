"""Prepares the work of an operation, and cancels it when that is asked for."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass

from services.chassis.errors import OperationCancelled
from services.chassis.messages import Command
from services.chassis.operations.running import Attempt
from services.perf.runs.work import NO_CLUSTER, Mesh, Work

SERVICE = "perf"


@dataclass(frozen=True, slots=True, kw_only=True)
class Handlers:
    """Handles the messages of `cmd.perf.<cluster>.apply.<operation>`."""

    mesh_of: Callable[[Command], Mesh]
    cancelling: Callable[[str, str, Callable[[], None]], AbstractAsyncContextManager[None]]
    """Hears, for a block, that an operation on a cluster is to be cancelled."""

    @asynccontextmanager
    async def work(self, attempt: Attempt) -> AsyncIterator[Work]:
        command, fence = attempt.command, attempt.fence
        mesh = None if command.cluster == NO_CLUSTER else self.mesh_of(command)

        def cancel() -> None:
            fence.stop(OperationCancelled("the run was cancelled on request"))

        async with self.cancelling(command.operation, command.cluster, cancel):
            yield Work(command=command, progress=attempt.progress, fence=fence, mesh=mesh)
