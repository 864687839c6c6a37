"""Registered clusters, as far as people ask the gateway about them.

Lifecycle registers them, since it alone sees a credential work (`lifecycle/cluster`). The gateway
may not write what stands here: whoever took it over could put a kubeconfig of their own in the
place of one that works.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from services.chassis.bus.records import Records
from services.chassis.messages import ClusterRecord

Ask = Callable[[str, dict[str, Any]], Awaitable[Any]]
"""Asks lifecycle: a verb and its question."""


@dataclass(frozen=True, slots=True)
class Registrations:
    """The bucket `clusters`, and lifecycle behind it."""

    clusters: Records[ClusterRecord]
    ask: Ask

    async def deregister(self, cluster: str) -> bool:
        """Has registration and credential deleted; False when the cluster was not registered."""
        answer = await self.ask("deregister", {"cluster": cluster})
        return bool(answer["deregistered"])

    async def listed(self) -> list[ClusterRecord]:
        """All registered clusters."""
        keys = await self.clusters.bucket.keys()
        found = await asyncio.gather(*(self.clusters.get(key) for key in keys))
        return [entry[0] for entry in found if entry is not None]
