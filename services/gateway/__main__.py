"""`python -m services.gateway`: the composition root of the gateway."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta, timezone

import structlog

from services.chassis.bus.credentials import Sealer
from services.chassis.bus.queries import VERSION, answering
from services.chassis.bus.records import Bucket, Records
from services.chassis.errors import MeshbusError, ServiceDraining
from services.chassis.messages import ClusterRecord, OperationRecord, RequestRecord
from services.chassis.service import Chassis, run
from services.gateway.adapters.bus import (
    event_stream_state,
    events_reader,
    followed_catalogs,
    followed_events,
    is_attended,
)
from services.gateway.adapters.server import serving
from services.gateway.background import Background
from services.gateway.catalogs import Catalogs
from services.gateway.deadlines import Deadlines
from services.gateway.events import Events
from services.gateway.handlers import Handlers
from services.gateway.intake import Intake, Peers
from services.gateway.marks import Marks
from services.gateway.notices import Notices
from services.gateway.operations import Operations
from services.gateway.outcomes import Outcomes
from services.gateway.queries import Answers
from services.gateway.registrations import Registrations
from services.gateway.settings import DEFAULT_PORT, GatewaySettings

HTTP_PORT = 9110

# How long a call waits for NATS before it is refused.
_PATIENCE = timedelta(seconds=5)
# A client's next event waits for the mark; NATS being away must not hold it up for long.
_MARK_PATIENCE = timedelta(seconds=1)

log = structlog.get_logger(__name__)


def now() -> datetime:
    return datetime.now(timezone.utc)


@asynccontextmanager
async def compose(chassis: Chassis[GatewaySettings]) -> AsyncIterator[None]:
    """Builds the gateway and serves until the context is left."""
    bus, settings = chassis.bus, chassis.settings
    background = Background()
    catalogs = Catalogs(Bucket(bus, "catalog", _PATIENCE), time.monotonic)
    requests = Records(Bucket(bus, "ops", _PATIENCE), RequestRecord)
    parts = Records(Bucket(bus, "ops", _PATIENCE), OperationRecord)
    notices = Notices(chassis.publisher, parts, settings.instance)
    deadlines = Deadlines(requests, notices, now)
    sealer = Sealer(Bucket(bus, "credentials", _PATIENCE))
    registrations = Registrations(
        Records(Bucket(bus, "clusters", _PATIENCE), ClusterRecord), sealer
    )
    intake = Intake(settings.insecure_kubeconfigs)
    events = _events(chassis, background)
    operations = Operations(
        catalogs=catalogs,
        intake=intake,
        records=requests,
        sealer=sealer,
        publisher=chassis.publisher,
        registrations=registrations if chassis.own.register_clusters else None,
        notices=notices,
        deadlines=deadlines,
        background=background,
        outcomes=Outcomes(followed_events(bus), parts),
        is_attended=lambda service: is_attended(bus, service),
        deadline=chassis.own.operation_deadline,
        now=now,
    )
    handlers = Handlers(
        catalogs=catalogs,
        operations=operations,
        events=events,
        intake=intake,
        peers=Peers(time.monotonic),
        version=VERSION,
        git_sha=chassis.own.git_sha,
        body_limit=chassis.own.max_body_bytes,
        call_deadline=chassis.own.call_deadline,
    )
    answers = Answers(
        requests=requests,
        parts=parts,
        registrations=registrations,
        events=events,
        instance=settings.instance,
    )

    def drain() -> None:
        handlers.is_draining = True
        events.close(ServiceDraining("shutting down"))

    async with (
        _drained(background, settings.drain_grace),
        followed_catalogs(bus, catalogs, background),
        _watched(deadlines, background),
        answering(
            bus,
            service="gateway",
            description="Takes Meshery's operations and streams their events",
            queries=answers.queries(),
        ),
        serving(
            chassis.own,
            handlers,
            port=chassis.own.port or DEFAULT_PORT + settings.port_offset,
            metrics=chassis.metrics,
            is_well=lambda: bus.is_connected,
            on_drain=drain,
            grace=settings.drain_grace,
        ),
    ):
        forget = bus.on_reconnect(events.recheck)
        try:
            yield
        finally:
            forget()


def _events(chassis: Chassis[GatewaySettings], background: Background) -> Events:
    bus, own = chassis.bus, chassis.own
    marks = Marks(
        Bucket(bus, "delivery", _MARK_PATIENCE), lambda: event_stream_state(bus), background
    )
    return Events(
        read=events_reader(bus),
        marks=marks,
        metrics=chassis.metrics,
        background=background,
        queue_size=own.event_queue,
        slow_client_grace=own.slow_client_grace,
    )


@asynccontextmanager
async def _drained(background: Background, grace: timedelta) -> AsyncIterator[None]:
    try:
        yield
    finally:
        await background.drain(grace)


@asynccontextmanager
async def _watched(deadlines: Deadlines, background: Background) -> AsyncIterator[None]:
    """Watches deadlines for the block, also those of operations from before it."""

    async def scan() -> None:
        try:
            await deadlines.scan()
        except MeshbusError as error:
            log.warning("deadlines_not_scanned", reason=error.summary)

    watching = background.start("deadlines", deadlines.run())
    scanning = background.start("scan-deadlines", scan())
    try:
        yield
    finally:
        for task in (watching, scanning):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


if __name__ == "__main__":
    run("gateway", GatewaySettings, compose, http_port=HTTP_PORT)
