"""The replicas of this service, and who watches which cluster: the leases, followed on the bus.

Each replica holds a lease of its own, its seat (`watch.replica.<number>`), beside those of the
clusters that it watches. All of them read what is stored there, so that the end of one is noticed
by its silence, and without a question for each cluster and second. Times are the server's, which
also lets leases expire.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import timedelta

import structlog
from pydantic import ValidationError

from services.chassis.bus.connection import Bus
from services.chassis.bus.leases import Fence, Holder, Leases
from services.chassis.bus.reading import OrderedReader, StoredMessage
from services.chassis.bus.records import is_deletion
from services.chassis.errors import ClusterBusy, LeaseLost, MeshbusError

_PREFIX = "$KV.leases.watch."
_SEAT = "replica."
_AGAIN_S = 1.0
READ_WITHIN_S = 10.0
"""Who cannot read the leases by then owns what is free, as if it were alone."""
_MANY = 100
"""Leases that are known before old ones are forgotten for the first time."""

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Lease:
    """A lease as it was stored last; without a holder it was given back."""

    holder: Holder | None
    time: float
    """Seconds of the server's clock."""


@dataclass(slots=True)
class ServersClock:
    """The server's clock, as messages tell it that are read soon after they were stored.

    Clocks run apart, and a server's may be set back; with another leader of the stream it is
    another server's. So what was told before the last two windows counts no more.
    """

    window_s: float
    _ahead_s: float = float("-inf")
    """What has to be added to the loop's time, as far as this window tells."""
    _before_s: float = float("-inf")
    """The same of the window before."""
    _since: float = float("-inf")
    """When this window began; loop time."""

    def hear(self, stored_at: float, *, read_at: float) -> None:
        """Takes a message that was stored at a time of the server, and read at a loop time."""
        if read_at - self._since > self.window_s:
            self._before_s, self._ahead_s, self._since = self._ahead_s, float("-inf"), read_at
        # A message is read after it was stored: the largest difference is the nearest.
        self._ahead_s = max(self._ahead_s, stored_at - read_at)

    def at(self, moment: float) -> float:
        """The server's time at a loop time; before the first message that of nothing."""
        return moment + max(self._ahead_s, self._before_s)


@dataclass(frozen=True, slots=True)
class Replica:
    """A replica that lives."""

    seat: str
    worker: str
    room: int
    """Clusters that it may watch; 0 when it is about to end."""


@dataclass(slots=True, kw_only=True)
class Replicas:
    """All replicas and their leases, as far as they were heard of."""

    bus: Bus
    leases: Leases
    ttl: timedelta
    """How long a lease outlives its last renewal."""
    most: int
    changed: Callable[[], None] = lambda: None
    """Called when a replica or the holder of a cluster is another one."""
    is_read: bool = False
    """Whether all that was stored before is known, and this replica has its seat."""
    _leases: dict[str, _Lease] = field(default_factory=dict)
    _heard: dict[str, float] = field(default_factory=dict)
    """When each worker last stored anything; the server's clock."""
    _clock: ServersClock = field(init=False)
    _leaving: asyncio.Event = field(default_factory=asyncio.Event)
    _is_complete: bool = False
    _forgets_at: int = _MANY

    def __post_init__(self) -> None:
        self._clock = ServersClock(self.ttl.total_seconds())

    @property
    def me(self) -> str:
        return self.leases.worker

    async def run(self) -> None:
        """Keeps a seat and follows the leases, until it is cancelled."""
        async with asyncio.TaskGroup() as parts:
            parts.create_task(self._sit(), name="seat")
            parts.create_task(self._follow(), name="leases")
            parts.create_task(self._tell_unread(), name="leases-read")

    def leave(self) -> None:
        """Tells all others that this replica is about to end: they come for its clusters."""
        self._leaving.set()

    # --- what is known --------------------------------------------------------------------------

    def living(self) -> list[Replica]:
        """The replicas that were heard lately, by seat; those that are about to end among them."""
        # A worker renews all its leases within a turn: it is gone before the first of them expires.
        patience_s = (self.ttl - self.leases.renew_every).total_seconds()
        ttl_s, now = self.ttl.total_seconds(), self._now()
        return [
            Replica(key.removeprefix(_SEAT), lease.holder.worker, lease.holder.room)
            for key, lease in sorted(self._leases.items())
            if key.startswith(_SEAT)
            and lease.holder is not None
            and self._heard.get(lease.holder.worker, 0.0) + patience_s > now
            # One that lost this seat is heard on another one.
            and lease.time + ttl_s > now
        ]

    def vacant(self) -> set[str]:
        """Seats that nobody has since less than a lease lives: of replicas that may come back."""
        ttl_s = self.ttl.total_seconds()
        taken = {replica.seat for replica in self.living()}
        found: set[str] = set()
        for key, lease in self._leases.items():
            # One that died had its seat for the life of a lease after its last word.
            until = lease.time + (ttl_s if lease.holder is None else 2 * ttl_s)
            if key.startswith(_SEAT) and until > self._now():
                found.add(key.removeprefix(_SEAT))
        return found - taken

    def owner(self, cluster: str) -> str:
        """The worker that holds a cluster's lease; "" without any."""
        lease = self._leases.get(cluster)
        if lease is None or lease.holder is None:
            return ""
        is_held = lease.time + self.ttl.total_seconds() > self._now()
        return lease.holder.worker if is_held else ""

    def _now(self) -> float:
        return self._clock.at(asyncio.get_running_loop().time())

    # --- the seat -------------------------------------------------------------------------------

    async def _sit(self) -> None:
        """Holds the first seat that is free; one without room from when this replica leaves."""
        number = 0
        while True:
            key, fence = f"watch.{_SEAT}{number}", Fence(self.ttl)
            is_leaving = self._leaving.is_set()
            try:
                async with self.leases.held(
                    key,
                    operation=self.me,
                    attempt=1,
                    fence=fence,
                    room=0 if is_leaving else self.most,
                ):
                    log.info("seat_taken", seat=number, leaving=is_leaving)
                    await fence.guard(
                        asyncio.Event().wait() if is_leaving else self._leaving.wait()
                    )
            except ClusterBusy:
                number += 1
            except LeaseLost as error:
                log.warning("seat_lost", seat=number, reason=error.summary)
                number = 0
            except MeshbusError as error:
                log.warning("seat_not_taken", seat=number, reason=error.summary)
                await asyncio.sleep(_AGAIN_S)

    async def _tell_unread(self) -> None:
        await asyncio.sleep(READ_WITHIN_S)
        if not self.is_read:
            log.warning(
                "leases_unread",
                reason="clusters are not shared among the replicas",
                remedy="render NATS' configuration anew (docs/how-to/upgrade.md)",
            )

    # --- the leases -----------------------------------------------------------------------------

    async def _follow(self) -> None:
        reader = OrderedReader(self.bus, "KV_leases", f"{_PREFIX}>", 1)
        async with aclosing(reader.messages()) as messages:
            async for message in messages:
                self._take(message)

    def _take(self, message: StoredMessage) -> None:
        key, stored_at = message.subject.removeprefix(_PREFIX), message.time.timestamp()
        self._clock.hear(stored_at, read_at=asyncio.get_running_loop().time())
        holder = _read(message)
        before = self._leases.get(key)
        self._leases[key] = _Lease(holder, stored_at)
        if holder is not None:
            self._heard[holder.worker] = max(self._heard.get(holder.worker, 0.0), stored_at)
        self._is_complete = self._is_complete or message.is_newest
        is_first = not self.is_read and self._is_complete and self._is_seated()
        self.is_read = self.is_read or is_first
        if is_first or (before.holder if before is not None else None) != holder:
            if len(self._leases) > self._forgets_at:
                self._forget_old()
            self.changed()

    def _is_seated(self) -> bool:
        return any(replica.worker == self.me for replica in self.living())

    def _forget_old(self) -> None:
        since = self._now() - 3 * self.ttl.total_seconds()
        self._leases = {k: lease for k, lease in self._leases.items() if lease.time > since}
        self._heard = {worker: time for worker, time in self._heard.items() if time > since}
        self._forgets_at = max(_MANY, 2 * len(self._leases))


def _read(message: StoredMessage) -> Holder | None:
    if is_deletion(message.headers):
        return None
    try:
        return Holder.model_validate_json(message.body)
    except ValidationError:
        log.warning("lease_unreadable", subject=message.subject)
        return None
