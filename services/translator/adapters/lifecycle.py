"""The cluster of a command, asked through lifecycle and topology."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

from services.chassis.bus.connection import Bus
from services.chassis.bus.queries import ask
from services.chassis.errors import BusUnavailable, DeadlineExpired, WorkerUnavailable
from services.chassis.kube.objects import KubeObject
from services.chassis.messages import ClusterFacts, Command, DryRunQuestion, FactsQuestion
from services.chassis.operations.progress import Progress

_PAUSE_S = 0.5


@dataclass(slots=True)
class ClusterOfCommand:
    """Asks again while lifecycle is away, until the command's deadline."""

    bus: Bus
    command: Command
    within: timedelta
    progress: Progress | None = None
    """Gets an event when the answer has to wait; None for a question, which does not wait."""
    _is_announced: bool = False

    async def facts(
        self,
        *,
        namespaces: Sequence[str] = (),
        kinds: Sequence[str] = (),
        managed_kinds: Sequence[str] = (),
        planes: bool = False,
    ) -> ClusterFacts:
        """Facts about the cluster; objects of the kinds only in `namespaces`, if any are named."""
        question = FactsQuestion(
            cluster=self.command.cluster,
            operation=self.command.operation,
            credential=self.command.credential,
            grant=self.command.grant,
            namespaces=list(namespaces),
            kinds=list(kinds),
            managed_kinds=list(managed_kinds),
            planes=planes,
        )
        answer = await self._ask("facts", question.model_dump(mode="json"))
        return ClusterFacts.model_validate(answer)

    async def dry_run(self, objects: Sequence[KubeObject]) -> list[str]:
        """The API server's refusal of each object; "" for an object that it accepts."""
        question = DryRunQuestion(
            cluster=self.command.cluster,
            operation=self.command.operation,
            credential=self.command.credential,
            grant=self.command.grant,
            objects=list(objects),
        )
        answer = await self._ask("dryrun", question.model_dump(mode="json"))
        return [str(refusal) for refusal in answer["refusals"]]

    async def vetted(self) -> dict[str, Any]:
        """Topology's findings about the running cluster; raises at once when topology is away."""
        answer: dict[str, Any] = await ask(
            self.bus,
            {"cluster": self.command.cluster},
            service="topology",
            verb="vet",
            within=self.within,
        )
        return answer

    async def _ask(self, verb: str, question: dict[str, Any]) -> Any:
        while True:
            try:
                return await ask(
                    self.bus,
                    question,
                    service="lifecycle",
                    verb=verb,
                    within=self.within,
                    region=self.command.region,
                )
            except (WorkerUnavailable, BusUnavailable) as error:
                if self.progress is None:
                    raise
                if self.command.deadline <= datetime.now(timezone.utc):
                    raise DeadlineExpired(f"{error.summary} before the deadline") from None
                if not self._is_announced:
                    self.progress.warn(f"Waiting: {error.summary}", error.remedy)
                    self._is_announced = True
            await asyncio.sleep(_PAUSE_S)
