"""Events that the gateway itself publishes: a wait, a refusal, an expiry, an end that nobody told.

Each has a fixed place in the operation's sequence, so that a repeat of it (a retried request,
another replica) carries the same message id and the server drops it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum

import structlog

from services.chassis.bus import subjects
from services.chassis.bus.publishing import Publisher
from services.chassis.bus.records import Records, RevisionConflict
from services.chassis.bus.streams import REGIONAL
from services.chassis.errors import AttemptsExhausted, DeadlineExpired, MeshbusError
from services.chassis.messages import (
    ErrorReport,
    Event,
    OperationRecord,
    OperationState,
    Phase,
    RequestRecord,
    Severity,
)

SERVICE = "gateway"

log = structlog.get_logger(__name__)


class _Place(IntEnum):
    """The notices' places in the sequence of an operation."""

    WAITING = 1
    REFUSED = 2
    EXPIRED = 3
    ABANDONED = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One operation on one cluster, as notices name it."""

    operation: str
    kind: str
    cluster: str
    cluster_name: str
    region: str = ""
    """Whose workers carry it out."""

    def worker(self, service: str) -> str:
        """Who may begin it: a command for the translator is no region's, until it is handed on."""
        there = f" of the region {self.region}" if self.region and service in REGIONAL else ""
        return f"{service} worker{there}"

    @property
    def way_out(self) -> str:
        """What to do where a region has no workers; "" for one that is in none."""
        if not self.region:
            return ""
        return (
            f"start workers with MESHBUS_REGION={self.region}, or take the region out of the "
            "labels in the cluster's kubeconfig; then send the operation again"
        )


def parts_of(record: RequestRecord) -> list[Part]:
    """The operation on each of its clusters."""
    return [
        Part(
            operation=record.operation,
            kind=record.kind,
            cluster=cluster,
            cluster_name=record.cluster_names.get(cluster, ""),
            region=record.regions.get(cluster, ""),
        )
        for cluster in record.clusters
    ]


@dataclass(frozen=True, slots=True)
class Notices:
    """Publishes the events of operations that no worker has begun, or that none will end."""

    publisher: Publisher
    records: Records[OperationRecord]
    is_told: Callable[[Event], Awaitable[bool]]
    """Whether the stream has this end of an operation."""
    worker: str
    """Name of this process in the records."""

    async def waiting(self, part: Part, *, service: str, deadline: datetime) -> None:
        """The operation was accepted, but no worker is connected to run it."""
        await self.publisher.event(
            _event(
                part,
                _Place.WAITING,
                Phase.WAITING,
                Severity.WARN,
                f"{part.kind} accepted for {part.cluster_name}; no {part.worker(service)} is "
                f"connected; it runs when one is back, until {deadline:%H:%M} UTC",
            )
        )

    async def refused(self, part: Part, error: MeshbusError) -> None:
        """One of several clusters could not take the operation."""
        summary = f"Error while starting {part.kind}: {error.summary}"
        await self._failed(part, _Place.REFUSED, summary, error)

    async def expired(self, part: Part, *, service: str) -> None:
        """The deadline passed and no worker had begun."""
        error = DeadlineExpired(
            f"no {part.worker(service)} began {part.kind} before its deadline",
            remedy=part.way_out if service in REGIONAL else "",
        )
        await self._failed(part, _Place.EXPIRED, f"Error while waiting to run {part.kind}", error)

    async def stored(self, part: Part) -> OperationRecord | None:
        """The part's record; None when no worker has begun it."""
        stored = await self.records.get(subjects.operation_key(part.operation, part.cluster))
        return stored[0] if stored else None

    async def abandoned(self, part: Part) -> None:
        """A worker had begun, and it is gone.

        The record first: should the worker be alive after all, it loses its claim by the attempt's
        number, and there is one end. Whoever finds the record without its event publishes it
        (`repeated`).
        """
        summary = f"Error while running {part.kind}"
        where = f", in the region {part.region}" if part.region else ""
        error = AttemptsExhausted(
            f"the worker that began {part.kind} has not ended it{where}", remedy=part.way_out
        )
        event = _event(part, _Place.ABANDONED, Phase.FAILED, Severity.ERROR, summary, error)
        key = subjects.operation_key(part.operation, part.cluster)
        while (stored := await self.records.get(key)) and not stored[0].state.is_terminal:
            ended = stored[0].model_copy(
                update={
                    "state": OperationState.FAILED,
                    "attempt": stored[0].attempt + 1,
                    "worker": self.worker,
                    "summary": summary,
                    "error": event.error,
                    "final": event,
                }
            )
            with contextlib.suppress(RevisionConflict):
                await self.records.update(key, ended, revision=stored[1])
                await self.publisher.event(event)
                return

    async def repeated(self, ended: OperationRecord) -> None:
        """Publishes an end that a gateway has recorded and could not publish any more, as it died
        or lost NATS between the two."""
        final = ended.final
        if final is not None and final.service == SERVICE and not await self.is_told(final):
            log.warning("end_repeated", operation=final.operation, cluster=final.cluster)
            await self.publisher.event(final)

    async def _failed(self, part: Part, place: _Place, summary: str, error: MeshbusError) -> None:
        """The final event first: a crash in between repeats it, the other order would lose it."""
        event = _event(part, place, Phase.FAILED, Severity.ERROR, summary, error)
        await self.publisher.event(event)
        record = OperationRecord(
            operation=part.operation,
            kind=part.kind,
            cluster=part.cluster,
            cluster_name=part.cluster_name,
            state=OperationState.FAILED,
            worker=self.worker,
            summary=summary,
            error=event.error,
            final=event,
        )
        try:
            await self.records.create(subjects.operation_key(part.operation, part.cluster), record)
        except RevisionConflict:
            return


def _event(
    part: Part,
    place: _Place,
    phase: Phase,
    severity: Severity,
    summary: str,
    error: MeshbusError | None = None,
) -> Event:
    return Event(
        operation=part.operation,
        kind=part.kind,
        service=SERVICE,
        cluster=part.cluster,
        cluster_name=part.cluster_name,
        sequence=place,
        phase=phase,
        severity=severity,
        summary=summary,
        # mesheryctl --watch takes an operation for failed when the details say "Error".
        details=f"Error: {error.summary}." if error else "",
        error=ErrorReport.of(error) if error else None,
    )
