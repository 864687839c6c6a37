"""The registered clusters, and the leases on those that this process watches.

Every registered cluster is tended by one task here: it watches the cluster while it holds its
lease, and follows the owner's feed while it does not. `sharing.py` says who should own which. One
that should own a cluster that another replica has builds everything beside it, asks it to end, and
goes on with one checkpoint. A process that stops has its clusters fetched so; one that dies is
succeeded when its leases expire.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Any

import structlog
from nats.aio.msg import Msg

from services.chassis.bus.connection import Bus
from services.chassis.bus.leases import Fence, Leases
from services.chassis.bus.records import Records
from services.chassis.bus.streams import live
from services.chassis.errors import (
    BusUnavailable,
    ClusterBusy,
    ClusterUnreachable,
    InternalError,
    LeaseLost,
    MeshbusError,
    WorkerUnavailable,
)
from services.chassis.messages import ClusterRecord
from services.chassis.telemetry.metrics import CLUSTERS_LEFT, CLUSTERS_OWNED, Metrics
from services.topology.adapters.feeds import Feed, Inheritance, follow
from services.topology.adapters.replicas import READ_WITHIN_S, Replica, Replicas
from services.topology.feed.deltas import INFO_PART, Item
from services.topology.feed.views import ClusterView, Views
from services.topology.handlers import HAND_OVER
from services.topology.observing import INFO_ID, UNREACHABLE, UNWATCHED
from services.topology.sharing import shared

_LOOK_EVERY_S = 30.0
_STORED_AFTER_S = 0.25
_AFTER_FAILURE_S = 5.0
_AFTER_DEFECT_S = 30.0
"""A defect of ours mostly meets the same object again, and each try lists the whole cluster."""
_LOOK_AGAIN_S = 1.0
_TOGETHER_S = 0.02
_SOMEBODY = "somebody"
_LEFT_AFTER_LOOKS = 3
"""So long a cluster is without an owner, while nobody has room, before that is told."""
_OTHERS_AFTER_LOOKS = 10
"""So long it is left to the replica that should own it."""
_MOST_MOVING = 2
"""Clusters that are being fetched from other replicas at a time."""
_MOVE_AGAIN_S = 10.0
"""After a move that failed."""
_FOLLOWED_WITHIN_S = 3.0
"""How long the last words of a former owner are waited for."""
_MOST_TRIED = 2
"""Clusters that are tried at a time, reached or not, as a multiple of those that are watched."""

Observe = Callable[[ClusterRecord, Feed], Awaitable[None]]
"""Watches a cluster and publishes its feed, until it is cancelled."""
Fingerprint = Callable[[str], Awaitable[str]]
"""Tells one credential of a registered cluster from the next."""

log = structlog.get_logger(__name__)


Ask = Callable[[str, str, dict[str, Any]], Awaitable[Any]]
"""Asks the owner of a cluster: token, verb, question."""


@dataclass(slots=True)
class _Holding:
    """A cluster whose lease is held here."""

    feed: Feed
    returned: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the lease was given back."""


@dataclass(slots=True, kw_only=True)
class Owners:
    """All registered clusters, as far as this process goes."""

    bus: Bus
    views: Views
    leases: Leases
    replicas: Replicas
    clusters: Records[ClusterRecord]
    observe: Observe
    fingerprint: Fingerprint
    ask: Ask
    handing_over: dict[str, Callable[[str], Awaitable[dict[str, Any]]]]
    """How each cluster that is owned here is handed over to another worker."""
    allowance: timedelta
    """How long a lease outlives its last renewal."""
    calm: timedelta
    """How long no replica may have come or gone before a cluster is moved without need."""
    most: int
    metrics: Metrics
    leave_within: timedelta = timedelta(0)
    """How long others may take to fetch the clusters of this process when it ends."""
    _tasks: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    _credentials: dict[str, str] = field(default_factory=dict)
    _owned: set[str] = field(default_factory=set)
    _held: dict[str, _Holding] = field(default_factory=dict)
    _left: set[str] = field(default_factory=set)
    """Clusters that nobody watches, since every replica is full."""
    _share: dict[str, str] = field(default_factory=dict)
    """The worker that should own each cluster."""
    _living: dict[str, Replica] = field(default_factory=dict)
    """The replicas by their workers."""
    _given: tuple[object, ...] = ()
    """What the share was reckoned from."""
    _since: float = 0.0
    """When a replica last came or went; loop time."""
    _moving: set[str] = field(default_factory=set)
    _not_before: dict[str, float] = field(default_factory=dict)
    """When a cluster may be tried again that could not be had; loop time."""
    _is_leaving: bool = False
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _reckons: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when who should own what may be another."""
    _news: asyncio.Event = field(default_factory=asyncio.Event)
    """Set, and replaced, when it was reckoned anew."""

    @property
    def owned(self) -> frozenset[str]:
        """Tokens of the clusters that this process watches, or tries to."""
        return frozenset(self._owned)

    async def run(self) -> None:
        """Owns or follows the registered clusters, until it is cancelled; then they are fetched by
        the other replicas, as far as there are some."""
        self.replicas.changed = self._reckons.set
        beside = [
            asyncio.create_task(self._over_failures(self.replicas.run), name="replicas"),
            asyncio.create_task(self._over_failures(self._reckon), name="shares"),
        ]
        forget = self.bus.on_reconnect(self._changed.set)
        subscription = await self.bus.client.subscribe(live("$KV.clusters.>"), cb=self._notice)
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
            try:
                await self._leave_all()
            finally:
                for task in (*beside, *self._tasks.values()):
                    task.cancel()
                await asyncio.gather(*beside, *self._tasks.values(), return_exceptions=True)
                if not self.bus.client.is_closed:
                    await subscription.unsubscribe()

    async def _leave_all(self) -> None:
        """Waits until the other replicas have fetched what is owned here, within bounds."""
        self._is_leaving = True
        if not self._others_come():
            return
        self.replicas.leave()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.leave_within.total_seconds()):
                while self._others_come() and (
                    not self._is_known_to_leave() or any(map(self._is_fetched, self._held))
                ):
                    await self._news.wait()

    def _is_known_to_leave(self) -> bool:
        replica = self._living.get(self._me)
        return replica is not None and replica.room <= 0

    def _is_fetched(self, cluster: str) -> bool:
        """Whether another replica comes for a cluster; for one that was never reached, nobody."""
        return self._share.get(cluster, self._me) != self._me and not self._is_blank(cluster)

    def _others_come(self) -> bool:
        others = (replica for replica in self._living.values() if replica.worker != self._me)
        return any(replica.room > 0 for replica in others)

    async def _over_failures(self, part: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await part()
            except Exception:
                log.exception("sharing_failed")
            await asyncio.sleep(_AFTER_FAILURE_S)

    # --- who should own what --------------------------------------------------------------------

    @property
    def _me(self) -> str:
        return self.leases.worker

    async def _reckon(self) -> None:
        while True:
            self._reckons.clear()
            self._share_out()
            news, self._news = self._news, asyncio.Event()
            news.set()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_AGAIN_S):
                    await self._reckons.wait()
            # A replica that starts or ends stores many leases: they are looked at together.
            await asyncio.sleep(_TOGETHER_S)

    def _share_out(self) -> None:
        living = {replica.worker: replica for replica in self.replicas.living()}
        if _seated(living.values()) != _seated(self._living.values()):
            self._since = asyncio.get_running_loop().time()
        self._living = living
        rooms = {replica.seat: replica.room for replica in living.values() if replica.room > 0}
        vacant = self.replicas.vacant() | {r.seat for r in living.values() if r.room <= 0}
        vacant -= rooms.keys()
        blank = {cluster for cluster in self._tasks if self._is_blank(cluster)}
        given = (frozenset(self._tasks), blank, _seated(living.values()), rooms, vacant)
        if given == self._given:
            return
        self._given = given
        # Those that cannot be reached take no place from others.
        spare = {seat: room * (_MOST_TRIED - 1) for seat, room in rooms.items()}
        seats = {
            **shared(self._tasks.keys() - blank, rooms=rooms, vacant=vacant),
            **shared(blank, rooms=spare, vacant=vacant),
        }
        workers = {replica.seat: replica.worker for replica in living.values()}
        self._share = {cluster: workers[seat] for cluster, seat in seats.items()}

    async def _look(self) -> None:
        """Waits for news of who owns or should own what, but not long."""
        news = self._news
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LOOK_AGAIN_S):
                await news.wait()

    async def _until_reckoned(self) -> None:
        """Until it is known who should own a new cluster, where that can be known."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(READ_WITHIN_S):
                await self._look()
                while not self.replicas.is_read:
                    await self._look()

    async def _owner(self, cluster: str) -> str:
        """The worker that owns a cluster; "" without one."""
        if self.replicas.is_read:
            return self.replicas.owner(cluster)
        entry = await self.leases.bucket.get(f"watch.{cluster}")
        return "" if entry is None else _SOMEBODY

    def _may_take(self, cluster: str, *, free_s: float) -> bool:
        """Whether a cluster without an owner is for this replica. One that nobody fetches is for
        whoever has room."""
        if self._is_leaving or not self._may_try(cluster) or not self._has_room_for(cluster):
            return False
        is_late = free_s >= _OTHERS_AFTER_LOOKS * _LOOK_AGAIN_S
        return not self.replicas.is_read or is_late or self._share.get(cluster) == self._me

    def _may_move(self, cluster: str, owner: str) -> bool:
        """Whether a cluster of another replica is to be fetched now."""
        replica, now = self._living.get(owner), asyncio.get_running_loop().time()
        if replica is None or replica.worker == self._me or self._is_leaving:
            return False
        is_calm = now - self._since >= self.calm.total_seconds()
        return (
            self._share.get(cluster) == self._me
            and (is_calm or replica.room <= 0)
            and len(self._moving) < _MOST_MOVING
            and self._may_try(cluster)
            and not self._is_blank(cluster)
            and self._has_room_for(cluster)
        )

    # --- the clusters ---------------------------------------------------------------------------

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
            self.views.labels[record.cluster] = record.labels
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
            self._reckons.set()

    async def _end(self, cluster: str) -> None:
        task = self._tasks.pop(cluster)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def _tend(self, record: ClusterRecord) -> None:
        """Owns the cluster, or follows its owner, until it is cancelled."""
        cluster = record.cluster
        await self._until_reckoned()
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
        """Owns the cluster while it is for this replica, and follows its owner while it is not."""
        cluster = record.cluster
        is_ours = await self._owner(cluster) in ("", self._me)
        is_ours = is_ours and self._may_take(cluster, free_s=0.0)
        told: Feed | None = None
        while True:
            if is_ours:
                told = await self._own(record)
            async with self._following(cluster, told) as following:
                told, is_ours = None, False
                while told is None and not is_ours:
                    is_ours = not await self._until_due(record)
                    if not is_ours:
                        told = await self._fetch(record, following)

    async def _own(self, record: ClusterRecord) -> Feed | None:
        """Owns a cluster that is free; returns its feed, if that has come to an orderly end."""
        cluster, fence = record.cluster, Fence(self.allowance)
        feed: Feed | None = None
        # Before the lease is there: at the start all clusters are tried at once.
        self._owned.add(cluster)
        try:
            async with self._lease(cluster, fence) as epoch:
                log.info("cluster_owned", cluster=cluster, name=record.name, epoch=epoch)
                feed = await Feed.take(
                    self.bus,
                    self.views,
                    cluster=cluster,
                    epoch=epoch,
                    fence=fence,
                    counted=self.metrics,
                )
                self._hold(cluster, feed)
                await fence.guard(self._observe_over_failures(record, feed))
        except ClusterBusy as busy:
            # Also of a cluster that was handed over; that one is not for this replica any more.
            log.info("cluster_not_owned", cluster=cluster, reason=busy.summary)
            self._wait_with(cluster, _LOOK_AGAIN_S)
        finally:
            self._let_go(cluster)
        return feed if feed is not None and feed.is_closed else None

    async def _fetch(self, record: ClusterRecord, following: asyncio.Task[None]) -> Feed | None:
        """Owns a cluster in the place of another replica, which tells about it until everything is
        built here; returns its feed as `_own` does, and None as well when it could not be had."""
        cluster, fence = record.cluster, Fence(self.allowance)
        feed = Feed(self.bus, self.views, ClusterView(cluster), fence, self.metrics)
        self._moving.add(cluster)
        try:
            async with AsyncExitStack() as stack:
                feed.succeed = partial(self._succeed, record, feed, stack, following)
                await fence.guard(self._observe_over_failures(record, feed))
        except MeshbusError as error:
            if feed.is_beside:
                log.warning("cluster_not_fetched", cluster=cluster, reason=error.summary)
                self._wait_with(cluster, _MOVE_AGAIN_S)
            elif not isinstance(error, ClusterBusy):
                raise
        finally:
            self._moving.discard(cluster)
            self._let_go(cluster)
        if feed.is_beside or feed.is_closed:
            return None if feed.is_beside else feed
        raise LeaseLost("this replica has no room for the cluster any more")

    async def _succeed(
        self,
        record: ClusterRecord,
        feed: Feed,
        stack: AsyncExitStack,
        following: asyncio.Task[None],
    ) -> Inheritance:
        """Asks the owner to end, and takes its lease; raises `ClusterBusy` when it does not."""
        cluster = record.cluster
        answer: dict[str, Any] = {}
        try:
            answer = await self.ask(cluster, HAND_OVER, {"to": self._me})
        except (WorkerUnavailable, BusUnavailable) as error:
            # It has ended, or only its answer was lost: the lease knows.
            log.info("hand_over_unanswered", cluster=cluster, reason=error.summary)
        feed.fence.begin()
        self._owned.add(cluster)
        epoch = await stack.enter_async_context(self._lease(cluster, feed.fence))
        log.info("cluster_fetched", cluster=cluster, name=record.name, epoch=epoch)
        self._moving.discard(cluster)
        self._hold(cluster, feed)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_FOLLOWED_WITHIN_S):
                await self._has_followed(cluster, answer)
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        return Inheritance(epoch, answer.get("seen") or {})

    async def _has_followed(self, cluster: str, answer: Mapping[str, Any]) -> None:
        """Until here is what the former owner has told last."""
        last = (answer.get("epoch", 0), answer.get("number", 0))
        told = asyncio.Event()
        forget = self.views.listen(lambda _delta: told.set())
        try:
            while True:
                view = self.views.view(cluster)
                if view is not None and (view.epoch, view.number) >= last:
                    return
                told.clear()
                await told.wait()
        finally:
            forget()

    async def _hand_over(self, cluster: str, to: str) -> dict[str, Any]:
        """Ends the owning of a cluster between two messages of its feed, for another replica that
        should own it; returns where the feed has ended. Raises `ClusterBusy`."""
        holding = self._held.get(cluster)
        if holding is None or self._share.get(cluster) != to:
            raise ClusterBusy("this replica does not know that the cluster should be moved there")
        feed = holding.feed
        seen = await feed.close()
        feed.fence.stop(ClusterBusy(f"{to} goes on with the cluster"))
        await holding.returned.wait()
        log.info("cluster_handed_over", cluster=cluster, to=to)
        return {"seen": dict(seen), "epoch": feed.view.epoch, "number": feed.view.number}

    def _lease(self, cluster: str, fence: Fence) -> AbstractAsyncContextManager[int]:
        return self.leases.held(f"watch.{cluster}", operation=self._me, attempt=1, fence=fence)

    def _hold(self, cluster: str, feed: Feed) -> None:
        self._held[cluster] = _Holding(feed)
        self.handing_over[cluster] = partial(self._hand_over, cluster)
        self.metrics.add(CLUSTERS_OWNED, 1)

    def _let_go(self, cluster: str) -> None:
        """After the lease was given back, or was never there."""
        self._owned.discard(cluster)
        self.handing_over.pop(cluster, None)
        holding = self._held.pop(cluster, None)
        if holding is not None:
            self.metrics.add(CLUSTERS_OWNED, -1)
            holding.returned.set()
        self._reckons.set()

    def _wait_with(self, cluster: str, pause_s: float) -> None:
        self._not_before[cluster] = asyncio.get_running_loop().time() + pause_s

    def _may_try(self, cluster: str) -> bool:
        return self._not_before.get(cluster, 0.0) <= asyncio.get_running_loop().time()

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
            if feed.is_beside:
                # Its owner goes on, and may see more of it than can be seen from here.
                raise ClusterUnreachable(reason)
            feed.discard_filled()
            # The same reason is news when the cluster was watched in between.
            if reason != known or feed.view is not shown:
                log.warning("cluster_unwatchable", cluster=record.cluster, reason=reason)
                shown = await _publish_blank(feed, record, state=UNREACHABLE, reason=reason)
                known = reason
            await asyncio.sleep(pause)

    async def _until_due(self, record: ClusterRecord) -> bool:
        """Until the cluster is to be fetched from its owner (True), or to be taken since it has
        none.

        A cluster that nobody takes, since all replicas are full, is told to be without a watch.
        """
        cluster, loop = record.cluster, asyncio.get_running_loop()
        free_since = loop.time()
        try:
            while True:
                owner = await self._owner(cluster)
                if owner and owner != self._me:
                    free_since = loop.time()
                    if not _has_state(self.views.view(cluster), UNWATCHED):
                        self._is_left(cluster, False)
                    if self._may_move(cluster, owner):
                        return True
                elif self._may_take(cluster, free_s=loop.time() - free_since):
                    return False
                elif loop.time() - free_since >= _LEFT_AFTER_LOOKS * _LOOK_AGAIN_S:
                    await self._leave(record)
                await self._look()
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
        if self._is_leaving or cluster in self._share or self._has_room_for(cluster):
            return
        if not _has_state(self.views.view(cluster), UNWATCHED):
            reason = (
                f"every topology worker watches as many clusters as it may ({self.most} here): "
                "start one more, raise MESHBUS_TOPOLOGY_MOST_CLUSTERS, or deregister a cluster"
            )
            log.warning("cluster_left_unwatched", cluster=cluster, name=record.name, reason=reason)
            fence = Fence(self.allowance)
            with contextlib.suppress(ClusterBusy, LeaseLost):
                async with self._lease(cluster, fence) as epoch:
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
    async def _following(
        self, cluster: str, told: Feed | None
    ) -> AsyncIterator[asyncio.Task[None]]:
        task = asyncio.create_task(self._follow(cluster, told), name=f"follow-{cluster}")
        try:
            yield task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _follow(self, cluster: str, told: Feed | None) -> None:
        """Follows the owner; at first from where a feed of our own has ended."""
        while True:
            try:
                if told is not None:
                    known, after, told = told.view, told.last, None
                    await follow(self.bus, self.views, cluster=cluster, known=known, after=after)
                await follow(self.bus, self.views, cluster=cluster)
            except MeshbusError as error:
                log.warning("feed_not_followed", cluster=cluster, reason=error.summary)
            except Exception:
                log.exception("following_failed", cluster=cluster)
            await asyncio.sleep(_AFTER_FAILURE_S)


def _seated(replicas: Iterable[Replica]) -> set[tuple[str, str, bool]]:
    return {(replica.seat, replica.worker, replica.room > 0) for replica in replicas}


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
