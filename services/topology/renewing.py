"""Renewing the traffic of one cluster's graph, over failures of its source.

One source of telemetry may know several clusters by the names that Istio has for them. A flow
belongs to a cluster's graph when one of its ends does.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import structlog

from services.chassis.errors import InternalError, MeshbusError
from services.topology.cluster.state import State
from services.topology.mesh.meshes import istio_name
from services.topology.observing import STARTING, Observer
from services.topology.telemetry.traffic import Flows, Telemetry

log = structlog.get_logger(__name__)

OK, UNAVAILABLE = "ok", "unavailable"
_SHORTEST_PAUSE_S = 1.0
"""Between two rounds, however often something changes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Renewal:
    """Asks a source again and again."""

    telemetry: Telemetry
    observer: Observer
    every: timedelta
    window: timedelta
    now: Callable[[], datetime]

    soon: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when another source may be there: the next round begins at once."""

    async def run(self) -> None:
        """Reads the source until cancelled; while it fails, the last flows stay for a window."""
        self._tell(STARTING)
        failures = 0
        while True:
            began = asyncio.get_running_loop().time()
            self.soon.clear()
            try:
                flows = await self._flows()
            except MeshbusError as error:
                failures += 1
                self._tell(UNAVAILABLE, error.summary)
                # Rates of a source that has been away for long are no one's traffic of now.
                if failures * self.every > self.window:
                    self.observer.flowed({})
            else:
                failures = 0
                self.observer.flowed(own(flows, self.observer.state))
                self._tell(OK, "; ".join(self.telemetry.missing))
            await self._until_due(began)

    async def _until_due(self, began: float) -> None:
        took = asyncio.get_running_loop().time() - began
        pause = max(_SHORTEST_PAUSE_S, self.every.total_seconds() - took)
        await asyncio.sleep(_SHORTEST_PAUSE_S)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause - _SHORTEST_PAUSE_S):
                await self.soon.wait()

    def _tell(self, state: str, detail: str = "") -> None:
        self.observer.telemetry(
            source=self.telemetry.name, state=state, detail=detail, tried=self.telemetry.tried
        )

    async def _flows(self) -> Flows:
        try:
            return await self.telemetry.flows(at=self.now(), window_s=self.window.total_seconds())
        except MeshbusError:
            raise
        except Exception:
            # An unforeseen answer of a source must not end the watching of the cluster.
            log.exception("telemetry_failed")
            raise InternalError("the traffic could not be read") from None


def own(flows: Flows, state: State) -> Flows:
    """The flows that one end of which is in the cluster."""
    known = ("", istio_name(state), state.cluster)
    return {
        key: flow
        for key, flow in flows.items()
        if key.source.cluster in known or key.destination.cluster in known
    }
