"""What an operation works with: one command, one cluster, one story."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field

from services.chassis.bus.leases import Fence
from services.chassis.kube.client import KubeClient
from services.chassis.kube.resources import Resources
from services.chassis.messages import AdvertisedOperation, Command, MeshFact
from services.chassis.operations.endings import Result
from services.chassis.operations.progress import Progress
from services.lifecycle.engine import Engine
from services.lifecycle.inventory import Surveyor

__all__ = ["Connection", "Operation", "Result", "Run", "Work"]


@dataclass(slots=True)
class Connection:
    """One cluster through one credential."""

    client: KubeClient
    resources: Resources
    served: dict[str, list[str]] = field(default_factory=dict)
    """Versions by kind, as in `ClusterFacts`, when the cluster was last surveyed."""
    meshes: list[MeshFact] = field(default_factory=list)
    """The installed revisions at that time."""
    surveyed: float = float("-inf")
    """When that was, in the loop's time."""
    _uid: str = ""

    async def identity(self) -> str:
        """The cluster's own identity, whatever its address: the UID of kube-system."""
        if not self._uid:
            namespace = await self.client.get(
                "/api/v1/namespaces/kube-system", subject="Namespace kube-system"
            )
            self._uid = str(namespace["metadata"]["uid"])
        return self._uid


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """One command on one cluster, in one attempt."""

    command: Command
    client: KubeClient
    resources: Resources
    engine: Engine
    surveyor: Surveyor
    fence: Fence
    progress: Progress
    mesh: Callable[[], AbstractAsyncContextManager[None]]
    """Holds the cluster's mesh for a block; raises `ClusterBusy` when another operation does."""


Run = Callable[[Work], Awaitable[Result]]
"""Carries one operation out on one cluster."""


@dataclass(frozen=True, slots=True)
class Operation:
    """An operation that this worker offers."""

    advertised: AdvertisedOperation
    run: Run
