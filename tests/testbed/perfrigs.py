"""NATS and any number of perf workers, asked as an operator asks: over the service API."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import yaml

from services.chassis.bus.connection import Bus, connect
from services.chassis.bus.queries import ask
from services.perf.measurements.measurements import Measurement
from tests.testbed.stack import Stack
from tests.testbed.waiting import eventually

WITHIN = timedelta(seconds=20)
ACK_WAIT_S = 3
ENDED = ("done", "failed", "cancelled")


@dataclass(slots=True)
class Rig:
    """A stack of which only NATS and perf workers run."""

    stack: Stack
    bus: Bus

    async def ask(self, verb: str, **question: Any) -> Any:
        return await ask(self.bus, question, service="perf", verb=verb, within=WITHIN)

    async def start(self, test: str, **question: Any) -> str:
        """Queues a test; returns the run's id."""
        answer = await self.ask("run", test=test, **question)
        return str(answer["run"])

    async def status(self, run: str) -> dict[str, Any]:
        found: dict[str, Any] = await self.ask("status", run=run)
        return found

    async def until(self, run: str, *states: str, within_s: float = 60.0) -> dict[str, Any]:
        """The run's record as soon as its state is one of these."""
        found: dict[str, Any] = {}

        async def is_there() -> bool:
            nonlocal found
            try:
                found = await self.status(run)
            except Exception as error:  # the record comes with the conductor's first write
                found = {"state": type(error).__name__}
            return found["state"] in states

        try:
            await eventually(is_there, what=f"run {run} to be {states}", within_s=within_s)
        except AssertionError as error:
            raise AssertionError(f"{error}; it is {found}") from None
        return found

    async def measured(self, test: str, *, within_s: float = 60.0, **question: Any) -> Measurement:
        """Runs a test to its end, which must be a success."""
        run = await self.start(test, **question)
        record = await self.until(run, *ENDED, within_s=within_s)
        assert record["state"] == "done", record
        return await self.measurement(run)

    async def measurement(self, run: str) -> Measurement:
        return Measurement.model_validate(await self.ask("results", run=run, format="measurement"))

    async def refused(self, test: str, *, within_s: float = 60.0) -> dict[str, Any]:
        """The error of a run that must fail."""
        run = await self.start(test)
        record = await self.until(run, *ENDED, within_s=within_s)
        assert record["state"] == "failed", record
        error: dict[str, Any] = record["error"]
        return error

    def add(self, count: int, *, first: int = 1) -> list[str]:
        """Starts so many workers, all ready when this returns."""
        names = [f"perf-{number}" for number in range(first, first + count)]
        for name in names:
            self.stack.add("perf", name=name)
        for name in names:
            self.stack.wait_ready(name)
        return names

    def remove(self, *names: str) -> None:
        """Asks workers to stop, and waits until they have."""
        for name in names:
            self.stack.processes.pop(name).stop(grace_s=60.0)


@asynccontextmanager
async def rigged(folder: Path, *, workers: int, **settings: str) -> AsyncIterator[Rig]:
    """A rig for the block; `settings` are `MESHBUS_…` variables in lower case without prefix."""
    chosen = {
        "ack_wait": f"{ACK_WAIT_S}s",
        "perf_lost_after": "2s",
        "perf_start_within": "15s",
        **settings,
    }
    variables = {f"MESHBUS_{k.upper()}": v for k, v in chosen.items()}
    stack = Stack(folder, settings=variables, warm=True)
    await asyncio.to_thread(stack.nats.start)
    try:
        await asyncio.to_thread(stack.apply_streams)
        bus = await connect(stack.settings("operator"), service="operator")
        try:
            rig = Rig(stack, bus)
            await asyncio.to_thread(rig.add, workers)
            yield rig
        finally:
            await bus.close()
    finally:
        await asyncio.to_thread(stack.stop)


def smp(
    *urls: str,
    rps: float = 50,
    duration: str = "4s",
    connections: int = 4,
    name: str = "a test",
    client: dict[str, Any] | None = None,
    **options: Any,
) -> str:
    """An SMP test file, with a document of options when any are given."""
    one = {
        "load_generator": "fortio",
        "protocol": 1,
        "connections": connections,
        "rps": rps,
        "endpoint_urls": list(urls),
        **(client or {}),
    }
    test = {"test": {"smp_version": "v0.0.1", "name": name, "clients": [one], "duration": duration}}
    text = json.dumps(test)
    if options:
        document = {"apiVersion": "meshbus.io/v1", "kind": "PerformanceOptions", "spec": options}
        text += f"\n---\n{yaml.safe_dump(document)}"
    return text
