"""The operation `performance-test`: one run, and its comparison with a baseline."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from services.chassis.messages import AdvertisedOperation, Category, SlotKind, Verb
from services.chassis.operations.completion import Result
from services.chassis.policy import OPERATOR
from services.chassis.reading.aside import read_aside
from services.perf.comparison.baselines import (
    BaselineRecord,
    baseline_key,
    extended,
    renewed,
)
from services.perf.comparison.comparing import Comparison, Outcome, compare
from services.perf.definitions.loads import LoadTest
from services.perf.definitions.reading import read_test
from services.perf.measurements.histograms import Histogram
from services.perf.measurements.measurements import Measurement
from services.perf.results.summaries import headline, summary
from services.perf.runs.runs import Runs
from services.perf.runs.store import RunStore
from services.perf.runs.work import Work

MAY_TAKE_S = 3 * 86_400.0
"""The longest test is a day, and a lost worker may have it run twice. A gate makes a dozen runs, so
that its tests may be as long as a few hours."""
TEST = AdvertisedOperation(
    name="performance-test",
    description="Performance test (SMP)",
    category=Category.VALIDATE,
    slot=SlotKind.APPLY,
    may_take_s=MAY_TAKE_S,
)


@dataclass(frozen=True, slots=True)
class PerformanceTest:
    """The operation `performance-test`."""

    runs: Runs
    store: RunStore

    async def run(self, work: Work) -> Result:
        command = work.command
        if command.verb is Verb.DELETE:
            return Result(
                f"Performance test removed successfully{work.place}",
                "A test leaves nothing behind; results go after their time to live.",
            )
        test, _options = await read_aside(lambda: read_test(command.body), size=len(command.body))
        work.note(f"Performance test started: {_asked(test)}")
        measurement = await self.runs.measure(work, test, run=work.run)
        lines = [summary(measurement), *measurement.warnings]
        lines += [f"missing: {shard.reason}" for shard in measurement.missing]
        verdict = ""
        if test.baseline:
            told, verdict = await self._held_against(test, measurement, by=_asker(work))
            lines.append(told)
        lines.append(
            f"Run {work.run}: the console shows it, and mesh.perf.results has it in several forms"
        )
        name = f" {test.name}" if test.name else ""
        whole = "" if measurement.is_complete else ", with parts missing"
        return Result(
            f"Performance test{name} finished successfully{whole}{work.place}: "
            f"{headline(measurement)}{verdict}",
            "\n".join(lines),
            _numbers(measurement),
        )

    async def _held_against(
        self, test: LoadTest, measurement: Measurement, *, by: str
    ) -> tuple[str, str]:
        """What the baseline of the test's name says of the run, and the end of a summary.

        A baseline begins with the first run, and keeps those that are like the ones it has. Only
        somebody who asks for it replaces them.
        """
        name = test.baseline
        key = baseline_key(name, measurement.service, measurement.fingerprint)
        record = await baseline_of(self.store, name, measurement)
        runs = await self.store.baseline_measurements(record) if record else []
        earlier = [each for each in runs if each.run != measurement.run]
        if test.replaces_baseline:
            kept = renewed(record, name=name, measurement=measurement, by=by)
            await self.store.save_baseline(key, kept, measurement)
            former = f", in place of {', '.join(record.runs)}" if record else ""
            return f"Kept as the baseline {name}{former}, as {by} asked", ""
        if not earlier:
            await self._keep(key, None, name, measurement)
            return f"Kept as the baseline {name}", ""
        note = ""
        if record is not None and record.fingerprint != measurement.fingerprint:
            note = " (the mesh's configuration has changed since)"
        comparison = await asyncio.to_thread(compare, earlier, [measurement])
        if _is_alike(comparison):
            await self._keep(key, record, name, measurement)
        told = f"Compared with the baseline {name}{note}: {comparison.text()}"
        if comparison.verdict is Outcome.REGRESSION:
            told += (
                f"\nThe baseline {name} stays as it is: it follows no regression. "
                "`replaceBaseline: true` begins it anew"
            )
        return told, f"; {comparison.verdict} beside the baseline {name}"

    async def _keep(
        self, key: str, record: BaselineRecord | None, name: str, measurement: Measurement
    ) -> None:
        kept = extended(record, name=name, measurement=measurement)
        if measurement.run in kept.runs:  # a full baseline stays as it is
            await self.store.save_baseline(key, kept, measurement)


def _is_alike(comparison: Comparison) -> bool:
    """Whether the run may be one of the baseline's: judged the same, or, while there are too few
    runs to judge by, no further apart than the threshold."""
    if comparison.verdict is Outcome.SAME:
        return True
    return comparison.look_level is None and comparison.is_within


async def baseline_of(
    store: RunStore, name: str, measurement: Measurement
) -> BaselineRecord | None:
    """The baseline of this name for a run: that of its configuration, else the newest one."""
    key = baseline_key(name, measurement.service, measurement.fingerprint)
    return await store.baseline(key) or await _newest(store, name, measurement.service)


async def baseline_runs(store: RunStore, test: LoadTest) -> list[Measurement]:
    """The runs of the baseline that a test names: how far the service's runs differ."""
    if not test.baseline:
        return []
    record = await _newest(store, test.baseline, test.service or test.targets[0].service)
    return await store.baseline_measurements(record) if record else []


async def _newest(store: RunStore, name: str, service: str) -> BaselineRecord | None:
    found = [
        each
        for each in await store.baseline_records()
        if (each.name, each.service) == (name, service)
    ]
    return max(found, key=lambda each: each.stored, default=None)


def _asker(work: Work) -> str:
    """Who asked for the test, as the gateway signed it; by hand it was the operator."""
    grant = work.command.grant
    return grant.claimed().identity if grant is not None else OPERATOR.name


def _asked(test: LoadTest) -> str:
    rate = ", ".join(f"{stage.rate:g}/s for {stage.duration_s:g} s" for stage in test.stages)
    if test.saturation is not None:
        rate = f"the highest rate from {test.saturation.lowest:g} to {test.saturation.highest:g}/s"
    return f"{rate} over {test.connections} connections with {test.generator}"


def _numbers(measurement: Measurement) -> tuple[tuple[str, float], ...]:
    durations = Histogram.of(measurement.tally.durations)
    responses = Histogram.of(measurement.tally.responses)
    return (
        ("requests", durations.count),
        ("failed", measurement.tally.failed),
        ("rate", measurement.actual_rate),
        ("p50_ms", durations.percentile_us(50) / 1000),
        ("p90_ms", durations.percentile_us(90) / 1000),
        ("p99_ms", durations.percentile_us(99) / 1000),
        ("response_p50_ms", responses.percentile_us(50) / 1000),
        ("response_p99_ms", responses.percentile_us(99) / 1000),
        ("seconds", measurement.duration_s),
    )
