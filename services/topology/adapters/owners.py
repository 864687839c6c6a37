"""Which clusters there are, and which of them this process watches.

Every registered cluster is tended by one task here: it tries for the cluster's lease, watches while
it holds it, and follows the owner's feed while it does not. A process that stops gives its leases
back, so that a replica takes over within a renewal; one that dies is taken over when they expire.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta

import structlog
from nats.aio.msg import Msg

from services.chassis.bus.connection import Bus
from services.chassis.bus.leases import Fence, Leases
from services.chassis.bus.records import Records
from services.chassis.errors import ClusterBusy, LeaseLost, MeshbusError
from services.chassis.messages import ClusterRecord
from services.chassis.telemetry.metrics import CLUSTERS_OWNED, Metrics
from services.topology.adapters.feeds import Feed
from services.topology.adapters.mirrors import follow
from services.topology.feeds import INFO_PART, Item
from services.topology.observing import INFO_ID, UNREACHABLE
from services.topology.views import Views

_LOOK_EVERY_S = 30.0
_STORED_AFTER_S = 0.25
_AFTER_FAILURE_S = 5.0
_LOOK_AGAIN_S = 1.0

Observe = Callable[[ClusterRecord, Feed], Awaitable[None]]
"""Watches a cluster and tells its feed, until it is cancelled."""
Fingerprint = Callable[[str], Awaitable[str]]
"""Tells one credential of a registered cluster from the next."""

log = structlog.get_logger(__name__)


@dataclass(slots=True, kw_only=True)
class Owners:
    """All registered clusters, as far as this process goes."""

    bus: Bus
    views: Views
    leases: Leases
    clusters: Records[ClusterRecord]
    observe: Observe
    fingerprint: Fingerprint
    allowance: timedelta
    """How long a lease outlives its last renewal."""
    most: int
    metrics: Metrics
    _tasks: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    _credentials: dict[str, str] = field(default_factory=dict)
    _owned: set[str] = field(default_factory=set)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def owned(self) -> frozenset[str]:
        """Tokens of the clusters that this process watches."""
        return frozenset(self._owned)

    async def run(self) -> None:
        """Tends what is registered, until it is cancelled."""
        forget = self.bus.on_reconnect(self._changed.set)
        subscription = await self.bus.client.subscribe("$KV.clusters.>", cb=self._notice)
        try:
            while True:
                self._changed.clear()
                await self._survey()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_LOOK_EVERY_S):
                        await self._changed.wait()
        finally:
            forget()
            for task in self._tasks.values():
                task.cancel()
            await asyncio.gather(*self._tasks.values(), return_exceptions=True)
            if not self.bus.client.is_closed:
                await subscription.unsubscribe()

    async def _notice(self, _message: Msg) -> None:
        self._changed.set()
        # Subscribers may have a message before the stream does: one more look finds it.
        asyncio.get_running_loop().call_later(_STORED_AFTER_S, self._changed.set)

    async def _survey(self) -> None:
        try:
            keys = await self.clusters.bucket.keys()
            found = await asyncio.gather(*(self.clusters.get(key) for key in keys))
        except MeshbusError as error:
            log.warning("clusters_unread", reason=error.summary)
            return
        records = {entry[0].cluster: entry[0] for entry in found if entry is not None}
        for cluster in self._tasks.keys() - records.keys():
            await self._end(cluster)
            self.views.forget(cluster)
            log.info("cluster_left", cluster=cluster)
        for record in records.values():
            await self._attend(record)

    async def _attend(self, record: ClusterRecord) -> None:
        """Tends a cluster, anew when it was registered with another credential."""
        cluster = record.cluster
        try:
            credential = await self.fingerprint(cluster)
        except MeshbusError:
            # Whoever owns the cluster will say so.
            credential = self._credentials.get(cluster, "")
        if cluster in self._tasks and self._credentials[cluster] != credential:
            await self._end(cluster)
        self._credentials[cluster] = credential
        if cluster not in self._tasks:
            self._tasks[cluster] = asyncio.create_task(self._tend(record), name=f"tend-{cluster}")

    async def _end(self, cluster: str) -> None:
        task = self._tasks.pop(cluster)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def _tend(self, record: ClusterRecord) -> None:
        """Owns the cluster, or follows whoever does."""
        cluster = record.cluster
        while True:
            fence = Fence(self.allowance)
            try:
                if len(self._owned) >= self.most:
                    raise ClusterBusy("this process watches as many clusters as it may")
                await self._own(record, fence)
            except ClusterBusy:
                async with self._following(cluster):
                    await self._until_free(cluster)
            except LeaseLost as error:
                log.warning("cluster_lost", cluster=cluster, reason=error.summary)
            except MeshbusError as error:
                log.warning("cluster_not_watched", cluster=cluster, reason=error.summary)
                await asyncio.sleep(_AFTER_FAILURE_S)

    async def _own(self, record: ClusterRecord, fence: Fence) -> None:
        cluster = record.cluster
        key, worker = f"watch.{cluster}", self.leases.worker
        async with self.leases.held(key, operation=worker, attempt=1, fence=fence) as epoch:
            self._owned.add(cluster)
            self.metrics.add(CLUSTERS_OWNED, 1)
            log.info("cluster_owned", cluster=cluster, name=record.name, epoch=epoch)
            try:
                feed = await Feed.take(
                    self.bus,
                    self.views,
                    cluster=cluster,
                    epoch=epoch,
                    fence=fence,
                    counted=self.metrics,
                )
                await fence.guard(self._observed(record, feed))
            finally:
                self._owned.discard(cluster)
                self.metrics.add(CLUSTERS_OWNED, -1)

    async def _observed(self, record: ClusterRecord, feed: Feed) -> None:
        """Over failures, which the feed tells: an owner that cannot reach a cluster stays owner."""
        told = ""
        while True:
            try:
                await self.observe(record, feed)
            except LeaseLost:
                raise
            except MeshbusError as error:
                if error.summary != told:
                    told = error.summary
                    log.warning("cluster_unwatchable", cluster=record.cluster, reason=told)
                    feed.fill({INFO_PART: {INFO_ID: _unreachable(record, told)}})
                    await feed.begin()
                await asyncio.sleep(_AFTER_FAILURE_S)

    async def _until_free(self, cluster: str) -> None:
        """Until the lease has gone: an expired one goes without a word."""
        while True:
            await asyncio.sleep(_LOOK_AGAIN_S)
            entry = await self.leases.bucket.get(f"watch.{cluster}")
            if entry is None and len(self._owned) < self.most:
                return

    @asynccontextmanager
    async def _following(self, cluster: str) -> AsyncIterator[None]:
        task = asyncio.create_task(
            follow(self.bus, self.views, cluster=cluster), name=f"follow-{cluster}"
        )
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def _unreachable(record: ClusterRecord, reason: str) -> Item:
    return {
        "cluster": record.cluster,
        "name": record.name,
        "state": UNREACHABLE,
        "detail": reason,
        "refused": [],
        "telemetry": {},
    }
