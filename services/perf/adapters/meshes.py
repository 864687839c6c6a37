"""The mesh of a command, through lifecycle: perf itself reaches no cluster."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from services.chassis.bus import subjects
from services.chassis.bus.connection import Bus
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

_ASK_WITHIN = timedelta(seconds=10)
_PUBLISH_WITHIN = timedelta(seconds=20)
_POLL_S = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class MeshOfCommand:
    """Implements `work.Mesh`.

    Reading uses the operation's own credential. A change is an operation of its own, and no
    operation may use another one's credential: it is made with that of the registered cluster.
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
            kinds=list(kinds),
        )
        answer = await ask(
            self.bus,
            question.model_dump(mode="json"),
            service="lifecycle",
            verb="facts",
            within=_ASK_WITHIN,
        )
        return ClusterFacts.model_validate(answer)

    async def apply(self, change: str, objects: Sequence[KubeObject]) -> None:
        await self._changed(change, objects, Verb.APPLY)

    async def delete(self, change: str, objects: Sequence[KubeObject]) -> None:
        await self._changed(change, objects, Verb.DELETE)

    async def _changed(self, change: str, objects: Sequence[KubeObject], verb: Verb) -> None:
        command = Command(
            operation=f"{self.command.operation}-{change}",
            kind="manifest",
            verb=verb,
            cluster=self.command.cluster,
            cluster_name=self.command.cluster_name,
            namespace=self.command.namespace,
            username=self.command.username,
            body=dump_manifest(objects),
            deadline=datetime.now(timezone.utc) + self.within,
        )
        with contextlib.suppress(ClusterBusy):  # its own: an earlier attempt has queued it
            await self.publisher.command(
                command, service="lifecycle", slot=SlotKind.APPLY, within=_PUBLISH_WITHIN
            )
        record = await self._ended(command)
        if record.state is not OperationState.SUCCEEDED and record.error is not None:
            raise record.error.error()

    async def _ended(self, command: Command) -> OperationRecord:
        key = subjects.operation_key(command.operation, command.cluster)
        while True:
            stored = await self.records.get(key)
            if stored is not None and stored[0].state.is_terminal:
                return stored[0]
            if command.deadline <= datetime.now(timezone.utc):
                raise DeadlineExpired(f"lifecycle did not end {command.operation} in time")
            await asyncio.sleep(_POLL_S)
