"""Which worker has which shard of a step: a conductor's view of its workers, without any waiting.

Silence is measured by the event loop's clock, which no clock adjustment moves. Starts are Unix
times, because workers on other machines have to understand them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from services.chassis.errors import MeshbusError
from services.perf.definitions.loads import Shard
from services.perf.measurements.measurements import MissingShard, Part
from services.perf.measurements.tallies import Tally
from services.perf.runs.store import Attempt, Step
from services.perf.runs.wire import ReadyAnswer, ReadyQuestion, Report, ShardResult


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """How long a conductor waits for its workers."""

    start_within: timedelta
    """For workers to take all shards."""
    lost_after: timedelta
    """Of silence, after which a worker counts as dead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepOutcome:
    """The counts of a step's shards."""

    start_at: float
    """Unix time of the common start."""
    seconds: float
    """From the first request to the last answer of the shards that ran together."""
    parts: list[Part]
    workers: list[str]
    rerun: list[int]
    missing: list[MissingShard]
    errors: list[MeshbusError]
    """Why shards ended early; the parts hold what they counted until then."""


@dataclass(slots=True)
class Assignment:
    """One shard, with its newest attempt and the worker that has it."""

    shard: Shard
    token: str
    heard: float
    """When its worker was last heard of, or the shard was handed out; loop time."""
    tries: int = 1
    worker: str = ""
    start_at: float | None = None
    """Unix time; given to the worker only when `is_stored`."""
    is_stored: bool = False
    requests: int = 0
    failed: int = 0
    live: Tally = field(default_factory=Tally)
    """Only its intervals: those of the reports."""
    has_ended: bool = False
    result: ShardResult | None = None
    missing: MissingShard | None = None

    @property
    def is_settled(self) -> bool:
        return self.result is not None or self.missing is not None

    @property
    def is_running(self) -> bool:
        return bool(self.worker) and not self.is_settled


@dataclass(slots=True, kw_only=True)
class Assignments:
    """All shards of a step."""

    number: int
    """Of the step, from 1."""
    interval_s: float
    timeouts: Timeouts
    all: list[Assignment] = field(default_factory=list)
    rerun: list[int] = field(default_factory=list)
    """Shards that were handed out again after their load had begun."""
    start_at: float | None = None
    """The common start, once it is stored."""
    is_over: bool = False
    """No shard starts any more."""

    def begin(self, shards: Sequence[Shard], *, now: float) -> None:
        """The first attempts of a fresh step."""
        self.all = [
            Assignment(shard=shard, token=self._token(shard, 1), heard=now) for shard in shards
        ]

    def resume(self, shards: Sequence[Shard], step: Step, *, now: float) -> None:
        """The attempts as a predecessor has stored them."""
        lost = {missing.shard: missing for missing in step.missing}
        self.rerun = list(step.rerun)
        self.all = [
            Assignment(
                shard=shard,
                token=attempt.token,
                heard=now,
                tries=int(attempt.token.rpartition("-")[2]),
                worker=attempt.worker,
                start_at=attempt.start_at,
                is_stored=attempt.start_at is not None,
                missing=lost.get(shard.number),
            )
            for shard, attempt in zip(shards, step.attempts, strict=True)
        ]
        self.start_at = min((a.start_at for a in self.all if a.start_at is not None), default=None)

    def step(self) -> Step:
        """The state for a successor, without the shards: they are cut again from the test."""
        return Step(
            number=self.number,
            attempts=[
                Attempt(token=a.token, shard=a.shard.number, worker=a.worker, start_at=a.start_at)
                for a in self.all
            ],
            rerun=self.rerun,
            missing=self.missing,
        )

    # --- messages of workers ---------------------------------------------------------------------

    def answer(self, question: ReadyQuestion, *, now: float, unix: float) -> ReadyAnswer:
        """Gives a free shard to the worker, and the start as soon as there is one."""
        if not self.all and not self.is_over:
            return ReadyAnswer(now=unix)  # a successor is still reading
        assignment = self._by_token(question.token)
        if self.is_over or assignment is None or assignment.is_settled:
            return ReadyAnswer(now=unix, is_over=True)
        if assignment.worker not in ("", question.worker):
            return ReadyAnswer(now=unix, is_over=True)
        assignment.worker, assignment.heard = question.worker, now
        start_at = assignment.start_at if assignment.is_stored else None
        return ReadyAnswer(now=unix, start_at=start_at)

    def note(self, report: Report, *, now: float) -> None:
        """Keeps how far a worker is."""
        assignment = self._by_token(report.token)
        if assignment is None or assignment.worker not in ("", report.worker):
            return
        assignment.worker, assignment.heard = report.worker, now
        assignment.requests, assignment.failed = report.requests, report.failed
        for interval in report.intervals:
            assignment.live.add_interval(interval)
        assignment.has_ended = assignment.has_ended or report.has_ended

    def is_silent(self, assignment: Assignment, *, now: float) -> bool:
        """Whether the worker counts as dead, or the shard as one that no worker takes."""
        if assignment.worker:
            return now - assignment.heard > self.timeouts.lost_after.total_seconds()
        if self.start_at is not None and any(each.is_running for each in self.all):
            assignment.heard = now  # the others may all be busy with their own shards
        return now - assignment.heard > self.timeouts.start_within.total_seconds()

    def forgive_silence(self, now: float) -> None:
        """Counts all workers as heard of: the conductor itself could hear none for a while."""
        for assignment in self.all:
            assignment.heard = now

    # --- decisions of the conductor --------------------------------------------------------------

    def reassign(self, assignment: Assignment, *, now: float) -> None:
        """Gives the shard a new token, which the former worker does not know."""
        if assignment.start_at is not None:
            self.rerun = sorted({*self.rerun, assignment.shard.number})
        assignment.tries += 1
        assignment.token = self._token(assignment.shard, assignment.tries)
        assignment.worker, assignment.start_at, assignment.is_stored = "", None, False
        assignment.heard = now
        assignment.requests = assignment.failed = 0
        assignment.result, assignment.has_ended = None, False
        assignment.live = Tally(interval_s=self.interval_s)

    def give_up(self, assignment: Assignment, *, now: float) -> None:
        """Records the shard as missing."""
        silent_s = now - assignment.heard
        reason = (
            f"its worker was not heard of for {silent_s:.0f} s; the {assignment.requests} requests "
            "that it had reported are not counted"
            if assignment.worker
            else f"no worker took it within {silent_s:.0f} s"
        )
        assignment.missing = MissingShard(
            shard=assignment.shard.number,
            worker=assignment.worker,
            since_s=max(assignment.live.intervals, default=0) * self.interval_s,
            reason=reason,
        )

    def outcome(self) -> StepOutcome:
        """The sum of the settled shards; at least one has a result."""
        results = [a.result for a in self.all if a.result is not None]
        together = [
            a.result.seconds
            for a in self.all
            if a.result is not None and a.start_at == self.start_at
        ]
        return StepOutcome(
            start_at=self.start_at or 0.0,
            seconds=max(together or [result.seconds for result in results]),
            parts=[part for result in results for part in result.parts],
            workers=sorted({result.worker for result in results}),
            rerun=self.rerun,
            missing=self.missing,
            errors=[result.error.error() for result in results if result.error is not None],
        )

    # --- progress --------------------------------------------------------------------------------

    @property
    def missing(self) -> list[MissingShard]:
        return [a.missing for a in self.all if a.missing is not None]

    @property
    def requests(self) -> int:
        return sum(a.requests for a in self.all)

    @property
    def failed(self) -> int:
        return sum(a.failed for a in self.all)

    @property
    def workers(self) -> list[str]:
        return sorted({a.worker for a in self.all if a.worker})

    def recent(self, intervals: int) -> Tally:
        """The last `intervals` whole intervals of the reports."""
        newest = max((max(a.live.intervals, default=-1) for a in self.all), default=-1)
        total = Tally(interval_s=self.interval_s)
        for assignment in self.all:
            for index, interval in assignment.live.intervals.items():
                if newest - intervals <= index < newest:
                    total.durations.merge(interval.durations)
                    total.codes.update(interval.codes)
        return total

    def _by_token(self, token: str) -> Assignment | None:
        return next((a for a in self.all if a.token == token), None)

    def _token(self, shard: Shard, attempt: int) -> str:
        return f"{self.number}-{shard.number}-{attempt}"
