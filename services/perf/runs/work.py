"""The tools of an operation of perf: its command, its progress, and the mesh under test."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import TypeAlias

from services.chassis.bus import subjects
from services.chassis.bus.connection import Bus
from services.chassis.bus.leases import Fence
from services.chassis.bus.publishing import Publisher
from services.chassis.bus.queries import ask
from services.chassis.bus.records import Records
from services.chassis.errors import ClusterBusy, DeadlineExpired
from services.chassis.kube.manifests import dump_manifest
from services.chassis.kube.objects import KubeObject
from services.chassis.messages import (
    ClusterFacts,
    Command,
    FactsQuestion,
    OperationRecord,
    OperationState,
    SlotKind,
    Verb,
)
from services.chassis.operations import running
from services.chassis.operations.completion import Result
from services.chassis.operations.progress import Progress

_ASK_WITHIN = timedelta(seconds=10)
_PUBLISH_WITHIN = timedelta(seconds=20)
_POLL_S = 0.05
NO_CLUSTER = "none"
"""In a subject, in the place of the cluster of a run that is about none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mesh:
    """The cluster of a command, through lifecycle: perf itself reaches no cluster.

    Both reading and a change use the operation's own credential. A change is an operation of its
    own, in the name of the gate: it carries the gateway's grant for the gate, and the body that the
    grant is about, which names what may be changed.
    """

    bus: Bus
    publisher: Publisher
    records: Records[OperationRecord]
    command: Command
    within: timedelta
    """How long a change may take."""

    async def facts(self, *, kinds: Sequence[str] = ()) -> ClusterFacts:
        question = FactsQuestion(
            cluster=self.command.cluster,
            operation=self.command.operation,
            credential=self.command.credential,
            grant=self.command.grant,
            kinds=list(kinds),
        )
        answer = await ask(
            self.bus,
            question.model_dump(mode="json"),
            service="lifecycle",
            verb="facts",
            within=_ASK_WITHIN,
            region=self.command.region,
        )
        return ClusterFacts.model_validate(answer)

    async def apply(self, change: str, objects: Sequence[KubeObject]) -> None:
        """Applies through lifecycle and waits for its end; raises its error.

        `change` names the change within the operation: asked for again, it happens once.
        """
        await self._run(change, objects, Verb.APPLY)

    async def delete(self, change: str, objects: Sequence[KubeObject]) -> None:
        """The same for a deletion."""
        await self._run(change, objects, Verb.DELETE)

    async def _run(self, change: str, objects: Sequence[KubeObject], verb: Verb) -> None:
        command = Command(
            operation=f"{self.command.operation}-{change}",
            kind="manifest",
            verb=verb,
            cluster=self.command.cluster,
            cluster_name=self.command.cluster_name,
            namespace=self.command.namespace,
            username=self.command.username,
            body=dump_manifest(objects),
            region=self.command.region,
            credential=self.command.credential,
            grant=self.command.grant,
            asked=self.command.body,
            deadline=datetime.now(timezone.utc) + self.within,
        )
        with contextlib.suppress(ClusterBusy):  # its own: an earlier attempt has queued it
            await self.publisher.command(
                command,
                service="lifecycle",
                slot=SlotKind.APPLY,
                within=_PUBLISH_WITHIN,
                sender="perf",
                region=command.region,
            )
        record = await self._wait_for(command)
        if record.state is not OperationState.SUCCEEDED and record.error is not None:
            raise record.error.error()

    async def _wait_for(self, command: Command) -> OperationRecord:
        key = subjects.operation_key(command.operation, command.cluster)
        while True:
            stored = await self.records.get(key)
            if stored is not None and stored[0].state.is_terminal:
                return stored[0]
            if command.deadline <= datetime.now(timezone.utc):
                raise DeadlineExpired(f"lifecycle did not end {command.operation} in time")
            await asyncio.sleep(_POLL_S)


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """One command in one attempt."""

    command: Command
    progress: Progress
    fence: Fence
    mesh: Mesh | None
    """None for a run that is about no cluster."""

    @property
    def run(self) -> str:
        """Id of its run, or of its gate."""
        return run_of(self.command)

    @property
    def place(self) -> str:
        """Completes a summary."""
        name = self.command.cluster_name or self.command.cluster
        return f" on {name}" if self.mesh is not None else ""

    def note(self, summary: str, details: str = "") -> None:
        """An event on the way, with the cluster's name."""
        self.progress.note(f"{summary}{self.place}", details)

    def warn(self, summary: str) -> None:
        """The same as a warning."""
        self.progress.warn(f"{summary}{self.place}")


Operation: TypeAlias = running.Operation[Work, Result]
"""An operation that perf offers."""


def run_of(command: Command) -> str:
    """Id of a command's run. Meshery sends one operation to several clusters: each is a run."""
    if command.cluster == NO_CLUSTER:
        return command.operation
    return f"{command.operation}-{command.cluster[:12]}"
