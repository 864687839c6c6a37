"""Keeps the state and the results of runs, gates and baselines: in buckets and as objects."""

from __future__ import annotations

import asyncio
import contextlib
import zlib
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from enum import StrEnum
from typing import Any, Protocol, TypeVar

import orjson
from pydantic import Field

from services.chassis.bus.records import Bucket, Records, RevisionConflict
from services.chassis.bus.streams import PERF_TTL
from services.chassis.bus.subjects import token
from services.chassis.errors import MeshbusError, OperationCancelled
from services.chassis.messages import Command, ErrorReport
from services.chassis.messages.models import Message, Piece
from services.chassis.reading.inflating import inflated
from services.perf.comparison.baselines import BaselineRecord
from services.perf.measurements.measurements import Measurement, MissingShard
from services.perf.results.fortio import fortio_result
from services.perf.runs.wire import ShardResult

M = TypeVar("M", bound=Message)
_READ_AT_ONCE = 64


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


class Sample(Piece):
    """How a run went at one moment, over the seconds before it."""

    at_s: float
    """Seconds after the start of the step."""
    rate: float
    p50_ms: float
    p99_ms: float
    failed: int
    """Since the start."""


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
    """Over the last seconds; of one that is done over all of it. None while it is not known."""
    p99_ms: float | None = None
    """The same."""
    codes: dict[str, int] = Field(default_factory=dict)
    """Answers of the last seconds by code, until it is done."""
    curve: list[Sample] = Field(default_factory=list)
    """How it went until now, oldest first; of one that is done the result has all of it."""
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


class Objects(Protocol):
    """Stores content that is too large for a message."""

    async def put(self, name: str, content: bytes, *, ttl: timedelta | None = None) -> None: ...

    async def get(self, name: str) -> bytes | None: ...


@dataclass(frozen=True, slots=True)
class RunStore:
    """The state of runs by their ids; a result is gone after its time to live, a baseline never."""

    state: Bucket
    baselines: Records[BaselineRecord]
    objects: Objects

    async def run(self, run: str) -> RunRecord | None:
        stored = await Records(self.state, RunRecord).get(f"run.{token(run)}")
        return stored[0] if stored else None

    async def save_run(self, record: RunRecord) -> None:
        await Records(self.state, RunRecord).put(f"run.{token(record.run)}", record)

    async def begin_run(self, record: RunRecord) -> RunRecord:
        """Stores the record, unless the run has one; returns the stored one."""
        with contextlib.suppress(RevisionConflict):
            await Records(self.state, RunRecord).create(f"run.{token(record.run)}", record)
            return record
        return await self.run(record.run) or record

    async def runs(self) -> list[RunRecord]:
        """All runs in the store, newest first."""
        keys = [key for key in await self.state.keys() if key.startswith("run.")]
        records = Records(self.state, RunRecord)
        found = []
        for start in range(0, len(keys), _READ_AT_ONCE):
            chunk = keys[start : start + _READ_AT_ONCE]
            stored = await asyncio.gather(*(records.get(key) for key in chunk))
            found += [each[0] for each in stored if each]
        return sorted(found, key=lambda record: record.asked, reverse=True)

    async def step(self, run: str, number: int) -> Step | None:
        stored = await Records(self.state, Step).get(f"step.{token(run)}.{number}")
        return stored[0] if stored else None

    async def save_step(self, run: str, step: Step) -> None:
        await Records(self.state, Step).put(f"step.{token(run)}.{step.number}", step)

    async def shard_result(self, run: str, token: str) -> ShardResult | None:
        return await self._object(ShardResult, f"shards/{run}/{token}")

    async def save_shard_result(self, run: str, result: ShardResult) -> None:
        await self._keep(result, f"shards/{run}/{result.token}", ttl=PERF_TTL)

    async def measurement(self, run: str) -> Measurement | None:
        return await self._object(Measurement, f"measurements/{run}")

    async def save_measurement(self, measurement: Measurement) -> str:
        """Keeps it with its fortio form; returns the name of that object."""
        await self._keep(measurement, f"measurements/{measurement.run}", ttl=PERF_TTL)
        name = f"results/{measurement.run}.json"
        content = orjson.dumps(fortio_result(measurement), option=orjson.OPT_INDENT_2)
        await self.objects.put(name, content, ttl=PERF_TTL)
        return name

    async def baseline(self, key: str) -> BaselineRecord | None:
        stored = await self.baselines.get(key)
        return stored[0] if stored else None

    async def baseline_records(self) -> list[BaselineRecord]:
        """All baselines."""
        found = [await self.baselines.get(key) for key in await self.baselines.bucket.keys()]
        return [stored[0] for stored in found if stored]

    async def save_baseline(
        self, key: str, record: BaselineRecord, measurement: Measurement
    ) -> None:
        """Keeps a run for good, as one of the baseline's."""
        await self._keep(measurement, f"baselines/{measurement.run}", ttl=None)
        await self.baselines.put(key, record)

    async def baseline_measurements(self, record: BaselineRecord) -> list[Measurement]:
        found = [await self._object(Measurement, f"baselines/{run}") for run in record.runs]
        return [measurement for measurement in found if measurement is not None]

    async def gate(self, run: str) -> GateRecord | None:
        stored = await Records(self.state, GateRecord).get(f"gate.{token(run)}")
        return stored[0] if stored else None

    async def save_gate(self, run: str, record: GateRecord) -> None:
        await Records(self.state, GateRecord).put(f"gate.{token(run)}", record)

    async def _keep(self, message: Message, name: str, *, ttl: timedelta | None) -> None:
        body = zlib.compress(message.model_dump_json().encode(), level=3)
        await self.objects.put(name, body, ttl=ttl)

    async def _object(self, model: type[M], name: str) -> M | None:
        body = await self.objects.get(name)
        return model.model_validate_json(inflated(body)) if body is not None else None
