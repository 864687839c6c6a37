"""The performance gate of a rollout: load tests before a cluster changes, the same ones after, and
a comparison.

Perf drives the load, and keeps what came of it under ids that are made of the rollout's: whoever
takes a step over from a worker that died finds the runs that there are.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from services.chassis.errors import (
    GateBroken,
    MeshbusError,
    OperationCancelled,
    RunUnknown,
    shortened,
)
from services.lifecycle.manifests.work import Work
from services.lifecycle.rollouts.gates import Ask
from services.lifecycle.rollouts.options import PerformanceGateOptions

_LOOK_EVERY_S = 1.0
_LONGEST = timedelta(hours=2)
"""From the moment that a run is asked for; one may wait for workers for half an hour."""
_DONE, _FAILED = "done", ("failed", "cancelled")
_REGRESSION = "regression"


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadTests:
    """The load tests of one cluster."""

    ask: Ask
    """The answer of `mesh.perf.<verb>`."""
    work: Work
    options: PerformanceGateOptions
    rollout: str

    async def before(self) -> None:
        """Measures how the cluster does; raises `GateBroken` for a run that fails."""
        before = self._ids("before")
        await self._measured(before)
        if broken := await self._broken(before):
            self.work.progress.warn(f"The test's objective does not hold before either: {broken}")

    async def after(self) -> None:
        """Measures once more, and raises `GateBroken` also when that is proven to be worse, or
        breaks the test's objective, which held before: a limit needs no comparison."""
        before, after = self._ids("before"), self._ids("after")
        await self._measured(after)
        broken = await self._broken(after)
        if broken and not await self._broken(before):
            raise GateBroken(f"the load test's objective does not hold any more: {broken}")
        compared = await self.ask(
            "compare", {"before": before, "after": after, "threshold": self.options.threshold}
        )
        told = shortened(str(compared.get("told", "")))
        if compared.get("verdict") == _REGRESSION:
            raise GateBroken(f"load tests do worse than before: {told}")
        self.work.progress.note(f"Load tests: {told}")

    def _ids(self, side: str) -> list[str]:
        of = f"{self.rollout}-{self.work.command.cluster[:12]}-{side}"
        return [f"{of}-{number}" for number in range(1, self.options.runs + 1)]

    async def _measured(self, runs: Sequence[str]) -> None:
        for number, run in enumerate(runs, start=1):
            self.work.progress.note(f"Load test {number} of {len(runs)}", f"run {run}")
            try:
                await self._ended(run)
            except OperationCancelled:
                with contextlib.suppress(MeshbusError):
                    await self.ask("cancel", {"run": run})
                raise

    async def _broken(self, runs: Sequence[str]) -> str:
        """Why runs broke the test's objective; "" where it held, or where there is none."""
        asked = [self.ask("results", {"run": run, "format": "measurement"}) for run in runs]
        stages = [stage for found in await asyncio.gather(*asked) for stage in found["stages"]]
        why = [str(one.get("reason", "")) for one in stages if one.get("holds") is False]
        return shortened("; ".join(why)) if why else ""

    async def _ended(self, run: str) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _LONGEST.total_seconds()
        while loop.time() < deadline:
            self.work.fence.check()
            record = await self._record(run)
            if record["state"] == _DONE:
                return
            if record["state"] in _FAILED:
                error = record.get("error") or {}
                raise GateBroken(
                    f"load test {run} {record['state']}: {shortened(str(error.get('summary', '')))}"
                )
            await asyncio.sleep(_LOOK_EVERY_S)
        raise GateBroken(
            f"load test {run} has not ended after {_LONGEST.total_seconds():.0f} s",
            cause="no perf worker takes it, or it is longer than a gate waits",
        )

    async def _record(self, run: str) -> dict[str, Any]:
        """The run's record; a run that nobody knows is asked for."""
        try:
            found: dict[str, Any] = await self.ask("status", {"run": run})
        except RunUnknown:
            name = self.work.command.cluster_name or self.work.command.cluster
            test = self.options.test.replace("{cluster}", name)
            await self.ask("run", {"test": test, "run": run})
            return {"state": "queued"}
        return found
