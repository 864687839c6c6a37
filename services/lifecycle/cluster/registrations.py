"""Registered clusters: their sealed kubeconfigs outlive operations, so that they can be watched.

A cluster is registered by whoever has opened its credential and seen it work. Nobody before could
tell a credential from a made-up one: a cluster's token is a hash of its address and its authority,
both of which are public.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

import structlog

from services.chassis.bus.credentials import Sealer
from services.chassis.bus.records import Records
from services.chassis.bus.subjects import registered_credential
from services.chassis.errors import QuotaExceeded
from services.chassis.kube.kubeconfigs import Kubeconfig
from services.chassis.messages import ClusterRecord

_LONGEST_NAME = 128

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Registrations:
    """The buckets `clusters` and `credentials`, as far as registered clusters go."""

    clusters: Records[ClusterRecord]
    sealer: Sealer
    most_of_identity: int
    """Clusters that one identity may have registered."""
    is_on: bool = True
    """False where operations register no cluster."""

    async def is_with(self, cluster: str, digest: str) -> bool:
        """Whether the cluster is registered with the kubeconfig of this digest, sealed to the keys
        of now: after a key was changed its next use seals it anew."""
        return self._is_as_it_should(await self._stored(cluster), digest)

    async def keep(
        self,
        config: Kubeconfig,
        *,
        text: str,
        digest: str,
        identity: str,
        labels: Mapping[str, str],
    ) -> None:
        """Registers the cluster of a kubeconfig that has authenticated, unless it is already.

        Another credential that was registered before is replaced: this one is known to work now.
        Raises `QuotaExceeded` when the identity has as many clusters as it may.
        """
        cluster = config.cluster
        stored = await self._stored(cluster) if self.is_on else None
        is_kept = self._is_as_it_should(stored, digest)
        if not self.is_on or (is_kept and stored is not None and stored.labels == labels):
            return
        if stored is not None and stored.credential == digest:
            # The same, to be sealed to another key: it stays whose it was.
            identity = stored.identity
        elif stored is None or stored.identity != identity:
            await self._require_room(cluster, identity)
        record = ClusterRecord(
            cluster=cluster,
            name=config.context[:_LONGEST_NAME],
            server=config.server,
            credential=digest,
            identity=identity,
            sealed_to=self.sealer.sealed_to,
            labels=dict(labels),
            has_reader=stored is not None and stored.has_reader,
        )
        # The credential first: whoever sees the registration finds it.
        if record.has_reader:
            await self.sealer.put(registered_credential(cluster), text, ttl=None)
        else:
            await self.sealer.register(cluster, text)
        await self.clusters.put(cluster, record)
        log.info("cluster_registered", cluster=cluster, name=record.name, identity=identity)

    def _is_as_it_should(self, stored: ClusterRecord | None, digest: str) -> bool:
        return (
            stored is not None
            and stored.credential == digest
            and stored.sealed_to == self.sealer.sealed_to
        )

    async def forget(self, cluster: str) -> bool:
        """Deletes registration and credential; False when the cluster was not registered."""
        known = await self._stored(cluster) is not None
        await asyncio.gather(self.clusters.bucket.delete(cluster), self.sealer.deregister(cluster))
        log.info("cluster_deregistered", cluster=cluster)
        return known

    async def _require_room(self, cluster: str, identity: str) -> None:
        """Whoever runs an API server of their own accepts their own credential, as often as they
        like: that a cluster is there proves nothing about who wants it watched."""
        keys = await self.clusters.bucket.keys()
        others = await asyncio.gather(*(self._stored(key) for key in keys if key != cluster))
        owned = sum(record.identity == identity for record in others if record is not None)
        if owned >= self.most_of_identity:
            raise QuotaExceeded(
                f"{identity} has {owned} clusters registered, as many as one may",
                cause="this cluster is one more, so it is not kept for watching",
                remedy="deregister one that is not needed (`nats req mesh.gateway.deregister`), or "
                "raise MESHBUS_LIFECYCLE_CLUSTERS_PER_IDENTITY",
                subject=identity,
            )

    async def _stored(self, cluster: str) -> ClusterRecord | None:
        try:
            stored = await self.clusters.get(cluster)
        except ValueError:
            # Of another version of ours; it is written anew.
            return None
        return stored[0] if stored is not None else None
