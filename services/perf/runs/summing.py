"""Adds up the steps of a run to its measurement."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timezone

from services.perf.definitions.loads import LoadTest, Stage
from services.perf.measurements.measurements import (
    Measurement,
    Part,
    StageResult,
    TargetResult,
)
from services.perf.measurements.tallies import Tally, merged
from services.perf.runs.assignments import StepOutcome
from services.perf.runs.saturation import judge

_LATE = 0.02
_LATE_S = 0.5
_WAITED_US = 5_000

Outcomes = Sequence[tuple[Sequence[Stage], StepOutcome]]
"""The steps of a run, each with the stages that it had."""
_Place = tuple[int, int, int]
"""Indexes of step, stage and target."""


def measured_by(
    test: LoadTest,
    outcomes: Outcomes,
    *,
    run: str,
    cluster: str,
    fingerprint: str,
    saturation_rate: float | None,
    interval_s: float,
) -> Measurement:
    """The measurement of a run whose steps are all ended."""
    steps = [outcome for _, outcome in outcomes]
    planned = [stage for stages, _ in outcomes for stage in stages]
    requested_s = sum(stage.duration_s for stage in planned)
    asked = sum(stage.rate * stage.duration_s for stage in planned)
    seconds = sum(step.seconds for step in steps)
    tallies = _tallies(outcomes, interval_s=interval_s)
    total = _sum(tallies.values(), interval_s=interval_s)
    return Measurement(
        run=run,
        name=test.name,
        generator=test.generator,
        protocol=test.targets[0].protocol,
        mesh=test.mesh,
        service=test.service or test.targets[0].service,
        cluster=cluster,
        fingerprint=fingerprint,
        labels=test.labels,
        started=time_of(steps[0].start_at),
        duration_s=round(seconds, 3),
        requested_duration_s=requested_s,
        requested_rate=asked / requested_s if requested_s else 0.0,
        connections=test.connections,
        workers=len({worker for step in steps for worker in step.workers}),
        rerun=sorted({shard for step in steps for shard in step.rerun}),
        missing=[shard for step in steps for shard in step.missing],
        ended_early=sum(len(step.errors) for step in steps),
        warnings=_warnings(test, total, steps, seconds=seconds, asked=asked),
        stages=_stages(test, outcomes, tallies, interval_s=interval_s),
        targets=[
            TargetResult(
                url=target.public_url,
                weight=target.weight,
                tally=_sum(
                    (tally for (_, _, which), tally in tallies.items() if which == index),
                    interval_s=interval_s,
                ).message(),
            )
            for index, target in enumerate(test.targets)
        ],
        tally=total.message(),
        saturation_rate=saturation_rate,
    )


def _tallies(outcomes: Outcomes, *, interval_s: float) -> Mapping[_Place, Tally]:
    """The shards merged, by step, stage and target. Steps follow each other in time."""
    found: dict[_Place, Tally] = {}
    shift = 0
    for number, (_, outcome) in enumerate(outcomes):
        for stage, target in sorted({(part.stage, part.target) for part in outcome.parts}):
            parts = [p.tally for p in outcome.parts if (p.stage, p.target) == (stage, target)]
            tally = merged(parts, interval_s=interval_s)
            tally.intervals = {index + shift: i for index, i in tally.intervals.items()}
            found[number, stage, target] = tally
        # A step without any request takes no interval.
        shift = 1 + max((index for t in found.values() for index in t.intervals), default=-1)
    return found


def _sum(tallies: Iterable[Tally], *, interval_s: float) -> Tally:
    total = Tally(interval_s=interval_s)
    for tally in tallies:
        total.merge(tally)
    return total


def _stages(
    test: LoadTest, outcomes: Outcomes, tallies: Mapping[_Place, Tally], *, interval_s: float
) -> list[StageResult]:
    """One result for each stage. Stages of one step share its time in proportion."""
    results = []
    for number, (stages, outcome) in enumerate(outcomes):
        planned_s = sum(stage.duration_s for stage in stages)
        for index, stage in enumerate(stages):
            tally = _sum(
                (t for place, t in tallies.items() if place[:2] == (number, index)),
                interval_s=interval_s,
            )
            seconds = outcome.seconds * stage.duration_s / planned_s
            holds, reason = None, ""
            if test.objective is not None:
                holds, reason = judge(stage, tally, duration_s=seconds, objective=test.objective)
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
    test: LoadTest, total: Tally, steps: Sequence[StepOutcome], *, seconds: float, asked: float
) -> list[str]:
    """Warnings for the reader of the figures."""
    lines = []
    if asked and total.requests < 0.99 * asked:
        lines.append(f"{total.requests} of {asked:.0f} requests were sent")
    elif asked and test.saturation is None:
        planned_s = test.duration_s
        if seconds > planned_s * (1 + _LATE) + _LATE_S:
            lines.append(
                f"the requests took {seconds:.1f} s instead of {planned_s:.0f} s: the rate was not "
                "reached with these connections"
            )
    duration_us = total.durations.percentile_us(99)
    if total.responses.percentile_us(99) - duration_us > max(_WAITED_US, duration_us // 2):
        lines.append(
            "requests waited for the ones before them: the response times, which begin when each "
            "request was due, tell more than the durations"
        )
    if total.failed:
        lines.append(f"{total.failed} requests failed ({total.failed / total.requests:.2%})")
    lines += [f"a generator ended early: {e.summary}" for step in steps for e in step.errors]
    rerun = sorted({shard for step in steps for shard in step.rerun})
    if rerun:
        lines.append(f"shards {rerun} ran again, after the others: their workers were lost")
    return lines


def requests_in(parts: Sequence[Part]) -> int:
    return sum(sum(part.tally.durations.counts) for part in parts)


def time_of(seconds: float) -> datetime:
    """A Unix time."""
    return datetime.fromtimestamp(seconds, timezone.utc)
