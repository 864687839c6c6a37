"""Keeps the state and the results of runs, gates and baselines: in buckets and as objects."""

from __future__ import annotations

import contextlib
import zlib
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol, TypeVar

import orjson

from services.chassis.bus.records import Bucket, Records, RevisionConflict
from services.chassis.bus.streams import PERF_TTL
from services.chassis.bus.subjects import token
from services.chassis.messages.models import Message
from services.perf.comparison.baselines import BaselineRecord
from services.perf.measurements.measurements import Measurement
from services.perf.results.fortio import fortio_result
from services.perf.runs.wire import GateRecord, RunRecord, ShardResult, Step

M = TypeVar("M", bound=Message)


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
        found = []
        for key in await self.state.keys():
            if key.startswith("run."):
                stored = await Records(self.state, RunRecord).get(key)
                found += [stored[0]] if stored else []
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
        return model.model_validate_json(zlib.decompress(body)) if body is not None else None
