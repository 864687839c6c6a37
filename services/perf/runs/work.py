"""What an operation of perf works with: one command, its story, and the mesh it is about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from services.chassis.bus.leases import Fence
from services.chassis.kube.objects import KubeObject
from services.chassis.messages import ClusterFacts, Command
from services.chassis.operations import running
from services.chassis.operations.completion import Result
from services.chassis.operations.progress import Progress

NO_CLUSTER = "none"
"""In a subject, in the place of the cluster of a run that is about none."""


class Mesh(Protocol):
    """The cluster of a command, as lifecycle sees and changes it."""

    async def facts(self, *, kinds: Sequence[str] = ()) -> ClusterFacts: ...

    async def apply(self, change: str, objects: Sequence[KubeObject]) -> None:
        """Applies through lifecycle and waits for its end; raises its error.

        `change` names the change within the operation: asked for again, it happens once.
        """

    async def delete(self, change: str, objects: Sequence[KubeObject]) -> None:
        """The same for a deletion."""


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


Operation: TypeAlias = running.Operation[Work, Result]
"""An operation that perf offers."""


def run_of(command: Command) -> str:
    """Id of a command's run. Meshery sends one operation to several clusters: each is a run."""
    if command.cluster == NO_CLUSTER:
        return command.operation
    return f"{command.operation}-{command.cluster[:12]}"
