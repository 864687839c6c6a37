"""Registered clusters: their sealed kubeconfigs outlive operations, so that they can be watched.

A cluster is registered by whoever has opened its credential and seen it work. Nobody before could
tell a credential from a made-up one: a cluster's token is a hash of its address and its authority,
both of which are public.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import structlog

from services.chassis.bus.credentials import Sealer
from services.chassis.bus.records import Records
from services.chassis.kube.kubeconfigs import Kubeconfig
from services.chassis.messages import ClusterRecord

_LONGEST_NAME = 128

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Registrations:
    """The buckets `clusters` and `credentials`, as far as registered clusters go."""

    clusters: Records[ClusterRecord]
    sealer: Sealer
    is_on: bool = True
    """False where operations register no cluster."""

    async def is_with(self, cluster: str, digest: str) -> bool:
        """Whether the cluster is registered with the kubeconfig of this digest, sealed to the keys
        of now: after a key was changed its next use seals it anew."""
        stored = await self._stored(cluster)
        return (
            stored is not None
            and stored.credential == digest
            and stored.sealed_to == self.sealer.sealed_to
        )

    async def keep(self, config: Kubeconfig, *, text: str, digest: str) -> None:
        """Registers the cluster of a kubeconfig that has authenticated, unless it is already.

        Another credential that was registered before is replaced: this one is known to work now.
        """
        cluster = config.cluster
        if not self.is_on or await self.is_with(cluster, digest):
            return
        record = ClusterRecord(
            cluster=cluster,
            name=config.context[:_LONGEST_NAME],
            server=config.server,
            credential=digest,
            sealed_to=self.sealer.sealed_to,
        )
        # The credential first: whoever sees the registration finds it.
        await self.sealer.register(cluster, text)
        await self.clusters.put(cluster, record)
        log.info("cluster_registered", cluster=cluster, name=record.name)

    async def forget(self, cluster: str) -> bool:
        """Deletes registration and credential; False when the cluster was not registered."""
        known = await self._stored(cluster) is not None
        await asyncio.gather(self.clusters.bucket.delete(cluster), self.sealer.deregister(cluster))
        log.info("cluster_deregistered", cluster=cluster)
        return known

    async def _stored(self, cluster: str) -> ClusterRecord | None:
        try:
            stored = await self.clusters.get(cluster)
        except ValueError:
            # Of another version of ours; it is written anew.
            return None
        return stored[0] if stored is not None else None
