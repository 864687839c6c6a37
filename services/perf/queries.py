"""Answers the questions of perf's service API.

`nats req mesh.perf.run < test.yaml` queues a run and answers at once with its id; the others are
about runs by their ids.
"""

from __future__ import annotations

import asyncio
import base64
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any, Literal

from services.chassis.bus.publishing import Publisher
from services.chassis.bus.queries import Query
from services.chassis.bus.subjects import hash_token, token
from services.chassis.errors import (
    BaselineUnknown,
    MalformedRequest,
    OperationReused,
    RunUnknown,
)
from services.chassis.messages import Command, SlotKind
from services.chassis.reading.aside import read_aside
from services.chassis.regions import Regions
from services.perf.comparison.comparing import compare
from services.perf.definitions.allowance import Allowance
from services.perf.definitions.reading import read_test
from services.perf.measurements.measurements import Measurement
from services.perf.operations.loadtest import TEST
from services.perf.results.curves import curves
from services.perf.results.exports import hdr_log, hgrm
from services.perf.results.fortio import fortio_result
from services.perf.results.smp import smp_result
from services.perf.runs.store import RunRecord, RunStore
from services.perf.runs.work import NO_CLUSTER, run_of

_WITHIN = timedelta(seconds=5)
_WAITING = timedelta(minutes=30)
_MOST_COMPARED = 20
"""Runs of a side: each takes milliseconds and is read whole."""
_TEXT = "test"
_RUN = '{"run": ID}'
_MOST_LISTED = 1_000
FORMATS = ("fortio", "smp", "measurement", "curves", "hdr", "hgrm", "html", "png")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """The answers of one worker; any replica can give them."""

    publisher: Publisher
    store: RunStore
    cancel_operation: Callable[[str, str, str], Awaitable[bool]]
    """By its id, cluster and kind; False when it has ended."""
    drawn: Callable[[Measurement, Literal["html", "png"]], Awaitable[bytes]]
    """A page or picture of a measurement, made in a process of its own."""
    allowance: Allowance
    regions: Regions

    def queries(self) -> list[Query]:
        return [
            Query(
                "run",
                '{"test": SMP YAML, "cluster": TOKEN, "run": ID, "region": [NAME]} or the YAML '
                "alone",
                self.run,
                text_field=_TEXT,
                changes=True,
            ),
            Query("status", f'{_RUN} or {{"limit": 20}}', self.status),
            Query("cancel", _RUN, self.cancel, changes=True),
            Query("results", f'{{"run": ID, "format": {" | ".join(FORMATS)}}}', self.read),
            Query(
                "compare",
                '{"before": ID, [ID, …] or "baseline:NAME", "after": ID or [ID, …], '
                '"paired": false, "threshold": 0.1}',
                self.compare,
            ),
            Query("baselines", "{}", self.baselines),
        ]

    async def run(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Queues a run; a test that cannot be used is refused at once."""
        body = _text(asked, _TEXT)
        test, _ = await read_aside(lambda: read_test(body), size=len(body))
        self.allowance.check(test)
        region = _token(asked, "region")
        if region and not await self.regions.serving("perf", region):
            raise MalformedRequest(
                f"the bus knows no perf workers of the region {region}",
                remedy="name one that `python -m services.chassis.bus apply` was given, or none",
            )
        run = _token(asked, "run") or uuid.uuid4().hex
        cluster = _token(asked, "cluster") or NO_CLUSTER
        command = Command(
            operation=run,
            kind=TEST.name,
            cluster=cluster,
            body=body,
            deadline=datetime.now(timezone.utc) + _WAITING,
            may_take_s=TEST.may_take_s,
        )
        work_run = run_of(command)
        wanted = RunRecord.of(
            command,
            run=work_run,
            name=test.name,
            duration_s=test.duration_s,
            test=hash_token(body.encode()),
        )
        kept = await self.store.begin_run(wanted)
        if kept.test != wanted.test:
            raise OperationReused(
                f"the run {run} is another test",
                remedy="send a fresh id, or none: an id names one run for seven days",
            )
        await self.publisher.command(
            command, service="perf", slot=SlotKind.APPLY, within=_WITHIN, region=region
        )
        return {"run": work_run, "cluster": cluster, "follow": f"nats sub 'live.evt.perf.*.{run}'"}

    async def status(self, asked: dict[str, Any]) -> dict[str, Any]:
        """The record of a run; without an id, those of the newest runs."""
        run = _token(asked, "run")
        if not run:
            limit = _limit(asked)
            runs = await self.store.runs()
            found = [record.model_dump(mode="json", exclude={"curve"}) for record in runs[:limit]]
            return {"runs": found, "more": len(runs) > limit}
        record = await self._record(run)
        return record.model_dump(mode="json")

    async def cancel(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Stops a run, or a gate with its runs: no load is left a second later."""
        run = _token(asked, "run")
        if not run:
            raise MalformedRequest("the run is missing", remedy=f"send {_RUN}")
        record = await self._record(run)
        is_stopping = not record.state.is_final and await self.cancel_operation(
            record.operation, record.cluster, record.kind
        )
        return {"run": run, "state": record.state, "cancelling": is_stopping}

    async def read(self, asked: dict[str, Any]) -> dict[str, Any]:
        """A run's result in one of the forms."""
        form = _text(asked, "format") or FORMATS[0]
        if form not in FORMATS:
            raise MalformedRequest(
                f"the format {form[:32]!r} is not known", remedy=f"send one of {', '.join(FORMATS)}"
            )
        measurement = await self._measurement(_token(asked, "run"))
        match form:
            case "fortio":
                return fortio_result(measurement)
            case "smp":
                uri = f"nats://perf/results/{measurement.run}.json"
                return smp_result(measurement, details_uri=uri)
            case "measurement":
                return measurement.model_dump(mode="json")
            case "curves":
                return await asyncio.to_thread(curves, measurement)
            case "hdr" | "hgrm":
                text = await asyncio.to_thread(hdr_log if form == "hdr" else hgrm, measurement)
            case "html":
                text = (await self.drawn(measurement, "html")).decode()
            case _:
                text = base64.b64encode(await self.drawn(measurement, "png")).decode()
        return {"run": measurement.run, form: text}

    async def compare(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Runs and others, or a baseline and runs."""
        threshold = asked.get("threshold", 0.1)
        if (
            isinstance(threshold, bool)
            or not isinstance(threshold, int | float)
            or not 0 <= threshold <= 10
        ):
            raise MalformedRequest(
                "threshold is not a share", remedy="send 0.1 for changes of more than a tenth"
            )
        before = await self._side(asked, "before")
        after = await self._side(asked, "after")
        is_paired = asked.get("paired", False)
        if not isinstance(is_paired, bool) or (is_paired and len(before) != len(after)):
            raise MalformedRequest(
                "paired is not true or false, or the sides have different numbers of runs",
                remedy="send as many runs after as before, in the order of the pairs",
            )
        comparison = await asyncio.to_thread(
            compare, before, after, threshold=float(threshold), is_paired=is_paired
        )
        return {**comparison.model_dump(mode="json"), "told": comparison.text()}

    async def baselines(self, asked: dict[str, Any]) -> dict[str, Any]:
        """The baselines that runs are held against, the last changed first."""
        records = await self.store.baseline_records()
        newest = sorted(records, key=lambda record: record.stored, reverse=True)[:_MOST_LISTED]
        return {"baselines": [record.model_dump(mode="json") for record in newest]}

    async def _side(self, asked: dict[str, Any], field: str) -> list[Measurement]:
        named = asked.get(field, "")
        if isinstance(named, list):
            if not 0 < len(named) <= _MOST_COMPARED:
                raise MalformedRequest(
                    f"{field} has no run, or more than {_MOST_COMPARED}",
                    remedy="send the ids of a few runs",
                )
            ids = [_token({field: each}, field) for each in named]
            return [await self._measurement(run) for run in ids]
        prefix, _, baseline = _text(asked, field).partition(":")
        if field != "before" or prefix != "baseline":
            return [await self._measurement(_token(asked, field))]
        records = await self.store.baseline_records()
        found = [record for record in records if record.name == baseline]
        if not found:
            raise BaselineUnknown(f"there is no baseline {baseline}")
        newest = max(found, key=lambda record: record.stored)
        return await self.store.baseline_measurements(newest)

    async def _record(self, run: str) -> RunRecord:
        record = await self.store.run(run)
        if record is None:
            raise RunUnknown(f"there is no run {run[:64]}")
        return record

    async def _measurement(self, run: str) -> Measurement:
        if not run:
            raise MalformedRequest("the run is missing", remedy=f"send {_RUN}")
        measurement = await self.store.measurement(run)
        if measurement is None:
            raise RunUnknown(f"there is no result of a run {run}")
        return measurement


def _limit(asked: dict[str, Any]) -> int:
    limit = asked.get("limit", _MOST_LISTED)
    if isinstance(limit, bool) or not isinstance(limit, int) or not 0 < limit <= _MOST_LISTED:
        raise MalformedRequest(
            "limit is no number of runs", remedy=f"send a number from 1 to {_MOST_LISTED}"
        )
    return limit


def _token(asked: dict[str, Any], name: str) -> str:
    return _checked(_text(asked, name), name)


def _checked(value: str, name: str) -> str:
    """An id as it may stand in a subject; "" for none."""
    if value and token(value) != value:
        raise MalformedRequest(
            f"{name} is no id", remedy="send up to 64 letters, digits, `-` and `_`"
        )
    return value


def _text(asked: dict[str, Any], name: str) -> str:
    value = asked.get(name, "")
    if not isinstance(value, str):
        raise MalformedRequest(f"{name} is not text", remedy="send a string")
    return value
