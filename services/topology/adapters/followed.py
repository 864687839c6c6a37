"""The kept sources of a cluster on the bus, and requests to translate one of them again."""

from __future__ import annotations

import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

import structlog
from pydantic import ValidationError

from services.chassis.bus.connection import Bus
from services.chassis.bus.publishing import Publisher
from services.chassis.bus.reading import OrderedReader
from services.chassis.bus.records import is_deletion
from services.chassis.errors import ClusterBusy
from services.chassis.kube.resources import Resources
from services.chassis.messages import Command, Followed, FollowRequest, SlotKind
from services.chassis.messages.following import KIND, following_id
from services.chassis.reading.jsons import read_json

_BUCKET = "following"
_PUBLISH_WITHIN = timedelta(seconds=5)
_BEGUN_WITHIN = timedelta(minutes=2)
"""Later it is asked for again anyway."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Kept:
    """A source that is followed from now on, or (`record` is None) no more."""

    source: str
    record: Followed | None
    revision: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterFollowed:
    """Implements `drift.following.Sources` for one registered cluster."""

    cluster: str
    bus: Bus
    resources: Resources
    publisher: Publisher
    region: Callable[[], Awaitable[str]]
    """The one whose lifecycle workers write to the cluster, as the bus knows it now."""

    async def changes(self) -> AsyncGenerator[Kept, None]:
        """All kept sources, then each change, without end and over restarts of the bus."""
        reader = OrderedReader(self.bus, f"KV_{_BUCKET}", f"$KV.{_BUCKET}.{self.cluster}.>", 1)
        sources: dict[str, str] = {}
        async for message in reader.messages():
            if is_deletion(message.headers):
                source = sources.pop(message.subject, None)
                if source is not None:
                    yield Kept(source, None, message.sequence)
                continue
            record = _read(message.body)
            if record is not None and record.cluster == self.cluster:
                sources[message.subject] = record.source
                yield Kept(record.source, record, message.sequence)

    async def versions(self, kind: str) -> Sequence[str]:
        group, _, name = kind.partition("/")
        return [
            resource.api_version.rpartition("/")[2]
            for resource in await self.resources.of_group(group)
            if resource.kind == name
        ]

    async def follow(
        self, record: Followed, *, revision: int, view: str, attempt: int, attempts: int
    ) -> str:
        # The first attempt has the same id in every replica; each repeat is one of its own.
        suffix = view if attempt == 1 else f"{view}{uuid.uuid4().hex[:8]}"
        operation = following_id(record.operation, revision=revision, attempt=suffix)
        asked = FollowRequest(
            source=record.source, revision=revision, attempt=attempt, attempts=attempts
        )
        command = Command(
            operation=operation,
            kind=KIND,
            cluster=self.cluster,
            cluster_name=record.cluster_name,
            namespace=record.namespace,
            username=record.username,
            body=asked.model_dump_json(),
            region=await self.region(),
            grant=record.grant,
            deadline=datetime.now(timezone.utc) + _BEGUN_WITHIN,
        )
        try:
            await self.publisher.command(
                command,
                service="translator",
                slot=SlotKind.APPLY,
                within=_PUBLISH_WITHIN,
                sender="topology",
            )
        except ClusterBusy:
            log.info("following_waits", operation=operation)  # it is in its queue already
        return operation


def _read(value: bytes) -> Followed | None:
    try:
        return Followed.model_validate(read_json(value))
    except (ValueError, ValidationError):
        log.warning("followed_source_unreadable")
        return None
