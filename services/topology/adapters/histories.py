"""Compliance over time on the bus: the stream COMPLIANCE, which topology alone writes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeVar

import nats.js.errors
import structlog

from services.chassis.bus import envelopes, subjects
from services.chassis.bus.connection import Bus
from services.chassis.bus.publishing import Publisher
from services.chassis.bus.reading import StoredMessage, last_of_each
from services.chassis.errors import BusUnavailable, InvalidMessage, shortened
from services.chassis.messages.models import Message
from services.topology.reports.history import ComplianceSums, ComplianceWorkloads

_STREAM = "COMPLIANCE"
_SUMS, _WORKLOADS = "sums", "workloads"
_STORE_WITHIN = timedelta(seconds=30)
_READ_WITHIN_S = 8.0
"""Less than whoever asked waits."""

log = structlog.get_logger(__name__)

K = TypeVar("K", ComplianceSums, ComplianceWorkloads)


@dataclass(frozen=True, slots=True)
class Histories:
    """Implements `reports.history.Kept`, and what `recording` needs of it."""

    bus: Bus
    publisher: Publisher

    async def last(self, cluster: str) -> ComplianceSums | None:
        """What was kept of a cluster last."""
        (found,) = await self.sums([cluster], [None])
        return found.get(cluster)

    async def store(self, sums: ComplianceSums, workloads: ComplianceWorkloads) -> None:
        """Raises `BusUnavailable`. Told by two owners during a move it is there twice, which does
        no harm."""
        # The sums go last: of what has sums the workloads are there.
        for of, message in ((_WORKLOADS, workloads), (_SUMS, sums)):
            body, headers = envelopes.encode(message, content_type=envelopes.JSON)
            subject = subjects.compliance(sums.cluster, of)
            headers |= {envelopes.MESSAGE_ID: f"{subject}.{sums.made.timestamp()}"}
            try:
                await self.publisher.raw(subject, body, headers, within=_STORE_WITHIN)
            except nats.js.errors.APIError as error:
                raise BusUnavailable(shortened(str(error.description))) from error

    async def sums(
        self, clusters: Sequence[str], moments: Sequence[datetime | None]
    ) -> list[dict[str, ComplianceSums]]:
        return await self._read(ComplianceSums, _SUMS, clusters, moments)

    async def workloads(
        self, clusters: Sequence[str], moments: Sequence[datetime | None]
    ) -> list[dict[str, ComplianceWorkloads]]:
        return await self._read(ComplianceWorkloads, _WORKLOADS, clusters, moments)

    async def _read(
        self, model: type[K], of: str, clusters: Sequence[str], moments: Sequence[datetime | None]
    ) -> list[dict[str, K]]:
        wanted = [subjects.compliance(cluster, of) for cluster in clusters]
        try:
            async with asyncio.timeout(_READ_WITHIN_S):
                found = await last_of_each(self.bus, _STREAM, wanted, moments)
        except TimeoutError:
            raise BusUnavailable("the history could not be read in time") from None
        # Most of it is the same at many moments.
        read: dict[int, K | None] = {}
        columns: list[dict[str, K]] = []
        for messages in found:
            column: dict[str, K] = {}
            for message in messages:
                if message.sequence not in read:
                    read[message.sequence] = _read(model, message)
                known = read[message.sequence]
                if known is not None:
                    column[known.cluster] = known
            columns.append(column)
            await asyncio.sleep(0)
        return columns


def _read(model: type[K], message: StoredMessage) -> K | None:
    try:
        found: Message = envelopes.decode(model, message.body, message.headers)
    except InvalidMessage as error:
        # Of another version of ours.
        log.warning("history_unreadable", subject=message.subject, reason=error.summary)
        return None
    return found if isinstance(found, model) else None
