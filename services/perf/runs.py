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
from datetime import datetime, timedelta, timezone
from urllib.parse import urlsplit

import structlog

from services.chassis.errors import (
    GeneratorMissing,
    MeshbusError,
    OperationCancelled,
)
from services.chassis.messages import ErrorReport
from services.perf.baselines import fingerprint
from services.perf.conducting import Conductor, Patience, StepOutcome
from services.perf.correlation import Metrics, correlate
from services.perf.loads import LoadTest, Objective, Stage
from services.perf.measurements import (
    Measurement,
    Part,
    StageResult,
    TargetResult,
    interval_of,
    merged,
)
from services.perf.ports import Channels, Clock, Store
from services.perf.saturating import Search, judge
from services.perf.sharding import shards
from services.perf.tallies import Tally
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
        done = sum(_requests(outcome.parts) for _, outcome in self.outcomes)
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
        measurement = _measurement(running, fingerprint=print_of_mesh, saturation_rate=rate)
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
            "started": _time(conductor.start_at),
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
        f"p99 {record.p99_ms:.3g} ms"
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


def _measurement(running: _Run, *, fingerprint: str, saturation_rate: float | None) -> Measurement:
    test, work = running.test, running.work
    interval_s = running.interval_s
    outcomes = [outcome for _, outcome in running.outcomes]
    parts = [part for outcome in outcomes for part in outcome.parts]
    seconds = sum(outcome.seconds for outcome in outcomes)
    planned = [stage for stages, _ in running.outcomes for stage in stages]
    requested_s = sum(stage.duration_s for stage in planned)
    asked = sum(stage.rate * stage.duration_s for stage in planned)
    total = merged((part.tally for part in parts), interval_s=interval_s)
    missing = [hole for outcome in outcomes for hole in outcome.missing]
    return Measurement(
        run=running.record.run,
        name=test.name,
        generator=test.generator,
        protocol=test.targets[0].protocol,
        mesh=test.mesh,
        service=test.service or _service(test.targets[0].url),
        cluster=work.command.cluster_name if work.mesh is not None else "",
        fingerprint=fingerprint,
        labels=test.labels,
        started=_time(outcomes[0].start_at),
        duration_s=round(seconds, 3),
        requested_duration_s=requested_s,
        requested_rate=asked / requested_s if requested_s else 0.0,
        connections=test.connections,
        workers=len({worker for outcome in outcomes for worker in outcome.workers}),
        rerun=sorted({shard for outcome in outcomes for shard in outcome.rerun}),
        missing=missing,
        warnings=_warnings(test, total, outcomes, seconds=seconds, asked=asked),
        stages=_stages(running),
        targets=[
            TargetResult(
                url=public_url(target.url),
                weight=target.weight,
                tally=merged(
                    (part.tally for part in parts if part.target == index), interval_s=interval_s
                ).message(),
            )
            for index, target in enumerate(test.targets)
        ],
        tally=total.message(),
        saturation_rate=saturation_rate,
    )


def _stages(running: _Run) -> list[StageResult]:
    """One result for each stage. Stages of one step share its time in proportion."""
    results = []
    objective = running.test.objective
    for stages, outcome in running.outcomes:
        planned_s = sum(stage.duration_s for stage in stages)
        for index, stage in enumerate(stages):
            tally = merged(
                (part.tally for part in outcome.parts if part.stage == index),
                interval_s=running.interval_s,
            )
            seconds = outcome.seconds * stage.duration_s / planned_s
            holds, reason = None, ""
            if objective is not None:
                holds, reason = judge(stage, tally, duration_s=seconds, objective=objective)
            results.append(
                StageResult(
                    rate=stage.rate,
                    duration_s=stage.duration_s,
                    actual_rate=round(tally.requests / seconds, 3) if seconds else 0.0,
                    tally=tally.message(),
                    holds=holds,
                    reason=reason,
                )
            )
    return results


def _warnings(
    test: LoadTest,
    total: Tally,
    outcomes: Sequence[StepOutcome],
    *,
    seconds: float,
    asked: float,
) -> list[str]:
    lines = []
    if asked and total.requests < 0.99 * asked:
        lines.append(f"{total.requests} of {asked:.0f} requests were sent")
    elif asked and test.saturation is None and seconds > 1.02 * asked / _rate(test) + 0.5:
        lines.append(
            f"the requests took {seconds:.1f} s instead of {asked / _rate(test):.0f} s: the rate "
            "was not reached with these connections"
        )
    waited = total.responses.percentile_us(99) - total.durations.percentile_us(99)
    if waited > max(5_000, total.durations.percentile_us(99) // 2):
        lines.append(
            "requests waited for the ones before them: the response times, which begin when each "
            "request was due, tell more than the durations"
        )
    if total.failed:
        share = total.failed / max(1, total.requests)
        lines.append(f"{total.failed} requests failed ({share:.2%})")
    lines += [
        f"a generator ended early: {outcome.error.summary}" for outcome in outcomes if outcome.error
    ]
    rerun = sorted({shard for outcome in outcomes for shard in outcome.rerun})
    if rerun:
        lines.append(f"shards {rerun} ran again, after the others: their workers were lost")
    return lines


def _rate(test: LoadTest) -> float:
    duration_s = sum(stage.duration_s for stage in test.stages)
    return sum(stage.rate * stage.duration_s for stage in test.stages) / duration_s


def _requests(parts: Sequence[Part]) -> int:
    return sum(sum(part.tally.durations.counts) for part in parts)


def _service(url: str) -> str:
    """`name.namespace` from a host of the form that Kubernetes gives to Services; else the host."""
    host = urlsplit(url if "//" in url else f"//{url}").hostname or ""
    name = host.split(".")
    return ".".join(name[:2]) if len(name) > 2 and name[2] == "svc" else host


def public_url(url: str) -> str:
    """The URL without what may hold a secret: user information, query, fragment."""
    if "//" not in url:
        return url
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, timezone.utc)
