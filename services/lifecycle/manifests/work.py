"""An operation's work: one command, one cluster, and the progress that it reports."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from services.chassis.bus.leases import Fence
from services.chassis.messages import Command
from services.chassis.operations import running
from services.chassis.operations.completion import Parked, Result
from services.chassis.operations.progress import Progress
from services.lifecycle.cluster.connections import Connection
from services.lifecycle.manifests.engine import Engine


class Reach(Protocol):
    """Waits for the cluster and for a slot, and holds it for a block, with the mesh's lease."""

    def __call__(self, *, is_mesh: bool) -> AbstractAsyncContextManager[None]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """One command on one cluster, in one attempt."""

    command: Command
    cluster: Connection
    engine: Engine
    fence: Fence
    progress: Progress
    mesh_lease: Callable[[], AbstractAsyncContextManager[None]]
    """Holds the cluster's mesh for a block; raises `ClusterBusy` when another operation does."""
    reach: Reach
    """For an operation that mostly waits: every other one has its cluster and its slot already."""


Operation: TypeAlias = running.Operation[Work, Result]
"""An operation that lifecycle offers."""
Waiting: TypeAlias = running.Operation[Work, Result | Parked]
"""One that may wait for something else, with its command put aside."""
