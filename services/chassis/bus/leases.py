"""Leases: the right to change a cluster's mesh, and the fence that stops a worker which lost it.

The subject of a command is the first lock; the lease below it is keyed by the cluster's own
identity (the UID of its kube-system namespace), so that two addresses of one cluster exclude each
other too. An expired lease vanishes with its bucket's time to live. A redelivered command takes
over the lease of its own operation at once: its earlier worker is dead or fenced.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any, TypeVar

import structlog
from pydantic import BaseModel

from services.chassis.bus.records import Bucket, RevisionConflict
from services.chassis.errors import BusUnavailable, ClusterBusy, DeadlineExpired, LeaseLost

_PAUSE_S = 0.5

T = TypeVar("T")

log = structlog.get_logger(__name__)


class Holder(BaseModel):
    """Who holds a lease: its value in the bucket."""

    operation: str
    worker: str
    attempt: int
    room: int = 0
    """How much the holder takes on, where leases share something out."""


@dataclass(slots=True)
class Fence:
    """Says whether this worker may still write. Checked before every change to a cluster."""

    allowance: timedelta
    """How long the worker may go without a heartbeat that reached the server."""
    _beaten: float = field(default_factory=lambda: asyncio.get_running_loop().time())
    _lost: str = ""
    _stop: BaseException | None = None
    _passed_over: Callable[[], None] | None = None
    _fallen: asyncio.Event = field(default_factory=asyncio.Event)

    def beat(self, *, at: float) -> None:
        """A heartbeat that was sent `at` (loop time) reached the server.

        One that comes too late does not raise the fence again: a worker that slept through its
        allowance may have a successor by now.
        """
        self._lapse(at)
        self._beaten = at

    def begin(self) -> None:
        """Counts from now on: what it stands before was claimed just now."""
        self._beaten = asyncio.get_running_loop().time()

    def lose(self, reason: str) -> None:
        self._lost = self._lost or reason
        self._fallen.set()

    def stop(self, error: BaseException) -> None:
        """Makes each further check raise `error`: the operation was cancelled."""
        if self._passed_over is not None:
            told, self._passed_over = self._passed_over, _nothing
            told()
            return
        self._stop = error
        self._fallen.set()

    def carry_on(self, told: Callable[[], None]) -> None:
        """Passes over requests to stop from now on, and an earlier one; `told` is called for the
        first. What undoes has to come to its end. A lost claim counts as before."""
        self._passed_over, stopped, self._stop = told, self._stop, None
        if stopped is not None:
            if not self._lost:
                self._fallen.clear()
            self.stop(stopped)

    @property
    def is_stopped(self) -> bool:
        """Whether the operation was cancelled; a lost claim is no end, another worker goes on."""
        return self._stop is not None

    def check(self) -> None:
        """Raises `LeaseLost` when another worker may have taken over."""
        if self._stop is not None:
            raise self._stop
        self._lapse(asyncio.get_running_loop().time())
        if self._lost:
            raise LeaseLost(f"this worker stops: {self._lost}")

    async def guard(self, work: Coroutine[Any, Any, T]) -> T:
        """Awaits a long wait, and ends it with the error of `check` when the fence falls."""
        task = asyncio.create_task(work)
        fallen = asyncio.create_task(self._fallen.wait())
        try:
            await asyncio.wait({task, fallen}, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                self.check()
            return await task
        finally:
            task.cancel()
            fallen.cancel()
            await asyncio.gather(task, fallen, return_exceptions=True)

    def _lapse(self, now: float) -> None:
        silent = now - self._beaten
        if not self._lost and silent > self.allowance.total_seconds():
            self.lose(f"no heartbeat got through for {silent:.0f} s")


@dataclass(frozen=True, slots=True)
class Leases:
    """Takes and keeps leases in the bucket `leases`."""

    bucket: Bucket
    worker: str
    renew_every: timedelta
    beats: bool = False
    """Whether a renewal counts as a heartbeat, for work that no message of a queue stands for."""

    @asynccontextmanager
    async def held(
        self, key: str, *, operation: str, attempt: int, fence: Fence, room: int = 0
    ) -> AsyncIterator[int]:
        """Holds `key` for the block; raises `ClusterBusy` when another operation has it.

        Yields the revision that the lease was taken with, which grows from holder to holder.
        """
        holder = Holder(operation=operation, worker=self.worker, attempt=attempt, room=room)
        revision = [await self._take(key, holder)]
        keeper = asyncio.create_task(self._keep(key, holder, revision, fence), name=f"lease-{key}")
        try:
            yield revision[0]
        finally:
            keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await keeper
            with contextlib.suppress(BusUnavailable):
                await self._release(key, holder, revision[0])

    async def _release(self, key: str, holder: Holder, revision: int) -> None:
        """Gives the lease back, unless another worker has it.

        The keeper may have been stopped in the middle of a renewal that the server stored: then
        the revision is newer than we know, and the value still ours.
        """
        value = holder.model_dump_json().encode()
        for _ in range(3):
            try:
                await self.bucket.delete(key, revision=revision, expires=True)
                return
            except RevisionConflict:
                entry = await self.bucket.get(key)
                if entry is None or entry.value != value:
                    return
                revision = entry.revision

    async def _take(self, key: str, holder: Holder) -> int:
        value = holder.model_dump_json().encode()
        for _ in range(5):
            try:
                entry = await self.bucket.get(key)
                if entry is None:
                    return await self.bucket.create(key, value)
                current = Holder.model_validate_json(entry.value)
                if current.operation != holder.operation:
                    raise ClusterBusy(
                        f"the cluster is busy with operation {current.operation}",
                        subject=current.operation,
                    )
                return await self.bucket.update(key, value, revision=entry.revision)
            except RevisionConflict:
                continue
        raise ClusterBusy("several operations want the cluster at once")

    async def _keep(self, key: str, holder: Holder, revision: list[int], fence: Fence) -> None:
        value = holder.model_dump_json().encode()
        while True:
            await asyncio.sleep(self.renew_every.total_seconds())
            sent = asyncio.get_running_loop().time()
            try:
                kept = await self._renewed(key, value, revision[0])
            except BusUnavailable:
                log.warning("lease_not_renewed", lease=key)
                continue
            if kept is None:
                fence.lose("the lease was taken over")
                return
            revision[0] = kept
            if self.beats:
                fence.beat(at=sent)

    async def _renewed(self, key: str, value: bytes, revision: int) -> int | None:
        """The lease's new revision; None when another worker has it."""
        with contextlib.suppress(RevisionConflict):
            return await self.bucket.update(key, value, revision=revision)
        entry = await self.bucket.get(key)
        if entry is not None:
            # A renewal that was given up in an outage may have been stored after all.
            return entry.revision if entry.value == value else None
        # It expired in an outage, with nobody else having wanted it.
        with contextlib.suppress(RevisionConflict):
            return await self.bucket.create(key, value)
        return None


@asynccontextmanager
async def in_turn(
    lease: Callable[[], AbstractAsyncContextManager[object]],
    *,
    fence: Fence,
    until: datetime,
    waits: Callable[[ClusterBusy], object] | None = None,
) -> AsyncIterator[None]:
    """Holds a lease for the block as soon as it is free: no client is there to try again.

    `waits` is called once when another operation has it. Raises `DeadlineExpired` when it is not
    free before `until`.
    """
    told = False
    async with AsyncExitStack() as stack:
        while True:
            try:
                await stack.enter_async_context(lease())
                break
            except ClusterBusy as busy:
                if until <= datetime.now(timezone.utc):
                    raise DeadlineExpired(f"its turn never came: {busy.summary}") from None
                if not told and waits is not None:
                    waits(busy)
                told = True
            fence.check()
            await asyncio.sleep(_PAUSE_S)
        yield


def _nothing() -> None:
    """Tells nobody: it was told once."""
