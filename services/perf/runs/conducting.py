"""Conducting a step of a run: shards that start together, on workers that may die.

The conductor publishes a command for each shard, waits until workers have them all, names a common
start, and hears a report each second. A worker that falls silent is lost: its shard is run again by
another one, after the others if need be, or told as missing. Tokens and starts are stored before
anybody is told of them, so that a successor can go on where a conductor died: it takes over load
that runs, and only a cancelled run or one that has failed is stopped.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone

from services.chassis.bus.leases import Fence
from services.chassis.errors import (
    BusUnavailable,
    GeneratorMissing,
    LeaseLost,
    ShardsLost,
    WorkersMissing,
)
from services.perf.definitions.loads import GeneratorName, LostWorker, Shard
from services.perf.runs.ports import Channels, Clock, Conducting, Store
from services.perf.runs.seating import Seat, Seats, StepOutcome
from services.perf.runs.wire import ReadyAnswer, ReadyQuestion, Report, ShardCommand, Step

_LEAD_S = 0.1
"""From the stored start to the start: what the slowest worker needs to hear of it."""
_POLL_S = 0.1
_DEAF_S = 1.0
_COLLECT_EVERY_S = 2.0
_STOP_WITHIN_S = 1.0
_TELL_AFTER_S = 1.0
_MOST_ATTEMPTS = 3


@dataclass(slots=True, kw_only=True)
class Conductor:
    """Conducts one step of one run."""

    run: str
    generator: GeneratorName
    on_lost_worker: LostWorker
    seats: Seats
    channels: Channels
    store: Store
    clock: Clock
    """Unix time, for starts."""
    fence: Fence
    on_news: Callable[[str], None]
    """Takes a line for people: who is waited for, who was lost."""
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _looked: float = 0.0

    async def conduct(self, shards: Sequence[Shard], former: Step | None) -> StepOutcome:
        """Runs the step to its end; with `former`, one that a predecessor began.

        Raises `WorkersMissing` when too few workers take part, `ShardsLost` when none of the
        shards could be brought to its end. Load is left running only for a successor.
        """
        self._looked = _now()
        async with self.channels.conduct(
            self.run, on_ready=self._ready, on_report=self._heard
        ) as line:
            try:
                if former is None:
                    await self._published(shards)
                else:
                    await self._taken_over(shards, former)
                await self._started()
                await self._ended()
            except (asyncio.CancelledError, BusUnavailable, LeaseLost):
                if self.fence.is_stopped:
                    await self._stopped(line)
                raise
            except BaseException:
                await self._stopped(line)
                raise
        if all(seat.result is None for seat in self.seats.all):
            raise ShardsLost(f"none of the {len(self.seats.all)} shards came to its end")
        return self.seats.outcome()

    # --- the stages of a step --------------------------------------------------------------------

    async def _published(self, shards: Sequence[Shard]) -> None:
        self.seats.laid(shards, now=_now())
        await self._save()
        for seat in self.seats.all:
            await self._publish(seat)

    async def _taken_over(self, shards: Sequence[Shard], former: Step) -> None:
        self.seats.taken_over(shards, former, now=_now())
        self.on_news("The run goes on under another conductor: the former one was lost")
        for seat in self.seats.all:
            if not seat.is_settled:
                seat.result = await self.store.shard_result(self.run, seat.token)
            if not seat.is_settled and seat.start_at is None:
                # Under a new token: the old one may have been dropped, and is a duplicate now.
                await self._again(seat)

    async def _started(self) -> None:
        """Waits until a worker has each shard, then stores and gives the common start."""
        if self.seats.start_at is not None:
            return
        began = _now()
        within_s = self.seats.patience.start_within.total_seconds()
        is_told = False
        while waiting := [seat for seat in self.seats.all if not seat.worker]:
            if _now() - began > within_s:
                raise WorkersMissing(
                    f"{len(waiting)} of {len(self.seats.all)} shards found no worker within "
                    f"{within_s:g} s"
                )
            if not is_told and _now() - began > _TELL_AFTER_S:
                is_told = True
                self.on_news(f"Waiting for {len(waiting)} of {len(self.seats.all)} workers")
            await self._looked_around()
            for seat in self.seats.all:
                if seat.worker and self.seats.is_silent(seat, now=_now()):
                    await self._again(seat)
        self.seats.start_at = await self._given_start(self.seats.all)

    async def _ended(self) -> None:
        """Until every shard has a result or is missing."""
        collected = _now()
        while not all(seat.is_settled for seat in self.seats.all):
            # A report of an end may have been lost.
            is_collecting = _now() - collected > _COLLECT_EVERY_S
            collected = _now() if is_collecting else collected
            for seat in self.seats.all:
                if not seat.is_settled:
                    await self._looked_at(seat, is_collecting=is_collecting)
            await self._looked_around()

    async def _looked_at(self, seat: Seat, *, is_collecting: bool) -> None:
        if seat.worker and seat.start_at is None:
            await self._given_start([seat])  # it is run again, and starts by itself
        if seat.has_ended or (is_collecting and self._is_due(seat)):
            await self._collected(seat)
        if not seat.is_settled and self.seats.is_silent(seat, now=_now()):
            await self._lost(seat)

    def _is_due(self, seat: Seat) -> bool:
        return seat.start_at is not None and self.clock() > seat.start_at + seat.shard.duration_s

    async def _collected(self, seat: Seat) -> None:
        """Takes the seat's result, if it is stored."""
        result = await self.store.shard_result(self.run, seat.token)
        if result is None:
            return
        is_unable = result.error is not None and result.error.code == GeneratorMissing.code
        if is_unable and seat.tries < _MOST_ATTEMPTS:
            self.on_news(f"Worker {seat.worker} has no generator {self.generator}; another one is")
            await self._again(seat)
            return
        seat.result = result

    async def _stopped(self, line: Conducting) -> None:
        """Ends all load; waits a moment for the workers' word that it has ended."""
        self.seats.is_over = True
        await line.stop()
        running = [seat for seat in self.seats.all if seat.is_running]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_STOP_WITHIN_S):
                while not all(seat.has_ended for seat in running):
                    self._changed.clear()
                    await self._changed.wait()

    # --- workers that come and go ----------------------------------------------------------------

    def _ready(self, question: ReadyQuestion) -> ReadyAnswer:
        answer = self.seats.ready(question, now=_now(), unix=self.clock())
        if answer.start_at is None and not answer.is_over:
            self._changed.set()
        return answer

    def _heard(self, report: Report) -> None:
        self.seats.heard(report, now=_now())
        if report.has_ended:
            self._changed.set()

    async def _given_start(self, seats: Sequence[Seat]) -> float:
        """Stores a start for these seats; their workers get it with their next question."""
        start_at = self.clock() + _LEAD_S
        for seat in seats:
            seat.start_at = start_at
        await self._save()
        if self.clock() > start_at - _LEAD_S / 2:  # storing has eaten the lead
            return await self._given_start(seats)
        for seat in seats:
            seat.is_stored = True
        return start_at

    async def _lost(self, seat: Seat) -> None:
        await self._collected(seat)
        if seat.is_settled or not self.seats.is_silent(seat, now=_now()):
            return
        self.fence.check()
        who = f"Worker {seat.worker} was lost" if seat.worker else "No worker came"
        name = f"shard {seat.shard.number} of {len(self.seats.all)}"
        if self.on_lost_worker is LostWorker.RERUN and seat.tries < _MOST_ATTEMPTS:
            self.on_news(f"{who}; {name} runs again")
            await self._again(seat)
            return
        self.on_news(f"{who}; {name} is missing")
        self.seats.given_up(seat, now=_now())
        await self._save()

    async def _again(self, seat: Seat) -> None:
        """Hands the shard to another worker; one that lost its claim must not."""
        self.fence.check()
        self.seats.handed_out_again(seat, now=_now())
        await self._save()
        await self._publish(seat)

    # --- the rest --------------------------------------------------------------------------------

    async def _publish(self, seat: Seat) -> None:
        may_wait = self.seats.patience.start_within + timedelta(seconds=seat.shard.duration_s + 5)
        await self.channels.publish(
            ShardCommand(
                run=self.run,
                token=seat.token,
                shard=seat.shard,
                generator=self.generator,
                interval_s=self.seats.interval_s,
                deadline=datetime.fromtimestamp(self.clock(), timezone.utc) + may_wait,
            )
        )

    async def _save(self) -> None:
        await self.store.save_step(self.run, self.seats.step())

    async def _looked_around(self) -> None:
        """Until something changed, or it is time; raises when the run is no longer ours."""
        self._changed.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_POLL_S):
                await self._changed.wait()
        now = _now()
        if now - self._looked > _DEAF_S or not self.channels.is_connected:
            self.seats.all_heard(now)
        self._looked = now
        self.fence.check()


def _now() -> float:
    return asyncio.get_running_loop().time()
