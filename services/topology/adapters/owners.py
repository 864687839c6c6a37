"""The registered clusters, and the leases on those that this process watches.

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
from services.chassis.errors import (
    BusUnavailable,
    ClusterBusy,
    InternalError,
    LeaseLost,
    MeshbusError,
)
from services.chassis.messages import ClusterRecord
from services.chassis.telemetry.metrics import CLUSTERS_LEFT, CLUSTERS_OWNED, Metrics
from services.topology.adapters.feeds import Feed, follow
from services.topology.feed.deltas import INFO_PART, Item
from services.topology.feed.views import ClusterView, Views
from services.topology.observing import INFO_ID, UNREACHABLE, UNWATCHED

_LOOK_EVERY_S = 30.0
_STORED_AFTER_S = 0.25
_AFTER_FAILURE_S = 5.0
_AFTER_DEFECT_S = 30.0
"""A defect of ours mostly meets the same object again, and each try lists the whole cluster."""
_LOOK_AGAIN_S = 1.0
_LEFT_AFTER_LOOKS = 3
"""So often a cluster is found without an owner, while here is no room, before that is told."""
_MOST_TRIED = 2
"""Clusters that are tried at a time, reached or not, as a multiple of those that are watched."""

Observe = Callable[[ClusterRecord, Feed], Awaitable[None]]
"""Watches a cluster and publishes its feed, until it is cancelled."""
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
    _left: set[str] = field(default_factory=set)
    """Clusters that nobody watches, since every replica is full."""
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def owned(self) -> frozenset[str]:
        """Tokens of the clusters that this process watches, or tries to."""
        return frozenset(self._owned)

    async def run(self) -> None:
        """Owns or follows the registered clusters, until it is cancelled."""
        forget = self.bus.on_reconnect(self._changed.set)
        subscription = await self.bus.client.subscribe("$KV.clusters.>", cb=self._notice)
        try:
            while True:
                self._changed.clear()
                try:
                    await self._survey()
                except Exception:
                    # Whatever it was: the clusters that are tended already must stay so.
                    log.exception("survey_failed")
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
            found = await asyncio.gather(*(self._record(key) for key in keys))
        except MeshbusError as error:
            log.warning("clusters_unread", reason=error.summary)
            return
        records = {record.cluster: record for record in found if record is not None}
        for cluster in self._tasks.keys() - records.keys():
            await self._end(cluster)
            self._credentials.pop(cluster, None)
            self.views.forget(cluster)
            log.info("cluster_left", cluster=cluster)
        for record in records.values():
            await self._attend(record)

    async def _record(self, key: str) -> ClusterRecord | None:
        try:
            entry = await self.clusters.get(key)
        except ValueError:
            # Of another version of ours; the other clusters are tended all the same.
            log.warning("cluster_unreadable", key=key)
            return None
        return entry[0] if entry is not None else None

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
        """Owns the cluster, or follows its owner, until it is cancelled."""
        cluster = record.cluster
        while True:
            try:
                await self._own_or_follow(record)
            except LeaseLost as error:
                log.warning("cluster_lost", cluster=cluster, reason=error.summary)
            except MeshbusError as error:
                log.warning("cluster_not_watched", cluster=cluster, reason=error.summary)
                await asyncio.sleep(_AFTER_FAILURE_S)
            except Exception:
                log.exception("tending_failed", cluster=cluster)
                await asyncio.sleep(_AFTER_DEFECT_S)

    async def _own_or_follow(self, record: ClusterRecord) -> None:
        try:
            await self._own(record, Fence(self.allowance))
        except ClusterBusy:
            async with self._following(record.cluster):
                await self._until_free(record)

    async def _own(self, record: ClusterRecord, fence: Fence) -> None:
        cluster = record.cluster
        if not self._has_room_for(cluster):
            raise ClusterBusy("this process watches as many clusters as it may")
        # Before the lease is there: at the start all clusters are tried at once.
        self._owned.add(cluster)
        key, worker = f"watch.{cluster}", self.leases.worker
        try:
            async with self.leases.held(key, operation=worker, attempt=1, fence=fence) as epoch:
                log.info("cluster_owned", cluster=cluster, name=record.name, epoch=epoch)
                await self._publish_as_owner(record, fence, epoch)
        finally:
            self._owned.discard(cluster)

    async def _publish_as_owner(self, record: ClusterRecord, fence: Fence, epoch: int) -> None:
        self.metrics.add(CLUSTERS_OWNED, 1)
        try:
            feed = await Feed.take(
                self.bus,
                self.views,
                cluster=record.cluster,
                epoch=epoch,
                fence=fence,
                counted=self.metrics,
            )
            await fence.guard(self._observe_over_failures(record, feed))
        finally:
            self.metrics.add(CLUSTERS_OWNED, -1)

    async def _observe_over_failures(self, record: ClusterRecord, feed: Feed) -> None:
        """Watches again after failures, which it publishes: the owner of a cluster that cannot be
        reached stays its owner."""
        known, shown = "", None
        while True:
            pause = _AFTER_FAILURE_S
            if not self._has_room_for(record.cluster):
                # It could not be reached when others came. Another replica may have room.
                raise ClusterBusy("this process watches as many other clusters as it may")
            try:
                await self.observe(record, feed)
                continue
            except (LeaseLost, BusUnavailable):
                # Of the bus, and not of the cluster.
                raise
            except MeshbusError as error:
                reason = error.summary
            except Exception:
                log.exception("watching_failed", cluster=record.cluster)
                reason, pause = InternalError("the watching failed").summary, _AFTER_DEFECT_S
            feed.discard_filled()
            # The same reason is news when the cluster was watched in between.
            if reason != known or feed.view is not shown:
                log.warning("cluster_unwatchable", cluster=record.cluster, reason=reason)
                shown = await _publish_blank(feed, record, state=UNREACHABLE, reason=reason)
                known = reason
            await asyncio.sleep(pause)

    async def _until_free(self, record: ClusterRecord) -> None:
        """Polls until the lease is free, and here is room: an expired one goes without an event.

        A cluster that nobody takes, since all replicas are full, is told to be without a watch.
        """
        cluster, unowned = record.cluster, 0
        try:
            while True:
                await asyncio.sleep(_LOOK_AGAIN_S)
                entry = await self.leases.bucket.get(f"watch.{cluster}")
                if entry is None and self._has_room_for(cluster):
                    return
                unowned = unowned + 1 if entry is None else 0
                if unowned == _LEFT_AFTER_LOOKS:
                    await self._leave(record)
                elif entry is not None:
                    self._is_left(cluster, False)
        finally:
            self._is_left(cluster, False)

    def _has_room_for(self, cluster: str) -> bool:
        """Whether one more cluster may be watched here.

        Those that were never reached cost nothing, and do not keep out those that are there: of
        all that are tried, as many places as are watched stay free of them.
        """
        others = [other for other in self._owned if other != cluster]
        blank = [other for other in others if self._is_blank(other)]
        most_blank = self.most * (_MOST_TRIED - 1)
        if self._is_blank(cluster) and len(blank) >= most_blank:
            return False
        return len(others) - len(blank) < self.most and len(others) < self.most * _MOST_TRIED

    def _is_blank(self, cluster: str) -> bool:
        """Whether its view tells nothing but that it cannot be reached."""
        view = self.views.view(cluster)
        return view is not None and set(view.parts) == {INFO_PART} and _has_state(view, UNREACHABLE)

    async def _leave(self, record: ClusterRecord) -> None:
        """Publishes that nobody watches the cluster, for which its lease is held for a moment."""
        cluster = record.cluster
        if not _has_state(self.views.view(cluster), UNWATCHED):
            reason = (
                f"every topology worker watches as many clusters as it may ({self.most} here): "
                "start one more, raise MESHBUS_TOPOLOGY_MOST_CLUSTERS, or deregister a cluster"
            )
            log.warning("cluster_left_unwatched", cluster=cluster, name=record.name, reason=reason)
            key, worker = f"watch.{cluster}", self.leases.worker
            fence = Fence(self.allowance)
            with contextlib.suppress(ClusterBusy, LeaseLost):
                async with self.leases.held(key, operation=worker, attempt=1, fence=fence) as epoch:
                    feed = await Feed.take(
                        self.bus, self.views, cluster=cluster, epoch=epoch, fence=fence
                    )
                    await _publish_blank(feed, record, state=UNWATCHED, reason=reason)
        self._is_left(cluster, True)

    def _is_left(self, cluster: str, is_left: bool) -> None:
        if is_left != (cluster in self._left):
            (self._left.add if is_left else self._left.discard)(cluster)
            self.metrics.add(CLUSTERS_LEFT, 1 if is_left else -1)

    @asynccontextmanager
    async def _following(self, cluster: str) -> AsyncIterator[None]:
        task = asyncio.create_task(self._follow(cluster), name=f"follow-{cluster}")
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _follow(self, cluster: str) -> None:
        while True:
            try:
                await follow(self.bus, self.views, cluster=cluster)
            except MeshbusError as error:
                log.warning("feed_not_followed", cluster=cluster, reason=error.summary)
            except Exception:
                log.exception("following_failed", cluster=cluster)
            await asyncio.sleep(_AFTER_FAILURE_S)


async def _publish_blank(
    feed: Feed, record: ClusterRecord, *, state: str, reason: str
) -> ClusterView:
    """Publishes that the cluster is not watched, and why; returns the view that says so."""
    info: Item = {
        "cluster": record.cluster,
        "name": record.name,
        "state": state,
        "detail": reason,
        "refused": [],
        "telemetry": {},
    }
    feed.fill({INFO_PART: {INFO_ID: info}})
    await feed.begin()
    return feed.view


def _has_state(view: ClusterView | None, state: str) -> bool:
    items = view.decoded(INFO_PART) if view is not None else ()
    return any(item.get("state") == state for item in items)
