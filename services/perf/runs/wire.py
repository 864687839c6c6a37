"""Messages between perf workers about a shard, and the records that they store of a run.

Commands are stored in the stream CMD. Starts and reports are core messages, which a restart of NATS
may swallow: a start is asked for again until it is given, and a report repeats what the result will
hold anyway. Results are objects, because a long run's counts do not fit a message.
"""

from __future__ import annotations

from datetime import datetime, timezone
from enum import StrEnum
from typing import Any

from pydantic import AwareDatetime, Field

from services.chassis.errors import MeshbusError, OperationCancelled
from services.chassis.messages import Command, ErrorReport
from services.chassis.messages.models import Message, Piece
from services.perf.definitions.loads import GeneratorName, Shard
from services.perf.measurements.measurements import MissingShard, Part
from services.perf.measurements.tallies import IntervalMessage


class ShardCommand(Message):
    """One shard of a run, for any free worker: the body of `cmd.perf.<run>.<token>`."""

    run: str
    token: str
    """Names this attempt at the shard; another attempt has another one."""
    shard: Shard
    generator: GeneratorName
    interval_s: float
    deadline: AwareDatetime
    """A shard that was not begun by then is dropped."""


class ReadyQuestion(Message):
    """A worker has a shard and asks when to start; asked again until the answer says it."""

    token: str
    worker: str


class ReadyAnswer(Message):
    """The conductor's answer to a worker that is ready."""

    now: float
    """The conductor's clock, in Unix seconds: the common clock of the run."""
    start_at: float | None = None
    """By that clock; None as long as others are not ready."""
    is_over: bool = False
    """The shard is not wanted any more, or another worker has it."""


class Report(Message):
    """How far a shard is, each second."""

    token: str
    worker: str
    requests: int
    failed: int
    intervals: list[IntervalMessage] = Field(default_factory=list)
    """Those that changed since the last report, whole."""
    has_ended: bool = False
    """The result is stored."""


class ShardResult(Message):
    """The counts of a shard: the object `shards/<run>/<token>`."""

    token: str
    worker: str
    seconds: float
    """From the first request to the last answer."""
    parts: list[Part]
    error: ErrorReport | None = None
    """Why it ended early; the parts hold what was counted until then."""


class RollAnswer(Message):
    """A worker's answer to the roll call."""

    worker: str
    free: int
    """Shards that it could take now."""
    generators: list[str]
    """Those that are installed there."""


class RunState(StrEnum):
    """Where a run is; the last three are final. `waiting` is for workers."""

    QUEUED = "queued"
    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        return self in (RunState.DONE, RunState.FAILED, RunState.CANCELLED)


class RunRecord(Message):
    """State of a run: the value of `perf/run.<run>`."""

    run: str
    operation: str
    """Id of the operation that it belongs to; it may have another run for each cluster."""
    kind: str
    cluster: str
    """Token of the cluster, or `none`."""
    cluster_name: str = ""
    name: str = ""
    test: str = ""
    """Hash of the test's text, where it was asked for over the service API."""
    state: RunState = RunState.QUEUED
    asked: datetime = Field(default_factory=lambda: datetime.now(timezone.utc))
    started: datetime | None = None
    duration_s: float = 0.0
    """As planned."""
    elapsed_s: float = 0.0
    workers: list[str] = Field(default_factory=list)
    requests: int = 0
    failed: int = 0
    rate: float | None = None
    """Over the last seconds; of an ended run over all of it. None while it is not known."""
    p99_ms: float | None = None
    """The same."""
    missing: list[MissingShard] = Field(default_factory=list)
    result: str = ""
    """Name of the result's object in the bucket `perf`."""
    error: ErrorReport | None = None

    @classmethod
    def of(cls, command: Command, *, run: str, **fields: Any) -> RunRecord:
        """The record of a run that `command` asks for."""
        return cls(
            run=run,
            operation=command.operation,
            kind=command.kind,
            cluster=command.cluster,
            cluster_name=command.cluster_name,
            **fields,
        )

    def ended_by(self, error: MeshbusError) -> RunRecord:
        """The record of the run that ended with `error`."""
        is_cancelled = isinstance(error, OperationCancelled)
        state = RunState.CANCELLED if is_cancelled else RunState.FAILED
        return self.model_copy(update={"state": state, "error": ErrorReport.of(error)})


class GateRecord(Message):
    """State of a gate: the value of `perf/gate.<operation>`."""

    former: list[dict[str, Any]] = Field(default_factory=list)
    """The changed objects as they were."""
    absent: list[dict[str, Any]] = Field(default_factory=list)
    """The changed objects that were not there."""
    is_changing: bool = False
    """The change may be there; stored before it is applied."""
    refusal: ErrorReport | None = None
    """Why the change goes; it is stored before the rollback begins."""


class Attempt(Piece):
    """One attempt at a shard."""

    token: str
    shard: int
    worker: str = ""
    start_at: float | None = None
    """By the conductor's clock; None until the start is given."""


class Step(Message):
    """Shards of one run that start together: the value of `perf/step.<run>.<number>`.

    A worker that takes the run over from a dead conductor reads it: load that runs goes on, and its
    results are collected from where they are stored.
    """

    number: int
    attempts: list[Attempt]
    """The newest attempt at each shard, in the shards' order."""
    rerun: list[int] = Field(default_factory=list)
    missing: list[MissingShard] = Field(default_factory=list)
