"""Everything that an operation of the translator works with, and the ports that it asks."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol, TypeAlias

from services.chassis.kube.objects import KubeObject
from services.chassis.messages import ClusterFacts, Command, Plan
from services.chassis.operations import running
from services.chassis.operations.completion import Result
from services.chassis.operations.progress import Progress
from services.translator.definitions.schemas import Schemas


class Definitions(Protocol):
    """The definitions of Istio's kinds, by version."""

    def versions(self) -> list[str]:
        """Versions with a distribution, newest first."""
        ...

    async def schemas(self, version: str) -> Schemas:
        """Of a version of `versions()`; raises `SchemasMissing` for another one."""
        ...


class Cluster(Protocol):
    """The cluster of a command, as lifecycle sees it."""

    async def facts(
        self,
        *,
        namespaces: Sequence[str] = (),
        kinds: Sequence[str] = (),
        managed_kinds: Sequence[str] = (),
        planes: bool = False,
    ) -> ClusterFacts: ...

    async def dry_run(self, objects: Sequence[KubeObject]) -> list[str]: ...

    async def vetted(self) -> dict[str, Any]:
        """Topology's findings about the running cluster (`mesh.topology.vet`); raises
        `WorkerUnavailable` or `ClusterNotWatched` when topology does not watch it."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """One command in one attempt."""

    command: Command
    progress: Progress
    cluster: Cluster
    definitions: Definitions
    now: Callable[[], datetime]


Outcome: TypeAlias = Plan | Result
"""A plan for lifecycle, or the end."""

Run: TypeAlias = Callable[[Work], Awaitable[Outcome]]


Operation: TypeAlias = running.Operation[Work, Outcome]
"""An operation that the translator offers."""
