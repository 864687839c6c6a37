"""Conducts a step of a run: shards that start together, on workers that may die.

The conductor publishes a command for each shard, waits until workers have them all, gives a common
start, and hears a report each second. A worker that falls silent is lost: its shard is run again by
another one, after the others if need be, or recorded as missing. Tokens and starts are stored
before they are sent, so that a successor can go on where a conductor died: it takes over load that
runs, and only a cancelled run or one that has failed is stopped.
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
from services.perf.runs.assignments import Assignment, Assignments, StepOutcome
from services.perf.runs.store import RunStore, Step
from services.perf.runs.wire import Channels, ReadyAnswer, ReadyQuestion, Report, ShardCommand

_LEAD_S = 0.1
"""From the stored start to the start: the time in which the slowest worker hears of it."""
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
    assignments: Assignments
    channels: Channels
    store: RunStore
    clock: Callable[[], float]
    """Unix time, for starts."""
    fence: Fence
    on_news: Callable[[str], None]
    """Takes a line for people: which workers are waited for, which were lost."""
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _listened: float = 0.0

    async def conduct(self, shards: Sequence[Shard], former: Step | None) -> StepOutcome:
        """Runs the step to its end; with `former`, one that a predecessor began.

        Raises `WorkersMissing` when too few workers take part, `ShardsLost` when none of the
        shards could be brought to its end. Load is left running only for a successor.
        """
        self._listened = _now()
        async with self.channels.conduct(
            self.run, on_ready=self._on_ready, on_report=self._on_report
        ):
            try:
                if former is None:
                    await self._begin(shards)
                else:
                    await self._resume(shards, former)
                await self._start()
                await self._wait_for_end()
            except (asyncio.CancelledError, BusUnavailable, LeaseLost):
                if self.fence.is_stopped:
                    await self._stop()
                raise
            except BaseException:
                await self._stop()
                raise
        if all(each.result is None for each in self.assignments.all):
            raise ShardsLost(f"none of the {len(self.assignments.all)} shards came to its end")
        return self.assignments.outcome()

    # --- the stages of a step --------------------------------------------------------------------

    async def _begin(self, shards: Sequence[Shard]) -> None:
        self.assignments.begin(shards, now=_now())
        await self._save()
        for assignment in self.assignments.all:
            await self._publish(assignment)

    async def _resume(self, shards: Sequence[Shard], former: Step) -> None:
        self.assignments.resume(shards, former, now=_now())
        self.on_news("The run goes on under another conductor: the former one was lost")
        for assignment in self.assignments.all:
            if not assignment.is_settled:
                assignment.result = await self.store.shard_result(self.run, assignment.token)
            if not assignment.is_settled and assignment.start_at is None:
                # Under a new token: the old one may have been dropped, and is a duplicate now.
                await self._reassign(assignment)

    async def _start(self) -> None:
        """Waits until a worker has each shard, then stores and gives the common start."""
        if self.assignments.start_at is not None:
            return
        began = _now()
        within_s = self.assignments.timeouts.start_within.total_seconds()
        is_told = False
        while waiting := [each for each in self.assignments.all if not each.worker]:
            if _now() - began > within_s:
                raise WorkersMissing(
                    f"{len(waiting)} of {len(self.assignments.all)} shards found no worker within "
                    f"{within_s:g} s"
                )
            if not is_told and _now() - began > _TELL_AFTER_S:
                is_told = True
                self.on_news(f"Waiting for {len(waiting)} of {len(self.assignments.all)} workers")
            await self._wait_for_news()
            for assignment in self.assignments.all:
                if assignment.worker and self.assignments.is_silent(assignment, now=_now()):
                    await self._reassign(assignment)
        self.assignments.start_at = await self._give_start(self.assignments.all)

    async def _wait_for_end(self) -> None:
        """Until every shard has a result or is missing."""
        collected = _now()
        while not all(each.is_settled for each in self.assignments.all):
            # A report of an end may have been lost.
            is_collecting = _now() - collected > _COLLECT_EVERY_S
            collected = _now() if is_collecting else collected
            for assignment in self.assignments.all:
                if not assignment.is_settled:
                    await self._check(assignment, is_collecting=is_collecting)
            await self._wait_for_news()

    async def _check(self, assignment: Assignment, *, is_collecting: bool) -> None:
        if assignment.worker and assignment.start_at is None:
            await self._give_start([assignment])  # it is run again, and starts by itself
        if assignment.has_ended or (is_collecting and self._is_due(assignment)):
            await self._collect(assignment)
        if not assignment.is_settled and self.assignments.is_silent(assignment, now=_now()):
            await self._handle_loss(assignment)

    def _is_due(self, assignment: Assignment) -> bool:
        start_at = assignment.start_at
        return start_at is not None and self.clock() > start_at + assignment.shard.duration_s

    async def _collect(self, assignment: Assignment) -> None:
        """Takes the shard's result, if it is stored."""
        result = await self.store.shard_result(self.run, assignment.token)
        if result is None:
            return
        is_unable = result.error is not None and result.error.code == GeneratorMissing.code
        if is_unable and assignment.tries < _MOST_ATTEMPTS:
            self.on_news(
                f"Worker {assignment.worker} has no generator {self.generator}; "
                f"shard {assignment.shard.number} goes to another worker"
            )
            await self._reassign(assignment)
            return
        assignment.result = result

    async def _stop(self) -> None:
        """Ends all load; waits a moment for the workers' word that it has ended."""
        self.assignments.is_over = True
        await self.channels.stop(self.run)
        running = [each for each in self.assignments.all if each.is_running]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_STOP_WITHIN_S):
                while not all(each.has_ended for each in running):
                    self._changed.clear()
                    await self._changed.wait()

    # --- workers that come and go ----------------------------------------------------------------

    def _on_ready(self, question: ReadyQuestion) -> ReadyAnswer:
        answer = self.assignments.answer(question, now=_now(), unix=self.clock())
        if answer.start_at is None and not answer.is_over:
            self._changed.set()
        return answer

    def _on_report(self, report: Report) -> None:
        self.assignments.note(report, now=_now())
        if report.has_ended:
            self._changed.set()

    async def _give_start(self, assignments: Sequence[Assignment]) -> float:
        """Stores a start for these shards; their workers get it with their next question."""
        start_at = self.clock() + _LEAD_S
        for assignment in assignments:
            assignment.start_at = start_at
        await self._save()
        if self.clock() > start_at - _LEAD_S / 2:  # storing has eaten the lead
            return await self._give_start(assignments)
        for assignment in assignments:
            assignment.is_stored = True
        return start_at

    async def _handle_loss(self, assignment: Assignment) -> None:
        await self._collect(assignment)
        if assignment.is_settled or not self.assignments.is_silent(assignment, now=_now()):
            return
        self.fence.check()
        worker = f"Worker {assignment.worker} was lost" if assignment.worker else "No worker came"
        shard = f"shard {assignment.shard.number} of {len(self.assignments.all)}"
        if self.on_lost_worker is LostWorker.RERUN and assignment.tries < _MOST_ATTEMPTS:
            self.on_news(f"{worker}; {shard} runs again")
            await self._reassign(assignment)
            return
        self.on_news(f"{worker}; {shard} is missing")
        self.assignments.give_up(assignment, now=_now())
        await self._save()

    async def _reassign(self, assignment: Assignment) -> None:
        """Hands the shard to another worker; one that lost its claim must not."""
        self.fence.check()
        self.assignments.reassign(assignment, now=_now())
        await self._save()
        await self._publish(assignment)

    # --- the rest --------------------------------------------------------------------------------

    async def _publish(self, assignment: Assignment) -> None:
        load_s = timedelta(seconds=assignment.shard.duration_s + 5)
        may_wait = self.assignments.timeouts.start_within + load_s
        await self.channels.publish(
            ShardCommand(
                run=self.run,
                token=assignment.token,
                shard=assignment.shard,
                generator=self.generator,
                interval_s=self.assignments.interval_s,
                deadline=datetime.fromtimestamp(self.clock(), timezone.utc) + may_wait,
            )
        )

    async def _save(self) -> None:
        await self.store.save_step(self.run, self.assignments.step())

    async def _wait_for_news(self) -> None:
        """Until something changed, or it is time; raises when the claim on the run is lost."""
        self._changed.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_POLL_S):
                await self._changed.wait()
        now = _now()
        if now - self._listened > _DEAF_S or not self.channels.is_connected:
            self.assignments.forgive_silence(now)
        self._listened = now
        self.fence.check()


def _now() -> float:
    return asyncio.get_running_loop().time()
