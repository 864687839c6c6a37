"""Keeps Meshery's registry knowing the Istio versions that can be installed here.

Meshery's own list decides what is missing, not what was sent: a server that was restarted with an
empty registry gets everything again, one that kept it gets nothing twice, and a server that comes
later than the gateway is waited for. What it took and does not list is told, and not sent again at
every look: it would only fill the registry with what nobody sees.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Protocol

import structlog

from services.chassis.bus.publishing import Publisher
from services.chassis.errors import (
    BusUnavailable,
    ClusterBusy,
    MeshbusError,
    MesheryUnreachable,
    RegistrationRefused,
)
from services.chassis.messages import ErrorReport, Event, Phase, Severity
from services.chassis.reading.aside import read_aside
from services.gateway.meshery import packages

OPERATION = "meshery-registration"
"""The id under which events about the registration stand."""
_FIRST_PAUSE_S = 1.0
_AGAIN_AFTER_S = 600.0
"""Until what was taken and is not listed is sent once more."""
_BUILD = re.compile(r"v?(\d+)\.(\d+)\.(\d+)")
_TAKES_PACKAGES = (0, 7, 89)
"""The first server that takes packages of models."""

log = structlog.get_logger(__name__)


class Registry(Protocol):
    """Meshery's server; `adapters/registries.py` is one. All raise `MesheryUnreachable` and
    `RegistrationRefused`."""

    @property
    def address(self) -> str:
        """As it may be shown."""

    async def build(self) -> str:
        """The server's version, "" where it tells none."""

    async def listed(self) -> set[str]:
        """Versions of the registered models `istio`, as the page offers them."""

    async def register(self, package: bytes, *, name: str) -> str:
        """Sends a package; returns what of it was refused, "" for nothing."""


@dataclass(slots=True, kw_only=True)
class Registering:
    """Looks now and then what Meshery lists, and sends what it lacks."""

    registry: Registry
    versions: Callable[[], list[str]]
    """Mesh versions that can be installed, newest first."""
    definitions: Callable[[str], Awaitable[str]]
    """The text of a version's definitions; "" while they are not here."""
    alone: Callable[[], AbstractAsyncContextManager[object]]
    """Keeps other replicas from sending the same meanwhile; raises `ClusterBusy` for one that
    does."""
    publisher: Publisher
    every: timedelta
    patience: timedelta
    """How long the server may be away until that is told: it may start later than this."""
    clock: Callable[[], float] = time.monotonic
    """Seconds, monotonic."""
    _problem: str = ""
    _told: str = ""
    """The code of the error that an event told of last."""
    _failing_since: float | None = None
    _events: int = 0
    _unlisted: dict[str, tuple[float, str]] = field(default_factory=dict)
    """When a version was sent that the server does not list, and what it said to it."""

    async def problem(self) -> str:
        """Why Meshery's page does not know all versions; "" when it does."""
        return self._problem

    async def run(self) -> None:
        """Until cancelled."""
        pause_s = _FIRST_PAUSE_S
        while True:
            try:
                await self.look()
            except ClusterBusy:
                pass  # another replica sends what is missing
            except BusUnavailable as error:
                log.info("registration_waits", reason=error.summary)
            except MeshbusError as error:
                await self._failed(error)
            else:
                pause_s = self.every.total_seconds()
                await self._well()
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, self.every.total_seconds())

    async def look(self) -> None:
        """Sends what the server lacks; raises when it does not list all versions then."""
        wanted = self.versions()
        if not wanted or not self._missing(wanted, await self.registry.listed()):
            return
        _require_packages(await self.registry.build())
        async with self.alone():
            missing = self._missing(wanted, await self.registry.listed())
            due = [version for version in missing if self._is_due(version)]
            for version in due:
                await self._send(version)
            if due:
                missing = self._missing(wanted, await self.registry.listed())
        if missing:
            raise self._refusal(missing[0])

    def _refusal(self, version: str) -> RegistrationRefused:
        address, name = self.registry.address, packages.file_name(version)
        _, said = self._unlisted.get(version, (0.0, ""))
        if said:
            return RegistrationRefused(f"{address} does not take {name}: {said}")
        return RegistrationRefused(f"{address} took {name} and does not list its model")

    def _missing(self, wanted: list[str], listed: set[str]) -> list[str]:
        for version in listed:
            self._unlisted.pop(version, None)
        return [version for version in wanted if version not in listed]

    def _is_due(self, version: str) -> bool:
        sent = self._unlisted.get(version)
        return sent is None or self.clock() - sent[0] >= _AGAIN_AFTER_S

    async def _send(self, version: str) -> None:
        text = await self.definitions(version)
        package = await read_aside(lambda: packages.packed(version, text), size=len(text))
        said = await self.registry.register(package, name=packages.file_name(version))
        self._unlisted[version] = (self.clock(), said)
        log.info("model_registered", version=version, bytes=len(package))

    async def _failed(self, error: MeshbusError) -> None:
        """Tells it once, and a server that is merely away only after a while."""
        self._problem = f"{error.summary}. {error.remedy}"
        if self._failing_since is None:
            self._failing_since = self.clock()
            log.warning("registration_failed", code=error.code, reason=error.summary)
        away_s = self.clock() - self._failing_since
        is_late = isinstance(error, MesheryUnreachable)
        if self._told == error.code or (is_late and away_s < self.patience.total_seconds()):
            return
        self._told = error.code
        await self._tell(
            "Meshery does not know the Istio versions of this adapter, so its page offers none: "
            f"{error.summary}",
            phase=Phase.FAILED,
            severity=Severity.WARN,
            error=error,
        )

    async def _well(self) -> None:
        self._problem, self._failing_since = "", None
        if self._told:
            self._told = ""
            await self._tell("Meshery knows the Istio versions of this adapter now")

    async def _tell(
        self,
        summary: str,
        *,
        phase: Phase = Phase.DONE,
        severity: Severity = Severity.INFO,
        error: MeshbusError | None = None,
    ) -> None:
        self._events += 1
        event = Event(
            operation=OPERATION,
            kind="registration",
            service="gateway",
            cluster="",
            # A number of this process alone would be one that an earlier process has used.
            attempt=int(time.time()),
            sequence=self._events,
            phase=phase,
            severity=severity,
            summary=summary,
            error=ErrorReport.of(error) if error else None,
        )
        try:
            await self.publisher.event(event)
        except BusUnavailable as problem:
            log.warning("event_not_stored", reason=problem.summary)


def _require_packages(build: str) -> None:
    """Raises `RegistrationRefused` for a server that would keep none: its older ways answer 200
    and list nothing. A build without a number (`edge`) is taken for a new one."""
    found = _BUILD.match(build)
    if found is None or tuple(map(int, found.groups())) >= _TAKES_PACKAGES:
        return
    first = ".".join(map(str, _TAKES_PACKAGES))
    raise RegistrationRefused(
        f"Meshery {build[:32]} takes no packages of models",
        cause=f"servers before v{first} list no model that an adapter registers",
        remedy=f"run Meshery v{first} or newer; until then name versions with mesheryctl or gRPC",
    )
