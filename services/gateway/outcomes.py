"""Waiting for the end of an operation, for calls that answer when the work is done.

The end is heard on the events' own subject, and read from the operation's records now and then: a
reconnect may swallow the one, and the other is always right.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import timedelta

from services.chassis.bus import subjects
from services.chassis.bus.records import Records
from services.chassis.errors import BusUnavailable, DeadlineExpired, MeshbusError, of_code
from services.chassis.messages import Event, OperationRecord, Phase

_LOOK_EVERY_S = 2.0

Followed = Callable[[str], AbstractAsyncContextManager["asyncio.Queue[Event]"]]
"""The events of an operation, from now on, in a queue."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How an operation ended, by cluster; `names` has all of them, also those without an end."""

    finals: Mapping[str, Event]
    names: Mapping[str, str]

    @property
    def is_success(self) -> bool:
        return all(
            cluster in self.finals and self.finals[cluster].phase is Phase.DONE
            for cluster in self.names
        )

    def error(self, summary: str) -> MeshbusError:
        """The call's error: that of the first failed cluster, with the lines of all clusters."""
        failed = [event.error for event in self.finals.values() if event.error is not None]
        if not failed:
            return DeadlineExpired(
                summary,
                cause="the work was not done before the call's own deadline",
                remedy="the operation goes on; its events tell how it ends",
            )
        report = failed[0]
        kind = of_code(report.code)
        return kind(summary, cause=report.cause, remedy=report.remedy, subject=report.subject)


@dataclass(frozen=True, slots=True)
class Outcomes:
    """Ends of operations."""

    followed: Followed
    records: Records[OperationRecord]

    async def collect(
        self,
        events: asyncio.Queue[Event],
        operation: str,
        *,
        clusters: Collection[str],
        within: timedelta,
    ) -> dict[str, Event]:
        """The final event by cluster; clusters that have not ended in time are left out."""
        finals: dict[str, Event] = {}
        loop = asyncio.get_running_loop()
        deadline = loop.time() + within.total_seconds()
        while len(finals) < len(clusters) and (left := deadline - loop.time()) > 0:
            try:
                async with asyncio.timeout(min(left, _LOOK_EVERY_S)):
                    event = await events.get()
            except TimeoutError:
                missing = [cluster for cluster in clusters if cluster not in finals]
                finals |= await self._recorded(operation, missing)
                continue
            if event.is_final and event.cluster in clusters:
                finals[event.cluster] = event
        return finals

    async def _recorded(self, operation: str, clusters: Collection[str]) -> dict[str, Event]:
        found: dict[str, Event] = {}
        for cluster in clusters:
            try:
                stored = await self.records.get(subjects.operation_key(operation, cluster))
            except BusUnavailable:
                continue
            if stored is not None and stored[0].final is not None:
                found[cluster] = stored[0].final
        return found
