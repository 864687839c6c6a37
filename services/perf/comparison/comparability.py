"""Refuses to compare runs that were asked for different load, or did not carry it out whole."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import chain

from services.perf.comparison.metrics import LEAST_ROWS, span
from services.perf.measurements.measurements import Measurement
from services.perf.measurements.tallies import TallyMessage

_LEAST_REQUESTS = 100


def stages(measurement: Measurement) -> list[TallyMessage]:
    """The counts of each stage; a run that has none listed is one stage."""
    return [stage.tally for stage in measurement.stages] or [measurement.tally]


def obstacles(before: Sequence[Measurement], after: Sequence[Measurement]) -> list[str]:
    """Why the runs cannot be compared; empty when they can."""
    if not before or not after:
        return ["there are no runs to compare with" if after else "there are no runs to compare"]
    runs = [*before, *after]
    found = dict.fromkeys(
        chain(
            *(_differences(runs[0], other) for other in runs[1:]), *(_faults(run) for run in runs)
        )
    )
    return list(found) or [*_too_few("before", before), *_too_few("after", after)]


def remarks(before: Sequence[Measurement], after: Sequence[Measurement]) -> list[str]:
    """Notes for the reader that do not forbid the comparison."""
    found = [f"Run {run.run}: a shard ran again, later" for run in _rerun(before, after)]
    if len({run.workers for run in (*before, *after)}) > 1:
        found.append("The runs had different numbers of workers")
    return found


def keeps_rate(before: Sequence[Measurement], after: Sequence[Measurement]) -> bool:
    """Whether the reached rates mean the same; a shard that ran again later halves them."""
    return not any(_rerun(before, after))


def _rerun(*sides: Sequence[Measurement]) -> Iterator[Measurement]:
    return (run for run in chain(*sides) if run.rerun)


def _differences(one: Measurement, other: Measurement) -> Iterator[str]:
    if one.generator != other.generator:
        yield f"different generators: {one.generator} and {other.generator}"
    if one.protocol != other.protocol:
        yield f"different protocols: {one.protocol} and {other.protocol}"
    if one.connections != other.connections:
        yield f"different numbers of connections: {one.connections} and {other.connections}"
    asked, theirs = _asked(one), _asked(other)
    if len(asked) != len(theirs):
        yield f"different numbers of stages: {len(asked)} and {len(theirs)}"
    for (rate, duration_s), (their_rate, their_duration_s) in zip(asked, theirs, strict=False):
        if not math.isclose(rate, their_rate, rel_tol=0.01):
            yield f"different rates: {rate:g}/s and {their_rate:g}/s"
        if not math.isclose(duration_s, their_duration_s, rel_tol=0.01):
            yield f"different durations: {duration_s:g} s and {their_duration_s:g} s"
    if [target.weight for target in one.targets] != [target.weight for target in other.targets]:
        yield "different numbers or weights of targets"


def _asked(run: Measurement) -> list[tuple[float, float]]:
    asked = [(stage.rate, stage.duration_s) for stage in run.stages]
    return asked or [(run.requested_rate, run.requested_duration_s)]


def _faults(run: Measurement) -> Iterator[str]:
    if run.saturation_rate is not None:
        yield f"run {run.run} is a search for the highest rate, whose stages differ each time"
    elif not run.is_complete:
        yield f"run {run.run} lacks a part of its load: {run.missing[0].reason}"
    elif not run.tally.intervals:
        yield f"run {run.run} has no counts by interval, as {run.generator} tells none"
    elif any(span(stage) < LEAST_ROWS for stage in stages(run)):
        yield f"run {run.run} is too short: each stage needs {LEAST_ROWS} intervals with requests"


def _too_few(side: str, runs: Sequence[Measurement]) -> Iterator[str]:
    requests = sum(run.tally.requests for run in runs)
    if requests < _LEAST_REQUESTS:
        yield f"too few requests {side} the change: {requests}, and {_LEAST_REQUESTS} are needed"
