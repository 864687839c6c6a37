"""Who has which shard of a step: a conductor's view of its workers, without any waiting.

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
from services.perf.runs.wire import (
    Attempt,
    ReadyAnswer,
    ReadyQuestion,
    Report,
    ShardResult,
    Step,
)


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
    """From the first request to the last answer of the shards that ran together."""
    parts: list[Part]
    workers: list[str]
    rerun: list[int]
    missing: list[MissingShard]
    errors: list[MeshbusError]
    """Why shards ended early; the parts hold what they counted until then."""


@dataclass(slots=True)
class Seat:
    """One shard's place, with its newest attempt."""

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
    """Only its intervals: what the reports have told."""
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
class Seats:
    """All shards of a step."""

    number: int
    """Of the step, from 1."""
    interval_s: float
    patience: Patience
    all: list[Seat] = field(default_factory=list)
    rerun: list[int] = field(default_factory=list)
    """Shards that were handed out again after their load had begun."""
    start_at: float | None = None
    """The common start, once it is stored."""
    is_over: bool = False
    """Nothing starts any more."""

    def laid(self, shards: Sequence[Shard], *, now: float) -> None:
        """Places for a fresh step."""
        self.all = [Seat(shard=shard, token=self._token(shard, 1), heard=now) for shard in shards]

    def taken_over(self, shards: Sequence[Shard], step: Step, *, now: float) -> None:
        """The places as a predecessor has left them."""
        lost = {missing.shard: missing for missing in step.missing}
        self.rerun = list(step.rerun)
        self.all = [
            Seat(
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
        self.start_at = min(
            (seat.start_at for seat in self.all if seat.start_at is not None), default=None
        )

    def step(self) -> Step:
        """What a successor needs. The shards are not in it: they are cut again from the test."""
        return Step(
            number=self.number,
            attempts=[
                Attempt(
                    token=seat.token,
                    shard=seat.shard.number,
                    worker=seat.worker,
                    start_at=seat.start_at,
                )
                for seat in self.all
            ],
            rerun=self.rerun,
            missing=[seat.missing for seat in self.all if seat.missing is not None],
        )

    # --- what workers say ------------------------------------------------------------------------

    def ready(self, question: ReadyQuestion, *, now: float, unix: float) -> ReadyAnswer:
        """Gives a free seat to the worker, and the start as soon as there is one."""
        if not self.all and not self.is_over:
            return ReadyAnswer(now=unix)  # a successor is still reading
        seat = self._seat(question.token)
        if self.is_over or seat is None or seat.is_settled:
            return ReadyAnswer(now=unix, is_over=True)
        if seat.worker not in ("", question.worker):
            return ReadyAnswer(now=unix, is_over=True)
        seat.worker, seat.heard = question.worker, now
        return ReadyAnswer(now=unix, start_at=seat.start_at if seat.is_stored else None)

    def heard(self, report: Report, *, now: float) -> None:
        """Takes how far a worker is."""
        seat = self._seat(report.token)
        if seat is None or seat.worker not in ("", report.worker):
            return
        seat.worker, seat.heard = report.worker, now
        seat.requests, seat.failed = report.requests, report.failed
        for interval in report.intervals:
            seat.live.add_interval(interval)
        seat.has_ended = seat.has_ended or report.has_ended

    def is_silent(self, seat: Seat, *, now: float) -> bool:
        """Whether the seat's worker counts as dead, or its shard as unwanted by everybody."""
        if seat.worker:
            return now - seat.heard > self.patience.lost_after.total_seconds()
        if self.start_at is not None and any(each.is_running for each in self.all):
            seat.heard = now  # the others may all be busy with their own shards
        return now - seat.heard > self.patience.start_within.total_seconds()

    def all_heard(self, now: float) -> None:
        """Nobody could be heard for a while, so nobody was silent."""
        for seat in self.all:
            seat.heard = now

    # --- what the conductor decides --------------------------------------------------------------

    def handed_out_again(self, seat: Seat, *, now: float) -> None:
        """A new token, which the former worker does not know."""
        if seat.start_at is not None:
            self.rerun = sorted({*self.rerun, seat.shard.number})
        seat.tries += 1
        seat.token = self._token(seat.shard, seat.tries)
        seat.worker, seat.start_at, seat.is_stored, seat.heard = "", None, False, now
        seat.requests = seat.failed = 0
        seat.result, seat.has_ended = None, False
        seat.live = Tally(interval_s=self.interval_s)

    def given_up(self, seat: Seat, *, now: float) -> None:
        """The shard is missing from now on."""
        silent_s = now - seat.heard
        reason = (
            f"its worker was not heard of for {silent_s:.0f} s; the {seat.requests} requests that "
            "it had reported are not counted"
            if seat.worker
            else f"no worker took it within {silent_s:.0f} s"
        )
        seat.missing = MissingShard(
            shard=seat.shard.number,
            worker=seat.worker,
            since_s=max(seat.live.intervals, default=0) * self.interval_s,
            reason=reason,
        )

    def outcome(self) -> StepOutcome:
        """What the settled seats come to; at least one has a result."""
        results = [seat.result for seat in self.all if seat.result is not None]
        together = [
            seat.result.seconds
            for seat in self.all
            if seat.result is not None and seat.start_at == self.start_at
        ]
        return StepOutcome(
            start_at=self.start_at or 0.0,
            seconds=max(together or [result.seconds for result in results]),
            parts=[part for result in results for part in result.parts],
            workers=sorted({result.worker for result in results}),
            rerun=self.rerun,
            missing=[seat.missing for seat in self.all if seat.missing is not None],
            errors=[result.error.error() for result in results if result.error is not None],
        )

    # --- how it goes -----------------------------------------------------------------------------

    @property
    def requests(self) -> int:
        return sum(seat.requests for seat in self.all)

    @property
    def failed(self) -> int:
        return sum(seat.failed for seat in self.all)

    @property
    def workers(self) -> list[str]:
        return sorted({seat.worker for seat in self.all if seat.worker})

    def recent(self, intervals: int) -> Tally:
        """What the reports have told of the last `intervals` whole intervals."""
        newest = max((max(seat.live.intervals, default=-1) for seat in self.all), default=-1)
        total = Tally(interval_s=self.interval_s)
        for seat in self.all:
            for index, interval in seat.live.intervals.items():
                if newest - intervals <= index < newest:
                    total.durations.merge(interval.durations)
                    total.codes.update(interval.codes)
        return total

    def _seat(self, token: str) -> Seat | None:
        return next((seat for seat in self.all if seat.token == token), None)

    def _token(self, shard: Shard, attempt: int) -> str:
        return f"{self.number}-{shard.number}-{attempt}"
