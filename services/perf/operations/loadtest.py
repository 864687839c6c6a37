"""The operation `performance-test`: one run, and its comparison with a baseline."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from services.chassis.messages import AdvertisedOperation, Category, SlotKind, Verb
from services.chassis.operations.completion import Result
from services.chassis.reading.aside import read_aside
from services.perf.comparison.baselines import BaselineRecord, baseline_key, extended
from services.perf.comparison.comparing import Outcome, compare
from services.perf.definitions.loads import LoadTest
from services.perf.definitions.reading import read_test
from services.perf.measurements.histograms import Histogram
from services.perf.measurements.measurements import Measurement
from services.perf.results.summaries import summary
from services.perf.runs.runs import Runs
from services.perf.runs.store import RunStore
from services.perf.runs.work import Work

MAY_TAKE_S = 3 * 86_400.0
"""The longest test is a day; a lost worker may have it run twice, and a gate runs it twice."""
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
        if test.baseline:
            lines.append(await self._compare(test.baseline, measurement))
        lines.append(
            f"Run {work.run}: nats object get perf results/{work.run}.json; "
            "mesh.perf.results has other forms"
        )
        name = f" {test.name}" if test.name else ""
        whole = "" if measurement.is_complete else ", with parts missing"
        return Result(
            f"Performance test{name} finished successfully{whole}{work.place}",
            "\n".join(lines),
            _numbers(measurement),
        )

    async def _compare(self, name: str, measurement: Measurement) -> str:
        """The comparison with the baseline of this name, which begins with this run if there is
        none. A baseline of the same configuration counts before those of others."""
        key = baseline_key(name, measurement.service, measurement.fingerprint)
        record = await self.store.baseline(key)
        note = ""
        if record is None:
            others = [
                each
                for each in await self.store.baseline_records()
                if (each.name, each.service) == (name, measurement.service)
            ]
            record = max(others, key=lambda each: each.stored, default=None)
            note = " (the mesh's configuration has changed since)" if record else ""
        earlier = await self.store.baseline_measurements(record) if record else []
        earlier = [each for each in earlier if each.run != measurement.run]
        if not earlier:
            await self._keep(key, None, name, measurement)
            return f"Kept as the baseline {name}"
        comparison = await asyncio.to_thread(compare, earlier, [measurement])
        if note:
            await self._keep(key, None, name, measurement)
        elif comparison.verdict is Outcome.SAME:
            await self._keep(key, record, name, measurement)
        return f"Compared with the baseline {name}{note}: {comparison.text()}"

    async def _keep(
        self, key: str, record: BaselineRecord | None, name: str, measurement: Measurement
    ) -> None:
        kept = extended(record, name=name, measurement=measurement)
        if measurement.run in kept.runs:  # a full baseline stays as it is
            await self.store.save_baseline(key, kept, measurement)


def _asked(test: LoadTest) -> str:
    rate = ", ".join(f"{stage.rate:g}/s for {stage.duration_s:g} s" for stage in test.stages)
    if test.saturation is not None:
        rate = f"the highest rate from {test.saturation.lowest:g} to {test.saturation.highest:g}/s"
    return f"{rate} over {test.connections} connections with {test.generator}"


def _numbers(measurement: Measurement) -> tuple[tuple[str, float], ...]:
    durations = Histogram.of(measurement.tally.durations)
    return (
        ("requests", durations.count),
        ("failed", measurement.tally.failed),
        ("rate", measurement.actual_rate),
        ("p50_ms", durations.percentile_us(50) / 1000),
        ("p90_ms", durations.percentile_us(90) / 1000),
        ("p99_ms", durations.percentile_us(99) / 1000),
        ("seconds", measurement.duration_s),
    )
