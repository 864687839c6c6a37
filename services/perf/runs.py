"""Runs: a test from its shards to its result.

A run that is asked for again under the same id is not made again: what was measured is read back,
and what was interrupted goes on. That is what makes a redelivered command harmless, and lets a gate
be taken over by another worker between two of its runs.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta

import structlog

from services.chassis.errors import (
    GeneratorMissing,
    MeshbusError,
    OperationCancelled,
)
from services.chassis.messages import ErrorReport
from services.perf.baselines import fingerprint
from services.perf.conducting import Conductor
from services.perf.correlation import Metrics, correlate
from services.perf.loads import LoadTest, Objective, Stage
from services.perf.measurements import (
    Measurement,
    interval_of,
    merged,
)
from services.perf.ports import Channels, Clock, Store
from services.perf.results import told_ms
from services.perf.saturating import Search, judge
from services.perf.seats import Patience, StepOutcome
from services.perf.sharding import shards
from services.perf.summing import measured_by, requests_in, time_of
from services.perf.wire import RunRecord
from services.perf.work import Mesh, Work

_RECENT_INTERVALS = 5
_FACTS_WITHIN_S = 10.0

log = structlog.get_logger(__name__)


@dataclass(slots=True, kw_only=True)
class _Run:
    """One run under way."""

    work: Work
    test: LoadTest
    record: RunRecord
    interval_s: float
    workers: int
    outcomes: list[tuple[Sequence[Stage], StepOutcome]] = field(default_factory=list)
    conductor: Conductor | None = None
    steps: int = 0

    @property
    def requests(self) -> int:
        done = sum(requests_in(outcome.parts) for _, outcome in self.outcomes)
        return done + (self.conductor.requests if self.conductor else 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Runs:
    """Makes runs with whatever workers are there."""

    channels: Channels
    store: Store
    clock: Clock
    patience: Patience
    progress_every: timedelta
    scrape_interval: timedelta
    """Of Prometheus: for so long after a run its last requests may not be seen."""
    metrics_of: Callable[[str], Metrics | None]
    """Telemetry by the base URL that a test names; "" stands for the configured one."""

    async def measured(self, work: Work, test: LoadTest, *, run: str) -> Measurement:
        """Runs `test` to its end and keeps the result; a run that is kept is only read."""
        kept = await self.store.measurement(run)
        if kept is not None:
            return kept
        record = RunRecord(
            run=run,
            kind=work.command.kind,
            cluster=work.command.cluster_name or work.command.cluster,
            name=test.name,
            duration_s=test.duration_s,
            state="waiting",
        )
        await self.store.save_run(record)
        try:
            return await self._measured(work, test, record)
        except MeshbusError as error:
            state = "cancelled" if isinstance(error, OperationCancelled) else "failed"
            await self.store.save_run(
                record.model_copy(update={"state": state, "error": ErrorReport.of(error)})
            )
            raise

    async def _measured(self, work: Work, test: LoadTest, record: RunRecord) -> Measurement:
        metrics = self.metrics_of(test.prometheus)  # a bad address is told before the load
        workers, print_of_mesh = await asyncio.gather(self._workers(test), _fingerprint(work.mesh))
        running = _Run(
            work=work,
            test=test,
            record=record,
            interval_s=interval_of(test.duration_s),
            workers=workers,
        )
        async with self._told(running):
            if test.saturation is not None:
                rate = await self._searched(running, test.objective or Objective())
            else:
                rate = None
                await self._step(running, test.stages)
        measurement = measured_by(
            test,
            running.outcomes,
            run=record.run,
            cluster=work.command.cluster_name if work.mesh is not None else "",
            fingerprint=print_of_mesh,
            saturation_rate=rate,
            interval_s=running.interval_s,
        )
        _refuse_unanswered(running, measurement)
        correlation = await self._correlation(work, metrics, measurement)
        measurement = measurement.model_copy(update={"correlation": correlation})
        name = await self.store.save_measurement(measurement)
        await self.store.save_run(
            record.model_copy(
                update={
                    "state": "done",
                    "started": measurement.started,
                    "elapsed_s": measurement.duration_s,
                    "requests": running.requests,
                    "result": name,
                    "missing": measurement.missing,
                }
            )
        )
        return measurement

    async def _workers(self, test: LoadTest) -> int:
        """How many shards to cut; raises `GeneratorMissing` when nobody could make the load."""
        if test.workers:
            return test.workers
        answers = await self.channels.roll_call()
        able = [answer for answer in answers if test.generator in answer.generators]
        if answers and not able:
            raise GeneratorMissing(f"no perf worker has the generator {test.generator}")
        return max(1, sum(answer.free for answer in able))

    # --- steps -----------------------------------------------------------------------------------

    async def _step(self, running: _Run, stages: Sequence[Stage]) -> StepOutcome:
        cut = shards(running.test, running.workers, stages=stages)
        running.steps += 1
        conductor = Conductor(
            run=running.record.run,
            number=running.steps,
            generator=running.test.generator,
            interval_s=running.interval_s,
            on_lost_worker=running.test.on_lost_worker,
            channels=self.channels,
            store=self.store,
            clock=self.clock,
            patience=self.patience,
            on_stop=lambda: running.work.fence.stop(
                OperationCancelled("the run was cancelled on request")
            ),
            on_news=lambda line: running.work.progress.warn(f"{line}{running.work.place}"),
        )
        running.conductor = conductor
        outcome = await running.work.fence.guard(conductor.conduct(cut))
        running.outcomes.append((stages, outcome))
        running.conductor = None
        return outcome

    async def _searched(self, running: _Run, objective: Objective) -> float:
        """The highest rate that holds the objective; 0 when not even the lowest does."""
        saturation = running.test.saturation
        assert saturation is not None
        search = Search(saturation)
        while (rate := search.next_rate()) is not None:
            stage = Stage(rate=rate, duration_s=saturation.step_duration_s)
            outcome = await self._step(running, [stage])
            tally = merged((p.tally for p in outcome.parts), interval_s=running.interval_s)
            holds, reason = judge(stage, tally, duration_s=outcome.seconds, objective=objective)
            search.record(rate, holds)
            told = "holds" if holds else f"does not hold: {reason}"
            running.work.progress.note(f"{rate:g} requests/s {told}{running.work.place}")
        return search.result

    # --- progress --------------------------------------------------------------------------------

    @asynccontextmanager
    async def _told(self, running: _Run) -> AsyncIterator[None]:
        """Tells how the run goes, each second in its record and less often as events."""

        async def tell() -> None:
            loop = asyncio.get_running_loop()
            told = loop.time()
            while True:
                await asyncio.sleep(1.0)
                record = _live(running, now=self.clock())
                await self.store.save_run(record)
                is_due = loop.time() - told >= self.progress_every.total_seconds()
                if is_due and record.state == "running":
                    told = loop.time()
                    running.work.progress.note(_line(record) + running.work.place)

        telling = asyncio.create_task(tell(), name="run-progress")
        try:
            yield
        finally:
            telling.cancel()
            with contextlib.suppress(asyncio.CancelledError, MeshbusError):
                await telling

    async def _correlation(
        self, work: Work, metrics: Metrics | None, measurement: Measurement
    ) -> dict[str, object] | None:
        """What telemetry says; it is asked after the scrape that sees the run's last requests."""
        if metrics is None:
            return None
        ended = measurement.started + timedelta(seconds=measurement.duration_s)
        scraped = ended + self.scrape_interval
        wait_s = scraped.timestamp() - self.clock()
        await work.fence.guard(asyncio.sleep(max(0.0, wait_s)))
        verdict = await correlate(
            metrics, measurement=measurement, window=(measurement.started, scraped)
        )
        first, *others = verdict.told().splitlines()
        work.progress.note(f"Telemetry: {first}{work.place}", "\n".join(others))
        return verdict.model_dump(mode="json")


def _live(running: _Run, *, now: float) -> RunRecord:
    conductor = running.conductor
    if conductor is None or conductor.start_at is None:
        return running.record
    recent = conductor.recent(_RECENT_INTERVALS)
    span_s = running.interval_s * _RECENT_INTERVALS
    return running.record.model_copy(
        update={
            "state": "running",
            "started": time_of(conductor.start_at),
            "elapsed_s": round(max(0.0, now - conductor.start_at), 1),
            "workers": conductor.workers,
            "requests": running.requests,
            "failed": conductor.failed,
            "rate": round(recent.requests / span_s, 1),
            "p99_ms": recent.durations.percentile_us(99) / 1000,
        }
    )


def _line(record: RunRecord) -> str:
    failed = f", {record.failed} failed" if record.failed else ""
    return (
        f"{record.elapsed_s:.0f} of {record.duration_s:.0f} s: {record.requests} requests{failed}, "
        f"p99 {told_ms(record.p99_ms)} ms"
    )


async def _fingerprint(mesh: Mesh | None) -> str:
    """Of the mesh's configuration; "" when it cannot be read, which is no reason not to test."""
    if mesh is None:
        return ""
    try:
        async with asyncio.timeout(_FACTS_WITHIN_S):
            served = await mesh.facts()
            facts = await mesh.facts(kinds=served.configuration_kinds())
    except (MeshbusError, TimeoutError) as error:
        log.warning("configuration_unknown", reason=str(error))
        return ""
    return fingerprint(facts.objects, [found.version for found in facts.meshes])


def _refuse_unanswered(running: _Run, measurement: Measurement) -> None:
    """Raises why, when a generator failed and not one request was answered."""
    errors = [outcome.error for _, outcome in running.outcomes if outcome.error is not None]
    tally = measurement.tally
    if errors and sum(tally.failures.counts) == sum(tally.durations.counts):
        raise errors[0]
