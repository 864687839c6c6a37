"""Sets an operation's work up: the connection to its cluster, the mesh's lease, and the records."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from services.chassis.bus.leases import Leases, in_turn
from services.chassis.bus.records import Bucket
from services.chassis.errors import DeadlineExpired, LeaseLost, MeshbusError
from services.chassis.kube.applying import Applier
from services.chassis.kube.readiness import Readiness
from services.chassis.messages import Command, Phase, Plan, SlotKind, Verb
from services.chassis.operations.completion import first_error
from services.chassis.operations.running import Attempt
from services.chassis.telemetry.metrics import WAITING
from services.lifecycle.authority import asker
from services.lifecycle.cluster.connections import Connection, Connections
from services.lifecycle.manifests.engine import Engine
from services.lifecycle.manifests.following import Followings
from services.lifecycle.manifests.objects import by_kind, listing
from services.lifecycle.manifests.plans import plan_operation
from services.lifecycle.manifests.records import Ledger
from services.lifecycle.manifests.work import Operation, Waiting, Work
from services.lifecycle.slots import Slots

SERVICE = "lifecycle"
_WAITS_FOR_THE_MESH = timedelta(minutes=30)
"""How long a step of a rollout lets another operation on the mesh go first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Handlers:
    """Handles the messages of `cmd.lifecycle.>`."""

    connections: Connections
    slots: Slots
    leases: Leases
    operations: Mapping[str, Operation]
    waiting: Mapping[str, Waiting]
    """Operations that reach their cluster by themselves, when its turn comes."""
    parallel_writes: int
    applied: Bucket
    followings: Followings

    @asynccontextmanager
    async def work(self, attempt: Attempt) -> AsyncIterator[Work]:
        """Reaches the command's cluster, then waits for a slot: one that never answers has none.

        An operation on the mesh holds the cluster's lease too.
        """
        command = attempt.command
        async with self.connections.to(
            command.cluster, operation=_asked_by(command), credential=command.credential
        ) as connection:
            work = self._work(attempt, connection)
            if command.kind in self.waiting and command.plan is None:
                yield work
                return
            action = "Deletion" if command.verb is Verb.DELETE else "Operation"
            attempt.progress.tell(
                Phase.STARTED,
                f"{action} {command.kind} started on {connection.client.config.context}",
            )
            await self._reached(attempt, connection)
            is_mesh = attempt.advertised.slot is SlotKind.MESH
            async with (
                self._slot(attempt),
                work.mesh_lease() if is_mesh else contextlib.nullcontext(),
                _recorded(work.engine.ledger),
            ):
                yield work

    async def _reached(self, attempt: Attempt, connection: Connection) -> None:
        with self.connections.metrics.counted(WAITING, "cluster"):
            await attempt.fence.guard(
                self.connections.reached(
                    connection,
                    identity=asker(attempt.command.grant),
                    warn=attempt.progress.warn,
                )
            )

    @asynccontextmanager
    async def _reach(
        self, attempt: Attempt, connection: Connection, work: Work, *, is_mesh: bool
    ) -> AsyncIterator[None]:
        """What every other operation has before it begins; the mesh's lease is waited for."""
        await self._reached(attempt, connection)
        lease = in_turn(
            work.mesh_lease,
            fence=attempt.fence,
            until=datetime.now(timezone.utc) + _WAITS_FOR_THE_MESH,
            waits=lambda busy: attempt.progress.note(f"Waits: {busy.summary}"),
        )
        async with (
            self._slot(attempt),
            lease if is_mesh else contextlib.nullcontext(),
            _recorded(work.engine.ledger),
        ):
            yield

    @asynccontextmanager
    async def _slot(self, attempt: Attempt) -> AsyncIterator[None]:
        """Holds one of the worker's slots, unless the operation is over before its turn comes."""
        command = attempt.command
        with self.slots.asked(cluster=command.cluster, identity=asker(command.grant)) as turn:
            with self.connections.metrics.counted(WAITING, "slot"):
                await attempt.fence.guard(turn.come())
            if command.deadline <= datetime.now(timezone.utc):
                raise DeadlineExpired("the command's turn did not come before its deadline")
            yield

    def planned(self, plan: Plan) -> Operation:
        """A translated request as an operation of its own."""
        return plan_operation(plan, self.operations, self.followings)

    def _work(self, attempt: Attempt, connection: Connection) -> Work:
        client, resources = connection.client, connection.resources

        def reach(*, is_mesh: bool) -> AbstractAsyncContextManager[None]:
            return self._reach(attempt, connection, work, is_mesh=is_mesh)

        work = Work(
            command=attempt.command,
            cluster=connection,
            engine=Engine(
                Applier(client, resources),
                Readiness(client, resources),
                attempt.fence,
                self.parallel_writes,
                Ledger(
                    self.applied,
                    attempt.command,
                    connection.identity,
                    keys=self.applied.bus.keys,
                ),
            ),
            fence=attempt.fence,
            progress=attempt.progress,
            mesh_lease=lambda: self._mesh_lease(attempt, connection),
            reach=reach,
        )
        return work

    @asynccontextmanager
    async def _mesh_lease(self, attempt: Attempt, connection: Connection) -> AsyncIterator[None]:
        """Holds the lease of the cluster's mesh, which is the same for all its addresses."""
        uid = await connection.identity()
        async with self.leases.held(
            f"mesh.{uid}",
            operation=attempt.command.operation,
            attempt=attempt.progress.attempt,
            fence=attempt.fence,
        ):
            yield


def _asked_by(command: Command) -> str:
    """The operation whose credential this is: a gate's change uses the gate's. Whether the command
    may name it was judged before (`authority.py`)."""
    return command.grant.claimed().operation if command.grant else command.operation


@asynccontextmanager
async def _recorded(ledger: Ledger) -> AsyncIterator[None]:
    """Records applied objects after the block, also after a failure: they are in the cluster."""
    try:
        yield
    except Exception as raised:
        # After a lost claim the record is left to the worker that has the command now.
        if not isinstance(first_error(raised), LeaseLost):
            with contextlib.suppress(MeshbusError, ExceptionGroup):
                await ledger.settle()
        raise
    await ledger.settle()


def changes(work: Work | None) -> str:
    """Lists the objects that an operation had applied and deleted when it failed."""
    parts = []
    if work is not None and work.engine.outcome.applied:
        refs = list(work.engine.outcome.applied)
        parts.append(f"Applied before the failure: {by_kind(refs)} ({listing(refs)}).")
    if work is not None and work.engine.outcome.deleted:
        parts.append(f"Deleted before the failure: {listing(work.engine.outcome.deleted)}.")
    return " ".join(parts) or "Nothing was changed."
