"""Registered clusters: their sealed kubeconfigs outlive operations, so that they can be watched.

Registering on first use is a setting. It runs beside the answer: an operation needs none of it.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import structlog
from cachetools import LRUCache

from services.chassis.bus import subjects
from services.chassis.bus.credentials import Sealer
from services.chassis.bus.records import Records
from services.chassis.messages import ClusterRecord
from services.gateway.intake import Target

_MOST_REMEMBERED = 10_000

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Registrations:
    """The buckets `clusters` and `credentials`, as far as registered clusters go."""

    clusters: Records[ClusterRecord]
    sealer: Sealer
    _written: LRUCache[str, str] = field(default_factory=lambda: LRUCache(maxsize=_MOST_REMEMBERED))
    """Digest of the kubeconfig that this process stored, by cluster."""

    def is_new(self, target: Target) -> bool:
        """Whether this process has not stored this very kubeconfig yet."""
        return self._written.get(target.cluster) != target.digest

    async def register(self, target: Target) -> None:
        """Stores the cluster and its credential; a later one replaces an earlier one."""
        self._written[target.cluster] = target.digest
        try:
            await self._store(target)
        except BaseException:
            # The next operation on the cluster tries again.
            self._written.pop(target.cluster, None)
            raise
        log.info("cluster_registered", cluster=target.cluster, name=target.name)

    async def deregister(self, cluster: str) -> bool:
        """Deletes registration and credential; False when the cluster was not registered."""
        key = subjects.token(cluster)
        known = await self.clusters.bucket.get(key) is not None
        await asyncio.gather(self.clusters.bucket.delete(key), self.sealer.deregister(key))
        self._written.pop(cluster, None)
        log.info("cluster_deregistered", cluster=key)
        return known

    async def listed(self) -> list[ClusterRecord]:
        """All registered clusters."""
        keys = await self.clusters.bucket.keys()
        found = await asyncio.gather(*(self.clusters.get(key) for key in keys))
        return [entry[0] for entry in found if entry is not None]

    async def _store(self, target: Target) -> None:
        config = target.config
        record = ClusterRecord(cluster=target.cluster, name=target.name, server=config.server)
        # The credential first: whoever sees the registration finds it.
        await self.sealer.register(target.cluster, target.text)
        await self.clusters.put(target.cluster, record)
