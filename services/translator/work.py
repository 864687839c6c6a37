"""Everything that an operation of the translator works with, and the ports that it asks."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol, TypeAlias, TypedDict

from services.chassis.kube.objects import KubeObject
from services.chassis.messages import ClusterFacts, Command, Follow, FollowMode, Plan, Verb
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


class Kept(TypedDict):
    """Fields of a plan: what lifecycle keeps of its sources, and what it forgets."""

    follow: list[Follow]
    ends: list[str]


@dataclass(frozen=True, slots=True)
class Follows:
    """Which sources of a request are kept, so that their translation follows the cluster."""

    mode: FollowMode = FollowMode.APPLY
    """Of sources whose annotation says nothing."""
    most_sources: int = 100
    most_bytes: int = 256 * 1024

    def of(self, found: Sequence[Follow], command: Command, *, progress: Progress) -> Kept:
        """What becomes of a plan's sources; a request that is too large is told not to be kept."""
        sources = [follow.source for follow in found]
        if command.verb is Verb.DELETE:
            return Kept(follow=[], ends=sources)
        wanted = [
            follow.model_copy(update={"mode": follow.mode or self.mode.value}) for follow in found
        ]
        kept = [follow for follow in wanted if follow.mode != FollowMode.IGNORE]
        if len(kept) > self.most_sources or (kept and len(command.body) > self.most_bytes):
            progress.warn(
                "Not followed: the request is too large to be kept",
                f"It has {len(kept)} sources and {len(command.body)} characters; "
                f"{self.most_sources} and {self.most_bytes} are kept. Apply it again when Services "
                "or workloads change, or send it in parts",
            )
            kept = []
        names = {follow.source for follow in kept}
        return Kept(follow=kept, ends=[source for source in sources if source not in names])


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """One command in one attempt."""

    command: Command
    progress: Progress
    cluster: Cluster
    definitions: Definitions
    now: Callable[[], datetime]
    follows: Follows = field(default_factory=Follows)
    only: str = ""
    """The one source of the command's body that is translated again; "" for all of it."""


Outcome: TypeAlias = Plan | Result
"""A plan for lifecycle, or the end."""

Run: TypeAlias = Callable[[Work], Awaitable[Outcome]]


Operation: TypeAlias = running.Operation[Work, Outcome]
"""An operation that the translator offers."""
