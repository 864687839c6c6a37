"""What an operation works with: one command, one cluster, one story."""

from __future__ import annotations

from dataclasses import dataclass

from services.chassis.bus.leases import Fence
from services.chassis.kube.client import KubeClient
from services.chassis.kube.resources import Resources
from services.chassis.messages import Command
from services.lifecycle.engine import Engine
from services.lifecycle.inventory import Surveyor
from services.lifecycle.progress import Progress


@dataclass(slots=True)
class Connection:
    """One cluster through one credential."""

    client: KubeClient
    resources: Resources
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


@dataclass(frozen=True, slots=True)
class Result:
    """What a finished operation tells its caller."""

    summary: str
    details: str = ""
    numbers: tuple[tuple[str, float], ...] = ()
