"""A worker's part of a run: takes a shard, starts with the others, reports, stores the result.

The shard's message stays unacknowledged while it runs, so that an autoscaler that reads the length
of the queue sees the work. But a redelivery never runs it again by itself, because only the
conductor knows whether the counts are still wanted: each attempt has a token, and one worker for
it.

Workers start together by the conductor's clock. Each one measures how far its own clock is from it
with the exchange in which it asks for the start, as NTP does (RFC 5905 §8): the answer was given
somewhere between sending and receiving, so half of the round trip bounds the error, and the fastest
exchange is the best one.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Protocol

import structlog

from services.chassis.bus import envelopes
from services.chassis.bus.pulling import Delivery, heartbeats, reading
from services.chassis.errors import (
    BusUnavailable,
    GeneratorMissing,
    InternalError,
    MeshbusError,
    OperationCancelled,
)
from services.chassis.messages import ErrorReport
from services.chassis.operations.completion import first_error
from services.chassis.sealing import Keys
from services.chassis.telemetry import metrics, traces
from services.perf.definitions.loads import GeneratorName, Load, Target
from services.perf.measurements.measurements import Part
from services.perf.measurements.tallies import IntervalMessage, Tally
from services.perf.runs.store import RunStore
from services.perf.runs.wire import Channels, ReadyQuestion, Report, ShardCommand, ShardResult

_ASK_EVERY_S = 0.05
_CHECK_EVERY_S = 1.0
_STORE_WITHIN_S = 600.0
_STORE_PAUSE_S = 1.0
_REPORT_EVERY_S = 1.0

log = structlog.get_logger(__name__)


class Generator(Protocol):
    """Makes the load of one process and counts the answers.

    `run` fills `tally` while the load runs, so that a report each second can be taken from it;
    `offset_s` is added to every request's time, so that later stages follow the earlier ones. It
    returns when the generator has ended by itself. Cancelled, it ends the process, and everything
    that the process started, before it returns. It raises

    * `GeneratorMissing` when the program is not installed,
    * `LoadTestMalformed` for a load that the generator cannot make,
    * a `TargetError` (unreachable, unknown name, TLS) when not one request was answered,
    * `GeneratorFailed` for any other failure, with what the program's stderr says.
    """

    def check(self, load: Load) -> None:
        """Raises the errors that `run` raises before it starts a process."""

    async def run(self, load: Load, tally: Tally, *, offset_s: float = 0.0) -> None: ...


@dataclass(slots=True)
class _ClockOffset:
    """How far this machine's clock is from the conductor's. Times are Unix seconds."""

    error_s: float = float("inf")
    """The true offset differs by at most so much."""
    seconds: float = 0.0
    """To be subtracted from the conductor's time to get ours."""

    def measure(self, *, sent: float, conductor: float, received: float) -> None:
        """Takes one exchange: sent and received by our clock, answered by the conductor's."""
        error_s = max(0.0, received - sent) / 2
        if error_s < self.error_s:
            self.error_s = error_s
            self.seconds = conductor - (sent + received) / 2


@dataclass(slots=True)
class _RunningShard:
    """A shard that this worker makes load for."""

    command: ShardCommand
    began: float = 0.0
    """When its load began, in the loop's time."""
    tallies: dict[tuple[int, int], Tally] = field(default_factory=dict)
    """By the stage's and the target's index."""
    reported: int = 0
    """Index of the first interval that may have changed since the last report."""

    def tally(self, stage: int, target: int) -> Tally:
        return self.tallies.setdefault((stage, target), Tally(interval_s=self.command.interval_s))

    @property
    def requests(self) -> int:
        return sum(tally.requests for tally in self.tallies.values())

    @property
    def failed(self) -> int:
        return sum(tally.failed for tally in self.tallies.values())

    @property
    def seconds(self) -> float:
        """From the first request to the last answer; of a load without any, until now.

        How long the generator's process takes to come up is no part of the load.
        """
        tallies = self.tallies.values()
        began = [tally.began_s for tally in tallies if tally.began_s is not None]
        ended = max((tally.ended_s for tally in tallies), default=0.0)
        if ended or not self.began:
            return ended - min(began, default=0.0)
        return asyncio.get_running_loop().time() - self.began

    def fresh(self) -> list[IntervalMessage]:
        """The intervals since the last report, over all loads."""
        total = Tally(interval_s=self.command.interval_s)
        for tally in self.tallies.values():
            for message in tally.interval_messages(since=self.reported):
                part = Tally(interval_s=self.command.interval_s)
                part.add_interval(message)
                total.merge(part)
        messages = total.interval_messages()
        if messages:
            # Requests that are under way yet belong to the interval in which they began.
            self.reported = max(self.reported, messages[-1].index - 1)
        return messages

    def parts(self) -> list[Part]:
        return [
            Part(stage=stage, target=target, tally=tally.message())
            for (stage, target), tally in sorted(self.tallies.items())
        ]


@dataclass(slots=True, kw_only=True)
class ShardWorker:
    """Handles the messages of `cmd.perf.<run>.<token>`."""

    worker: str
    generators: Mapping[GeneratorName, Generator]
    channels: Channels
    store: RunStore
    metrics: metrics.Metrics
    ack_wait: timedelta
    slots: int
    admit: Callable[[Target], Awaitable[None]]
    """Raises for a target that no load is made against, when it is about to begin."""
    keys: Keys = envelopes.NO_KEYS
    _busy: int = 0
    _begun: set[tuple[str, str]] = field(default_factory=set)
    """Runs and tokens whose load this worker has made: a redelivery makes none again."""

    @property
    def free(self) -> int:
        """Shards that this worker could take now."""
        return self.slots - self._busy

    async def handle(self, delivery: Delivery) -> None:
        """One shard; returning means that it is done with, or not wanted."""
        with reading(delivery):
            command = envelopes.decode(
                ShardCommand, delivery.message.data, delivery.headers, keys=self.keys
            )
        with (
            traces.continued(
                "process cmd.perf shard",
                headers=delivery.headers,
                attributes={"messaging.message.conversation_id": command.run},
            ),
            structlog.contextvars.bound_contextvars(operation=command.run, shard=command.token),
        ):
            self._busy += 1
            self.metrics.add(metrics.SHARDS, 1)
            try:
                async with heartbeats(delivery, ack_wait=self.ack_wait):
                    await self._run(command)
            finally:
                self._busy -= 1
                self.metrics.add(metrics.SHARDS, -1)

    async def _run(self, command: ShardCommand) -> None:
        stopped = asyncio.Event()
        async with self.channels.stopping(command.run, stopped.set):
            start = await self._wait_for_start(command, stopped)
            if start is None:
                log.info("shard_not_wanted")
                return
            if (command.run, command.token) in self._begun:
                log.info("shard_begun_before")  # the message came again; its load runs or has run
                return
            self._begun.add((command.run, command.token))
            running = _RunningShard(command)
            error = await self._make_load(running, start, stopped)
        result = ShardResult(
            token=command.token,
            worker=self.worker,
            seconds=running.seconds,
            parts=running.parts(),
            error=ErrorReport.of(error) if error else None,
        )
        if not isinstance(error, OperationCancelled):
            await self._store_result(command.run, result)
        await self._report(running, has_ended=True)
        self.metrics.count(metrics.LOAD_REQUESTS, times=running.requests)
        log.info("shard_ended", requests=running.requests, code=error.code if error else "")

    async def _wait_for_start(self, command: ShardCommand, stopped: asyncio.Event) -> float | None:
        """The start in the loop's time; None when the shard is not wanted."""
        question = ReadyQuestion(token=command.token, worker=self.worker)
        offset = _ClockOffset()
        checked = asyncio.get_running_loop().time()
        while not stopped.is_set():
            sent = time.time()
            answer = await self.channels.ready(command.run, question)
            if answer is not None:
                if answer.is_over:
                    return None
                offset.measure(sent=sent, conductor=answer.now, received=time.time())
                if answer.start_at is not None:
                    wait_s = answer.start_at - offset.seconds - time.time()
                    # Our clock may have been set meanwhile: never longer than the conductor said.
                    wait_s = min(wait_s, answer.start_at - answer.now)
                    return asyncio.get_running_loop().time() + wait_s
            elif command.deadline < datetime.now(timezone.utc):
                return None
            elif asyncio.get_running_loop().time() - checked > _CHECK_EVERY_S:
                checked = asyncio.get_running_loop().time()
                if await self._has_ended(command.run):
                    return None
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_ASK_EVERY_S):
                    await stopped.wait()
        return None

    async def _has_ended(self, run: str) -> bool:
        """Whether the run of a conductor that does not answer is known to be over."""
        try:
            record = await self.store.run(run)
        except BusUnavailable:
            return False
        return record is not None and record.state.is_final

    async def _store_result(self, run: str, result: ShardResult) -> None:
        """Stores the result; an outage of the bus must not lose a measurement."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _STORE_WITHIN_S
        while True:
            try:
                await self.store.save_shard_result(run, result)
                return
            except BusUnavailable:
                if loop.time() > deadline:
                    raise
                await asyncio.sleep(_STORE_PAUSE_S)

    async def _make_load(
        self, running: _RunningShard, due: float, stopped: asyncio.Event
    ) -> MeshbusError | None:
        """Runs the stages from `due` on; returns why the load ended early."""
        loop = asyncio.get_running_loop()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, due - loop.time())):
                await stopped.wait()
        running.began = loop.time()
        load = asyncio.create_task(self._run_stages(running), name="load")
        stop = asyncio.create_task(stopped.wait(), name="stop")
        try:
            while not load.done() and not stopped.is_set():
                await asyncio.wait(
                    {load, stop},
                    timeout=_REPORT_EVERY_S,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                if not load.done():
                    await self._report(running)
            if load.done():
                await load
                return None
            return OperationCancelled("the run was stopped")
        except Exception as raised:
            error = first_error(raised)
            log.warning(
                "load_failed",
                code=error.code,
                reason=error.summary,
                exc_info=isinstance(error, InternalError),
            )
            return error
        finally:
            for task in (load, stop):
                task.cancel()
            await asyncio.gather(load, stop, return_exceptions=True)

    async def _run_stages(self, running: _RunningShard) -> None:
        generator = self._generator(running.command.generator)
        targets = {
            load.target.url: load.target for loads in running.command.shard.stages for load in loads
        }
        for target in targets.values():
            await self.admit(target)
        offset_s = 0.0
        for stage, loads in enumerate(running.command.shard.stages):
            async with asyncio.TaskGroup() as group:
                for load in loads:
                    tally = running.tally(stage, load.index)
                    group.create_task(generator.run(load, tally, offset_s=offset_s))
            offset_s = asyncio.get_running_loop().time() - running.began

    def _generator(self, name: GeneratorName) -> Generator:
        found = self.generators.get(name)
        if found is None:
            raise GeneratorMissing(f"the generator {name} is not installed here")
        return found

    async def _report(self, running: _RunningShard, *, has_ended: bool = False) -> None:
        await self.channels.report(
            running.command.run,
            Report(
                token=running.command.token,
                worker=self.worker,
                requests=running.requests,
                failed=running.failed,
                intervals=running.fresh(),
                has_ended=has_ended,
            ),
        )
