"""Runs a test, from its shards to its result.

A run that is asked for again under the same id is not made again: its measurement is read back, or
it goes on where it was interrupted. That makes a redelivered command harmless, and lets another
worker take a gate over between two of its runs.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import structlog

from services.chassis.errors import (
    BusUnavailable,
    GeneratorMissing,
    LeaseLost,
    MeshbusError,
    WorkersMissing,
)
from services.chassis.operations.completion import first_error
from services.chassis.prometheus import Metrics
from services.perf.comparison.baselines import fingerprint
from services.perf.definitions.allowance import Allowance
from services.perf.definitions.loads import LoadTest, Objective, Shard, Stage
from services.perf.measurements.histograms import Histogram
from services.perf.measurements.measurements import Measurement, interval_of
from services.perf.measurements.tallies import merged
from services.perf.results.summaries import format_ms
from services.perf.runs.assignments import Assignments, StepOutcome, Timeouts
from services.perf.runs.conductor import Conductor
from services.perf.runs.saturation import Search, judge
from services.perf.runs.sharding import shards
from services.perf.runs.store import RunRecord, RunState, RunStore, Sample, Step
from services.perf.runs.summing import measured_by, requests_in, time_of
from services.perf.runs.wire import Channels
from services.perf.runs.work import Mesh, Work
from services.perf.telemetry.correlation import correlate

_FACTS_WITHIN_S = 10.0
_MOST_UNSURE_STEPS = 2
_RECENT_INTERVALS = 5
_MOST_SAMPLES = 240
_MOST_CODES = 8

log = structlog.get_logger(__name__)


@dataclass(slots=True, kw_only=True)
class _Run:
    """One run under way."""

    work: Work
    test: LoadTest
    record: RunRecord
    interval_s: float
    outcomes: list[tuple[Sequence[Stage], StepOutcome]] = field(default_factory=list)
    assignments: Assignments | None = None
    """Of the running step."""
    steps: int = 0
    curve: list[Sample] = field(default_factory=list)
    """Of the running step; thinned out when it grows long."""
    told: RunRecord = field(init=False)
    """Where it was when that was stored last: what stays of a run that ends without a result."""

    def __post_init__(self) -> None:
        self.told = self.record

    def status(self, now: float) -> RunRecord:
        """The record with the counts of earlier steps and the reports of the running one."""
        before = sum(requests_in(outcome.parts) for _, outcome in self.outcomes)
        step = self.assignments
        if step is None or step.start_at is None:
            return self.record.model_copy(update={"requests": before})
        recent = step.recent(_RECENT_INTERVALS)
        elapsed_s = max(0.0, now - step.start_at)
        span_s = max(step.interval_s, min(step.interval_s * _RECENT_INTERVALS, elapsed_s))
        is_known = bool(recent.durations.count)
        return self.record.model_copy(
            update={
                "state": RunState.RUNNING,
                "started": time_of(step.start_at),
                "elapsed_s": round(elapsed_s, 1),
                "workers": step.workers,
                "requests": before + step.requests,
                "failed": step.failed,
                "rate": round(recent.durations.count / span_s, 1) if is_known else None,
                "p99_ms": recent.durations.percentile_us(99) / 1000 if is_known else None,
                "codes": dict(recent.codes.most_common(_MOST_CODES)),
                "curve": self.curve,
            }
        )

    def note(self, status: RunRecord) -> RunRecord:
        """Adds where the run is to its curve; returns the status with it, as it is told."""
        self.told = status
        if status.rate is None or status.p99_ms is None or self.assignments is None:
            return status
        recent = self.assignments.recent(_RECENT_INTERVALS)
        sample = Sample(
            at_s=status.elapsed_s,
            rate=status.rate,
            p50_ms=recent.durations.percentile_us(50) / 1000,
            p99_ms=status.p99_ms,
            failed=status.failed,
        )
        if self.curve and sample.at_s < self.curve[-1].at_s:
            self.curve = []  # of the step before
        self.curve = [*self.curve, sample]
        if len(self.curve) > _MOST_SAMPLES:
            self.curve = self.curve[::2]
        self.told = status.model_copy(update={"curve": self.curve})
        return self.told


@dataclass(frozen=True, slots=True, kw_only=True)
class Runs:
    """Makes runs with the workers that are free."""

    channels: Channels
    store: RunStore
    clock: Callable[[], float]
    """Unix time."""
    timeouts: Timeouts
    progress_every: timedelta
    scrape_interval: timedelta
    """Of Prometheus: for so long after a run its last requests may not be seen."""
    metrics_of: Callable[[str], Metrics | None]
    """Telemetry by the base URL that a test names; "" stands for the configured one."""
    metrics_of_cluster: Callable[[str], Coroutine[Any, Any, Metrics | None]]
    """The telemetry that the test's own cluster has, where no address is named or configured."""
    allowance: Allowance

    async def measure(self, work: Work, test: LoadTest, *, run: str) -> Measurement:
        """Runs `test` to its end and stores the result; a stored run is only read."""
        kept = await self.store.measurement(run)
        if kept is not None:
            return kept
        known = await self.store.run(run) or RunRecord.of(work.command, run=run)
        record = RunRecord.of(
            work.command,
            run=run,
            test=known.test,
            name=test.name,
            asked=known.asked,
            duration_s=test.duration_s,
            state=RunState.WAITING,
        )
        await self.store.save_run(record)
        running = _Run(
            work=work,
            test=test,
            record=record,
            interval_s=interval_of(test.duration_s),
            curve=known.curve,  # of a worker that was lost
        )
        try:
            return await self._measure(running)
        except Exception as raised:
            error = first_error(raised)
            if isinstance(error, LeaseLost | BusUnavailable):
                raise  # the run goes on, here or in another worker
            await self.store.save_run(running.told.ended_by(error))
            raise

    async def _measure(self, running: _Run) -> Measurement:
        work, test, record = running.work, running.test, running.record
        self.allowance.check(test)
        metrics = self.metrics_of(test.prometheus)  # a bad address is refused before the load
        if work.mesh is not None and await self.store.step(record.run, 1) is None:
            # A test that names a cluster is of somebody who has one.
            await work.fence.guard(work.mesh.facts())
        mesh_fingerprint = await work.fence.guard(_fingerprint(work.mesh))
        rate = None
        async with self._reporting(running):
            if test.saturation is not None:
                rate = await self._search_saturation(running, test.objective or Objective())
            else:
                outcome = await self._run_step(running, test.stages)
                running.outcomes.append((test.stages, outcome))
        measurement = measured_by(
            test,
            running.outcomes,
            run=record.run,
            cluster=work.command.cluster_name if work.mesh is not None else "",
            fingerprint=mesh_fingerprint,
            saturation_rate=rate,
            interval_s=running.interval_s,
        )
        _refuse_unanswered(running, measurement)
        correlation = await self._correlate(work, metrics, measurement)
        workers = sorted({w for _, outcome in running.outcomes for w in outcome.workers})
        return await self._keep(
            record.model_copy(update={"workers": workers}),
            measurement.model_copy(update={"correlation": correlation}),
        )

    async def _keep(self, record: RunRecord, measurement: Measurement) -> Measurement:
        name = await self.store.save_measurement(measurement)
        done = {
            "state": RunState.DONE,
            "started": measurement.started,
            "elapsed_s": measurement.duration_s,
            "requests": measurement.tally.requests,
            "failed": measurement.tally.failed,
            "rate": round(measurement.actual_rate, 1),
            "p99_ms": Histogram.of(measurement.tally.durations).percentile_us(99) / 1000,
            "result": name,
            "missing": measurement.missing,
        }
        await self.store.save_run(record.model_copy(update=done))
        return measurement

    # --- steps -----------------------------------------------------------------------------------

    async def _run_step(self, running: _Run, stages: Sequence[Stage]) -> StepOutcome:
        """Runs shards that start together, or goes on with a step that a predecessor began."""
        test = running.test
        running.steps += 1
        former = await self.store.step(running.record.run, running.steps)
        workers = len(former.attempts) if former else test.workers or await self._free_workers(test)
        while True:
            cut = shards(test, workers, stages=stages)
            try:
                return await self._conduct(running, cut, former)
            except WorkersMissing:
                present = len(running.assignments.workers) if running.assignments else 0
                if test.workers or not await self.channels.roll_call():
                    raise
                # Other runs took the workers that were free a moment ago.
                if present:
                    running.work.warn(f"{present} of {workers} workers came; they share the load")
                else:
                    running.work.warn("All workers are busy with other runs; the run waits")
                workers = max(1, present)
                running.steps += 1
                former = await self.store.step(running.record.run, running.steps)

    async def _conduct(
        self, running: _Run, cut: Sequence[Shard], former: Step | None
    ) -> StepOutcome:
        assignments = Assignments(
            number=running.steps, interval_s=running.interval_s, timeouts=self.timeouts
        )
        running.assignments = assignments
        conductor = Conductor(
            run=running.record.run,
            generator=running.test.generator,
            on_lost_worker=running.test.on_lost_worker,
            assignments=assignments,
            channels=self.channels,
            store=self.store,
            clock=self.clock,
            fence=running.work.fence,
            on_news=running.work.warn,
        )
        return await running.work.fence.guard(conductor.conduct(cut, former))

    async def _free_workers(self, test: LoadTest) -> int:
        """How many workers could take shards; raises `GeneratorMissing` when none could."""
        answers = await self.channels.roll_call()
        able = [answer for answer in answers if test.generator in answer.generators]
        if answers and not able:
            raise GeneratorMissing(f"no perf worker has the generator {test.generator}")
        return max(1, sum(answer.free for answer in able))

    async def _search_saturation(self, running: _Run, objective: Objective) -> float:
        """The highest rate that holds the objective; 0 when not even the lowest does."""
        saturation = running.test.saturation
        assert saturation is not None
        search = Search(saturation)
        unsure = 0
        while (rate := search.next_rate()) is not None:
            stage = Stage(rate=rate, duration_s=saturation.step_duration_s)
            outcome = await self._run_step(running, [stage])
            if (outcome.rerun or outcome.missing) and unsure < _MOST_UNSURE_STEPS:
                unsure += 1  # its load was not there at one time, so it says nothing about the rate
                running.work.warn(f"{rate:g} requests/s is tried again: a worker was lost")
                continue
            running.outcomes.append(([stage], outcome))
            tally = merged((p.tally for p in outcome.parts), interval_s=running.interval_s)
            holds, reason = judge(stage, tally, duration_s=outcome.seconds, objective=objective)
            search.record(rate, holds)
            verdict = "holds" if holds else f"does not hold: {reason}"
            running.work.note(f"{rate:g} requests/s {verdict}")
        return search.result

    # --- the rest --------------------------------------------------------------------------------

    @asynccontextmanager
    async def _reporting(self, running: _Run) -> AsyncIterator[None]:
        """Stores the run's status each second for the block; less often, an event tells it."""

        async def report() -> None:
            loop = asyncio.get_running_loop()
            noted = loop.time()
            while True:
                await asyncio.sleep(1.0)
                status = running.note(running.status(self.clock()))
                try:
                    await self.store.save_run(status)
                except BusUnavailable as error:
                    log.warning("status_not_stored", reason=error.summary)
                is_due = loop.time() - noted >= self.progress_every.total_seconds()
                if status.state is RunState.RUNNING and is_due:
                    noted = loop.time()
                    running.work.note(_line(status))

        reporting = asyncio.create_task(report(), name="run-progress")
        try:
            yield
        finally:
            reporting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await reporting

    async def _correlate(
        self, work: Work, metrics: Metrics | None, measurement: Measurement
    ) -> dict[str, object] | None:
        """The verdict of telemetry, asked after the scrape that sees the run's last requests."""
        if metrics is None and work.mesh is not None:
            metrics = await work.fence.guard(self.metrics_of_cluster(work.command.cluster))
        if metrics is None:
            return None
        ended = measurement.started + timedelta(seconds=measurement.duration_s)
        scraped = ended + self.scrape_interval
        wait_s = min(scraped.timestamp() - self.clock(), self.scrape_interval.total_seconds())
        await work.fence.guard(asyncio.sleep(max(0.0, wait_s)))
        verdict = await correlate(
            metrics, measurement=measurement, window=(measurement.started, scraped)
        )
        first, *others = verdict.text().splitlines()
        work.note(f"Telemetry: {first}", "\n".join(others))
        return verdict.model_dump(mode="json")


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
    """Raises the generator's error when it failed and no request was answered."""
    errors = [error for _, outcome in running.outcomes for error in outcome.errors]
    tally = measurement.tally
    if errors and tally.failed == tally.requests:
        raise errors[0]


def _line(record: RunRecord) -> str:
    """One line for people."""
    failed = f", {record.failed} failed" if record.failed else ""
    p99 = f", p99 {format_ms(record.p99_ms)} ms" if record.p99_ms is not None else ""
    return (
        f"{record.elapsed_s:.0f} of {record.duration_s:.0f} s: "
        f"{record.requests} requests{failed}{p99}"
    )
