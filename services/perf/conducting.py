"""Conducting a step of a run: shards that start together, on workers that may die.

The conductor publishes a command for each shard, waits until workers have them all, names a common
start, and hears a report each second. A worker that falls silent is lost: its shard is run again by
another one, after the others if need be, or told as missing. What is decided is stored before it
takes effect, so that a successor can go on where a conductor died.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone

from services.chassis.errors import ShardsLost, WorkersMissing
from services.perf.loads import GeneratorName, LostWorker, Shard
from services.perf.measurements import MissingShard
from services.perf.ports import Channels, Clock, Conducting, Store
from services.perf.seats import Patience, Seat, StepOutcome
from services.perf.tallies import Tally
from services.perf.wire import (
    ReadyAnswer,
    ReadyQuestion,
    Report,
    ShardCommand,
    Step,
)

_LEAD_S = 0.15
"""From the last worker's word that it is ready to the common start."""
_POLL_S = 0.1
_COLLECT_EVERY_S = 2.0
_STOP_WITHIN_S = 1.0
_MOST_ATTEMPTS = 3


@dataclass(slots=True, kw_only=True)
class Conductor:
    """Conducts one step of one run."""

    run: str
    number: int
    """Of the step, from 1."""
    generator: GeneratorName
    interval_s: float
    on_lost_worker: LostWorker
    channels: Channels
    store: Store
    clock: Clock
    patience: Patience
    on_stop: Callable[[], None]
    """Somebody asked for the run to stop."""
    on_news: Callable[[str], None]
    """Takes a line for people: who is waited for, who was lost."""
    _seats: list[Seat] = field(default_factory=list)
    _rerun: list[int] = field(default_factory=list)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _start_at: float | None = None

    async def conduct(self, shards: Sequence[Shard]) -> StepOutcome:
        """Runs the step to its end; a step that a predecessor began is gone on with.

        Raises `WorkersMissing` when too few workers take part, `ShardsLost` when none of the
        shards could be brought to its end. However it ends, no load is left running.
        """
        async with self.channels.conduct(
            self.run, on_ready=self._ready, on_report=self._heard, on_stop=self.on_stop
        ) as line:
            try:
                if not await self._resumed():
                    await self._published(shards)
                await self._started()
                await self._ended()
            except BaseException:
                await self._stopped(line)
                raise
            return self._outcome()

    # --- what is going on, for progress --------------------------------------------------------

    @property
    def start_at(self) -> float | None:
        """The common start; None while workers are waited for."""
        return self._start_at

    @property
    def workers(self) -> list[str]:
        return sorted({seat.worker for seat in self._seats if seat.worker})

    @property
    def requests(self) -> int:
        return sum(seat.requests for seat in self._seats)

    @property
    def failed(self) -> int:
        return sum(seat.failed for seat in self._seats)

    def recent(self, intervals: int) -> Tally:
        """What the reports have told of the last `intervals` whole intervals."""
        newest = max((max(seat.live.intervals, default=-1) for seat in self._seats), default=-1)
        total = Tally(interval_s=self.interval_s)
        for seat in self._seats:
            for index, interval in seat.live.intervals.items():
                if newest - intervals <= index < newest:
                    total.durations.merge(interval.durations)
                    total.codes.update(interval.codes)
        return total

    # --- the stages of a step --------------------------------------------------------------------

    async def _resumed(self) -> bool:
        step = await self.store.step(self.run, self.number)
        if step is None:
            return False
        now = self.clock()
        self._rerun = list(step.rerun)
        lost = {missing.shard: missing for missing in step.missing}
        for shard, attempt in zip(step.shards, step.attempts, strict=True):
            self._seats.append(
                Seat(
                    shard=shard,
                    token=attempt.token,
                    tries=int(attempt.token.rpartition("-")[2]),
                    worker=attempt.worker,
                    start_at=attempt.start_at,
                    heard=now,
                    missing=lost.get(shard.number),
                )
            )
        starts = [seat.start_at for seat in self._seats if seat.start_at is not None]
        self._start_at = min(starts, default=None)
        self.on_news("The run goes on under another conductor: the former one was lost")
        for seat in self._seats:
            if not seat.is_settled:
                seat.result = await self.store.shard_result(self.run, seat.token)
            if not seat.is_settled and seat.start_at is None:
                await self._publish(seat)  # dropped where it was published before
        return True

    async def _published(self, shards: Sequence[Shard]) -> None:
        now = self.clock()
        self._seats = [
            Seat(shard=shard, token=self._token(shard, 1), heard=now) for shard in shards
        ]
        await self._save()
        for seat in self._seats:
            await self._publish(seat)

    async def _started(self) -> None:
        """Waits until a worker has each shard; the last one's question names the start."""
        deadline = self.clock() + self.patience.start_within.total_seconds()
        told = False
        while self._start_at is None:
            waiting = [seat for seat in self._seats if not seat.worker]
            now = self.clock()
            if now > deadline:
                raise WorkersMissing(
                    f"{len(waiting)} of {len(self._seats)} shards found no worker within "
                    f"{self.patience.start_within.total_seconds():g} s"
                )
            if all(seat.is_settled for seat in self._seats):
                break  # it had all ended when this conductor took over
            if not told and now > deadline - self.patience.start_within.total_seconds() + 1:
                told = True
                self.on_news(f"Waiting for {len(waiting)} of {len(self._seats)} workers")
            for seat in self._seats:
                if seat.worker and self._is_silent(seat):
                    await self._again(seat)
            await self._news()
        await self._save()

    async def _ended(self) -> None:
        collected = self.clock()
        while not all(seat.is_settled for seat in self._seats):
            for seat in self._seats:
                if seat.ended and not seat.is_settled:
                    seat.result = await self.store.shard_result(self.run, seat.token)
                if not seat.is_settled and self._is_silent(seat):
                    await self._lost(seat)
            if self.clock() - collected > _COLLECT_EVERY_S:
                # A report of an end may have been lost.
                collected = self.clock()
                await self._collect()
            if self._has_failed():
                return
            await self._news()

    async def _collect(self) -> None:
        """Takes results that are stored for shards that should have ended by now."""
        now = self.clock()
        for seat in self._seats:
            if seat.is_settled or seat.start_at is None:
                continue
            if now > seat.start_at + seat.shard.duration_s:
                seat.result = await self.store.shard_result(self.run, seat.token)

    async def _stopped(self, line: Conducting) -> None:
        """Ends all load; waits a moment for the workers' word that it has ended."""
        await line.stop()
        running = [seat for seat in self._seats if seat.worker and not seat.is_settled]
        deadline = self.clock() + _STOP_WITHIN_S
        while self.clock() < deadline and not all(seat.ended for seat in running):
            await self._news()

    def _has_failed(self) -> bool:
        """Whether nothing is left to wait for because all that ended has failed."""
        results = [seat.result for seat in self._seats if seat.result is not None]
        return len(results) == len(self._seats) and all(result.error for result in results)

    # --- workers that come and go ----------------------------------------------------------------

    def _ready(self, question: ReadyQuestion) -> ReadyAnswer:
        now = self.clock()
        seat = next((seat for seat in self._seats if seat.token == question.token), None)
        if seat is None or seat.is_settled or seat.worker not in ("", question.worker):
            return ReadyAnswer(now=now, is_over=True)
        seat.worker, seat.heard = question.worker, now
        if self._start_at is None and all(each.worker for each in self._seats):
            self._start_at = now + _LEAD_S
            for each in self._seats:
                each.start_at = self._start_at
            self._changed.set()
        elif self._start_at is not None and seat.start_at is None:
            seat.start_at = now + _LEAD_S  # a shard that is run again starts by itself
        return ReadyAnswer(now=now, start_at=seat.start_at)

    def _heard(self, report: Report) -> None:
        seat = next((seat for seat in self._seats if seat.token == report.token), None)
        if seat is None or seat.worker not in ("", report.worker):
            return
        seat.heard_of(report, now=self.clock())
        if self._start_at is None and all(each.start_at is not None for each in self._seats):
            # A conductor that died had given the start, and could not store it any more.
            self._start_at = min(each.start_at for each in self._seats if each.start_at)
        if report.has_ended:
            self._changed.set()

    def _is_silent(self, seat: Seat) -> bool:
        now = self.clock()
        if not self.channels.is_connected:
            for each in self._seats:  # nobody can be heard, so nobody is silent
                each.heard = now
        limit = self.patience.lost_after
        if not seat.worker:
            # To be run again, and not taken yet: the others may all be busy with their own.
            limit = self.patience.start_within
            if any(each.worker and not each.is_settled for each in self._seats):
                seat.heard = now
        since = max(seat.heard, seat.start_at or 0.0)
        return now - since > limit.total_seconds()

    async def _lost(self, seat: Seat) -> None:
        stored = await self.store.shard_result(self.run, seat.token)
        if stored is not None:
            seat.result = stored
            return
        since = max(0.0, seat.heard - (seat.start_at or seat.heard))
        name = f"shard {seat.shard.number} of {len(self._seats)}"
        if self.on_lost_worker is LostWorker.RERUN and seat.tries < _MOST_ATTEMPTS:
            self.on_news(f"Worker {seat.worker} was lost after {since:.0f} s; {name} runs again")
            self._rerun = sorted({*self._rerun, seat.shard.number})
            await self._again(seat)
            return
        self.on_news(f"Worker {seat.worker} was lost after {since:.0f} s; {name} is missing")
        seat.missing = MissingShard(
            shard=seat.shard.number,
            worker=seat.worker,
            since_s=round(since, 1),
            reason=(
                f"the worker was not heard of again; the {seat.requests} requests that it "
                "reported until then are not counted"
            ),
        )
        await self._save()

    async def _again(self, seat: Seat) -> None:
        """Hands the shard to another worker, under a new token that the old one does not know."""
        seat.tries += 1
        seat.token = self._token(seat.shard, seat.tries)
        seat.worker, seat.start_at, seat.heard = "", None, self.clock()
        seat.requests = seat.failed = 0
        seat.live = Tally(interval_s=self.interval_s)
        await self._save()
        await self._publish(seat)

    # --- the rest --------------------------------------------------------------------------------

    def _outcome(self) -> StepOutcome:
        results = [seat.result for seat in self._seats if seat.result is not None]
        errors = [result.error for result in results if result.error is not None]
        if not results:
            raise ShardsLost(f"none of the {len(self._seats)} shards came to its end")
        together = [
            seat.result.seconds
            for seat in self._seats
            if seat.result is not None and seat.start_at == self._start_at
        ]
        return StepOutcome(
            start_at=self._start_at or self.clock(),
            seconds=max(together, default=max(result.seconds for result in results)),
            parts=[part for result in results for part in result.parts],
            workers=sorted({result.worker for result in results}),
            rerun=self._rerun,
            missing=[seat.missing for seat in self._seats if seat.missing is not None],
            error=errors[0].error() if errors else None,
        )

    async def _publish(self, seat: Seat) -> None:
        await self.channels.publish(
            ShardCommand(
                run=self.run,
                token=seat.token,
                shard=seat.shard,
                generator=self.generator,
                interval_s=self.interval_s,
                deadline=datetime.fromtimestamp(self.clock(), timezone.utc)
                + self.patience.start_within
                + timedelta(seconds=seat.shard.duration_s + 5),
            )
        )

    async def _save(self) -> None:
        await self.store.save_step(
            self.run,
            Step(
                number=self.number,
                shards=[seat.shard for seat in self._seats],
                attempts=[seat.attempt() for seat in self._seats],
                rerun=self._rerun,
                missing=[seat.missing for seat in self._seats if seat.missing is not None],
            ),
        )

    async def _news(self) -> None:
        """Until something changed, or it is time to look around."""
        self._changed.clear()
        try:
            async with asyncio.timeout(_POLL_S):
                await self._changed.wait()
        except TimeoutError:
            pass

    def _token(self, shard: Shard, attempt: int) -> str:
        return f"{self.number}-{shard.number}-{attempt}"
