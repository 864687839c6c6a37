"""The progress of one operation, published as events in order.

Reporting never waits for NATS: events go through a queue of their own, so that an install goes on
while the server restarts. `close` waits until all are stored.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

import structlog

from services.chassis.errors import BusUnavailable, MeshbusError
from services.chassis.messages import Command, ErrorReport, Event, Phase, Severity
from services.chassis.telemetry.redaction import redacted_text

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Progress:
    """Events of one command in one attempt."""

    publish: Callable[[Event], Awaitable[object]]
    """Stores one event; retries by itself."""
    command: Command
    attempt: int
    service: str
    began: float = field(default_factory=time.monotonic)
    _sequence: int = 0
    _queue: asyncio.Queue[Event | None] = field(default_factory=asyncio.Queue)
    _writer: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._writer = asyncio.create_task(self._write(), name="progress")

    @property
    def seconds(self) -> float:
        """Since the operation began in this worker."""
        return time.monotonic() - self.began

    def tell(
        self,
        phase: Phase,
        summary: str,
        details: str = "",
        *,
        severity: Severity = Severity.INFO,
        error: ErrorReport | None = None,
        numbers: Mapping[str, float] | None = None,
    ) -> Event:
        """Queues one event; its text is redacted."""
        event = self.compose(
            phase, summary, details, severity=severity, error=error, numbers=numbers
        )
        self._queue.put_nowait(event)
        return event

    def compose(
        self,
        phase: Phase,
        summary: str,
        details: str = "",
        *,
        severity: Severity = Severity.INFO,
        error: ErrorReport | None = None,
        numbers: Mapping[str, float] | None = None,
    ) -> Event:
        """The next event of this attempt, not yet sent."""
        self._sequence += 1
        command = self.command
        return Event(
            operation=command.operation,
            kind=command.kind,
            service=self.service,
            cluster=command.cluster,
            cluster_name=command.cluster_name,
            attempt=self.attempt,
            sequence=self._sequence,
            phase=phase,
            severity=severity,
            summary=redacted_text(summary),
            details=redacted_text(details),
            error=masked(error) if error is not None else None,
            numbers={name: round(value, 3) for name, value in (numbers or {}).items()},
        )

    def note(self, summary: str, details: str = "") -> None:
        self.tell(Phase.NOTE, summary, details)

    def warn(self, summary: str, details: str = "") -> None:
        self.tell(Phase.NOTE, summary, details, severity=Severity.WARN)

    async def close(self) -> None:
        """Waits until all events are stored; gives up with `BusUnavailable`."""
        self._queue.put_nowait(None)
        if self._writer is not None:
            await self._writer

    def abandon(self) -> None:
        """Drops the events that are left: another worker reports now."""
        if self._writer is not None:
            self._writer.cancel()

    async def _write(self) -> None:
        while (event := await self._queue.get()) is not None:
            try:
                await self.publish(event)
            except BusUnavailable:
                # Progress may be lost when NATS stays away; the final event is not (running.py).
                log.warning("event_not_stored", phase=event.phase, summary=event.summary)
            except MeshbusError as error:
                log.error("event_refused", code=error.code, phase=event.phase)


def masked(error: ErrorReport) -> ErrorReport:
    """An error whose words have passed the same net as an event's: some of them are a cluster's."""
    words = ("summary", "cause", "remedy", "subject")
    return error.model_copy(update={name: redacted_text(getattr(error, name)) for name in words})
