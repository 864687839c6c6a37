"""Keeping how one cluster's compliance goes, over failures of the bus.

Whoever owns the cluster looks now and then, and keeps what changed. What an owner before it kept
counts: a move brings no additional look.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

import structlog

from services.chassis.errors import MeshbusError
from services.topology.reports import history
from services.topology.reports.compliance import ClusterReport
from services.topology.reports.history import ComplianceSums, ComplianceWorkloads

_SETTLED = timedelta(minutes=1)
"""An owner that begins knows no proxies yet: they would come and go with each restart of ours."""
_AGAIN = timedelta(minutes=1)
"""After a failure of the bus."""

log = structlog.get_logger(__name__)


class Histories(Protocol):
    """Where it is kept; each may raise a `MeshbusError`."""

    async def last(self, cluster: str) -> ComplianceSums | None: ...

    async def store(self, sums: ComplianceSums, workloads: ComplianceWorkloads) -> None: ...


@dataclass(slots=True, kw_only=True)
class Recording:
    """Looks again and again."""

    cluster: str
    report: Callable[[], ClusterReport]
    histories: Histories
    every: timedelta
    now: Callable[[], datetime]

    async def run(self) -> None:
        """Keeps what changed until cancelled."""
        await asyncio.sleep(min(self.every, _SETTLED).total_seconds())
        while True:
            try:
                pause = await self.turn()
            except MeshbusError as error:
                log.warning("history_not_kept", cluster=self.cluster, reason=error.summary)
                pause = min(self.every, _AGAIN)
            except Exception:
                # A defect in a report must not end the watching of the cluster.
                log.exception("history_failed", cluster=self.cluster)
                pause = self.every
            await asyncio.sleep(pause.total_seconds())

    async def turn(self) -> timedelta:
        """Keeps the report if it is due; returns how long until the next one may be."""
        now = self.now()
        last = await self.histories.last(self.cluster)
        age = now - last.made if last is not None else history.AT_LEAST_EVERY
        if timedelta(0) <= age < self.every:
            return self.every - age
        sums, workloads = history.kept(self.report())
        if last is None or last.digest != sums.digest or age >= history.AT_LEAST_EVERY:
            await self.histories.store(sums, workloads)
        return self.every
