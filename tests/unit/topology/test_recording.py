"""When compliance of a cluster is kept, and over which failures."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone

from services.chassis.errors import BusUnavailable
from services.topology.recording import Recording
from services.topology.reports.compliance import ClusterReport
from tests.testbed.waiting import eventually
from tests.unit.topology.reports.remembered import Remembered
from tests.unit.topology.reports.test_history import line, report

BEGIN = datetime(2026, 11, 24, 12, tzinfo=timezone.utc)
EVERY = timedelta(minutes=15)


@dataclass(slots=True)
class Looks:
    """A cluster that a test changes, and a clock that it moves."""

    now: datetime = BEGIN
    findings: int = 0
    histories: Remembered = field(default_factory=Remembered)
    every: timedelta = EVERY
    failure: Exception | None = None

    def report(self) -> ClusterReport:
        if self.failure is not None:
            raise self.failure
        return report(line("a", findings=self.findings), at=self.now)

    def recording(self) -> Recording:
        return Recording(
            cluster="c1",
            report=self.report,
            histories=self.histories,
            every=self.every,
            now=lambda: self.now,
        )

    @property
    def kept(self) -> list[datetime]:
        return [sums.made for sums, _ in self.histories.told]


async def test_it_is_kept_when_something_changed_and_once_a_day() -> None:
    looks = Looks()
    recording = looks.recording()
    for hours, findings in ((0, 0), (1, 0), (2, 1), (3, 1), (20, 1), (26, 1), (27, 1)):
        looks.now, looks.findings = BEGIN + timedelta(hours=hours), findings
        assert await recording.turn() == EVERY
    assert [(made - BEGIN) / timedelta(hours=1) for made in looks.kept] == [0, 2, 26]


async def test_an_owner_goes_on_where_another_one_ended() -> None:
    looks = Looks()
    await looks.recording().turn()
    looks.now, looks.findings = BEGIN + timedelta(minutes=4), 1
    assert await looks.recording().turn() == timedelta(minutes=11)
    assert len(looks.kept) == 1
    # A clock that was set back does not keep it from looking.
    looks.now = BEGIN - timedelta(hours=1)
    assert await looks.recording().turn() == EVERY
    assert len(looks.kept) == 2


async def test_failures_of_the_bus_and_of_a_report_end_nothing() -> None:
    looks = Looks(every=timedelta(milliseconds=2))
    looks.histories.failure = BusUnavailable("NATS is away")
    running = asyncio.create_task(looks.recording().run())
    try:
        await asyncio.sleep(0.02)
        assert looks.kept == []
        looks.histories.failure, looks.failure = None, ValueError("a defect")
        await asyncio.sleep(0.02)
        assert looks.kept == []
        looks.failure = None
        await eventually(lambda: bool(looks.kept), what="the report to be kept")
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
