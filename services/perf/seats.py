"""What a conductor keeps of a step: its shards' places, and what came of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta

from services.chassis.errors import MeshbusError
from services.perf.loads import Shard
from services.perf.measurements import MissingShard, Part
from services.perf.tallies import Tally
from services.perf.wire import Attempt, Report, ShardResult


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long a conductor waits for its workers."""

    start_within: timedelta
    """For workers to take all shards."""
    lost_after: timedelta
    """Of silence, after which a worker counts as dead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepOutcome:
    """What a step's shards counted."""

    start_at: float
    """Unix time of the common start."""
    seconds: float
    """From then to the end of the last load that ran with the others."""
    parts: list[Part]
    workers: list[str]
    rerun: list[int]
    missing: list[MissingShard]
    error: MeshbusError | None
    """Why shards ended early, all of them; the parts hold what was counted until then."""


@dataclass(slots=True)
class Seat:
    """One shard's place in the step, with its newest attempt."""

    shard: Shard
    token: str
    tries: int = 1
    worker: str = ""
    start_at: float | None = None
    heard: float = 0.0
    requests: int = 0
    failed: int = 0
    live: Tally = field(default_factory=Tally)
    """Only its intervals: what the reports have told."""
    ended: bool = False
    result: ShardResult | None = None
    missing: MissingShard | None = None

    @property
    def is_settled(self) -> bool:
        return self.result is not None or self.missing is not None

    def heard_of(self, report: Report, *, now: float) -> None:
        """Takes a report of the seat's own worker."""
        self.worker, self.heard = report.worker, now
        self.requests, self.failed = report.requests, report.failed
        if self.start_at is None:
            self.start_at = report.start_at
        for interval in report.intervals:
            self.live.add_interval(interval)
        self.ended = self.ended or report.has_ended

    def attempt(self) -> Attempt:
        return Attempt(
            token=self.token, shard=self.shard.number, worker=self.worker, start_at=self.start_at
        )
