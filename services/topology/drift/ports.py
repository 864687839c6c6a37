"""What the drift of a cluster needs of the world outside."""

from __future__ import annotations

from typing import Protocol

from services.chassis.bus.intents import AppliedObject
from services.chassis.kube.objects import KubeObject
from services.topology.cluster.objects import Key


class Intents(Protocol):
    """What lifecycle keeps, straight from the bus."""

    async def read(self, cluster: str, key: Key) -> AppliedObject | None:
        """None when there is none, or it was forgotten."""
        ...


class Objects(Protocol):
    """The cluster's objects as they are now."""

    async def read(self, key: Key) -> KubeObject | None:
        """With its managed fields; None when it, or its whole kind, is not there."""
        ...


class Healer(Protocol):
    """Puts an object back through lifecycle."""

    async def heal(self, cluster: str, intent: AppliedObject, body: KubeObject) -> str:
        """Asks for it, and returns the operation's id at once."""
        ...
