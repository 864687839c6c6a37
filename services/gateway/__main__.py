"""`python -m services.gateway`: the composition root of the gateway."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from functools import partial
from typing import Any

import structlog

from services.chassis.bus.connection import Bus
from services.chassis.bus.credentials import Sealer
from services.chassis.bus.leases import Fence, Leases
from services.chassis.bus.queries import Prove, answering, ask
from services.chassis.bus.records import Bucket, Records
from services.chassis.bus.streams import EVT
from services.chassis.connections import Connections
from services.chassis.errors import InvalidMessage, MeshbusError, ServiceDraining
from services.chassis.files import Followed
from services.chassis.granting import Signer
from services.chassis.kube import definitions
from services.chassis.messages import ClusterRecord, OperationRecord, RequestRecord
from services.chassis.messages.models import VERSION
from services.chassis.policy import Identity
from services.chassis.regions import Regions
from services.chassis.service import Chassis, run
from services.gateway.adapters import listening
from services.gateway.adapters.bus import (
    REQUESTS,
    events_reader,
    followed_catalogs,
    followed_events,
    heard_ends,
    is_attended,
    requests_reader,
    stored_events,
    stream_state,
    told_ends,
)
from services.gateway.adapters.registries import MesheryRegistry
from services.gateway.adapters.server import Entrance, serving
from services.gateway.background import Background
from services.gateway.catalogs import Catalogs
from services.gateway.deadlines import Deadlines
from services.gateway.door.identities import Door, Evidence, Issuer
from services.gateway.door.tokens import read_tokens
from services.gateway.handlers import Handlers
from services.gateway.intake import Intake, Peers
from services.gateway.meshery.registering import Registering
from services.gateway.notices import Notices
from services.gateway.operations import Operations
from services.gateway.outcomes import Outcomes
from services.gateway.queries import Answers
from services.gateway.quotas import Quota, Quotas, parts_ended
from services.gateway.registrations import Registrations
from services.gateway.settings import DEFAULT_PORT, GatewaySettings
from services.gateway.streaming.absences import Absences
from services.gateway.streaming.audiences import Audiences, Owners
from services.gateway.streaming.events import Events, Sees
from services.gateway.streaming.marks import Marks

HTTP_PORT = 9110

# How long a call waits for NATS before it is refused.
_PATIENCE = timedelta(seconds=5)
# How long another service may take for what it is asked on somebody's behalf.
_PASSED_ON_WITHIN = timedelta(seconds=8)
# A client's next event waits for the mark; NATS being away must not hold it up for long.
_MARK_PATIENCE = timedelta(seconds=1)
# The lease only keeps replicas from sending the same twice, so nothing ends of it.
_REGISTERS_WITHIN = timedelta(hours=1)

log = structlog.get_logger(__name__)


def now() -> datetime:
    return datetime.now(timezone.utc)


@asynccontextmanager
async def compose(chassis: Chassis[GatewaySettings]) -> AsyncIterator[None]:
    """Builds the gateway and serves until the context is left."""
    bus, settings = chassis.bus, chassis.settings
    signing_key = settings.signing_key
    background = Background()
    catalogs = Catalogs(Bucket(bus, "catalog", _PATIENCE), time.monotonic)
    requests = Records(Bucket(bus, "ops", _PATIENCE), RequestRecord)
    parts = Records(Bucket(bus, "ops", _PATIENCE), OperationRecord)
    notices = Notices(chassis.publisher, parts, told_ends(bus), settings.instance)
    deadlines = Deadlines(
        records=requests,
        requests=requests_reader(bus),
        stream=partial(stream_state, bus, REQUESTS),
        notices=notices,
        now=now,
        patience=chassis.own.operation_deadline,
    )
    sealer = Sealer(Bucket(bus, "credentials", _PATIENCE))
    registrations = Registrations(
        Records(Bucket(bus, "clusters", _PATIENCE), ClusterRecord),
        lambda verb, question: ask(bus, question, service="lifecycle", verb=verb, within=_PATIENCE),
    )
    regions = Regions(bus)
    intake = Intake(settings.insecure_kubeconfigs, chassis.own.most_clusters)
    port = chassis.own.port or DEFAULT_PORT + settings.port_offset
    events = Audiences(
        _streams(chassis, background), chassis.policy, Owners(requests), chassis.own.quota_streams
    )
    quotas = Quotas(_quota(chassis.own), parts_ended(parts), now)
    operations = Operations(
        catalogs=catalogs,
        intake=intake,
        records=requests,
        sealer=sealer,
        signer=Signer.of(signing_key.get_secret_value() if signing_key else None),
        publisher=chassis.publisher,
        notices=notices,
        deadlines=deadlines,
        background=background,
        outcomes=Outcomes(followed_events(bus), parts),
        is_attended=partial(is_attended, bus),
        regions=regions,
        policy=chassis.policy,
        quotas=quotas,
        deadline=chassis.own.operation_deadline,
        now=now,
    )
    handlers = Handlers(
        catalogs=catalogs,
        operations=operations,
        events=events,
        intake=intake,
        peers=Peers(time.monotonic),
        policy=chassis.policy,
        version=VERSION,
        git_sha=chassis.own.git_sha,
        body_limit=chassis.own.max_body_bytes,
        call_deadline=chassis.own.call_deadline,
    )
    answers = Answers(
        requests=requests,
        parts=parts,
        registrations=registrations,
        regions=regions,
        accept=operations,
        body_limit=chassis.own.max_body_bytes,
        policy=chassis.policy,
        events=events,
        stored=stored_events(bus),
        pass_on=partial(_passed_on, bus),
        instance=settings.instance,
    )

    def drain() -> None:
        handlers.is_draining = True
        events.close(ServiceDraining("shutting down"))

    door = _door(chassis.own)
    async with (
        _drained(background, settings.drain_grace),
        followed_catalogs(bus, catalogs, background),
        heard_ends(bus, quotas.release),
        _watched(deadlines, background, every=chassis.own.operation_deadline),
        _registered(chassis, catalogs, background),
        answering(
            bus,
            service="gateway",
            description="Takes Meshery's operations and streams their events",
            queries=answers.queries(),
            askers=replace(chassis.askers, prove=_proof(door)),
        ),
        serving(
            chassis.own,
            handlers,
            _entrance(chassis, door, port),
            port=port,
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


def _quota(own: GatewaySettings) -> Quota:
    return Quota(commands=own.quota_commands, clusters=own.quota_clusters, size=own.quota_bytes)


def _streams(
    chassis: Chassis[GatewaySettings], background: Background
) -> Callable[[str, Sees], Events]:
    bus, own = chassis.bus, chassis.own

    started = now()

    def made(key: str, sees: Sees) -> Events:
        bucket = Bucket(bus, "delivery", _MARK_PATIENCE)
        return Events(
            read=events_reader(bus),
            sees=sees,
            marks=Marks(bucket, partial(stream_state, bus, EVT.name), background, key),
            absences=Absences(bucket, key, background, now, started, own.replay_gap),
            metrics=chassis.metrics,
            background=background,
            queue_size=own.event_queue,
            slow_client_grace=own.slow_client_grace,
        )

    return made


def _entrance(chassis: Chassis[GatewaySettings], door: Door, port: int) -> Entrance:
    own = chassis.own
    return Entrance(
        door=door,
        policy=chassis.policy,
        audit=chassis.audit,
        connections=Connections(
            port=port,
            most_per_address=listening.most_per_address(own),
            metrics=chassis.metrics,
        ),
        keeps_peers=own.keeps_peers,
        deadline=own.answer_deadline,
    )


def _door(own: GatewaySettings) -> Door:
    issuer = None
    if own.jwt_keys is not None:
        # It brings cryptography.
        from services.gateway.door.jwt import read_keys

        issuer = Issuer(
            keys=Followed("MESHBUS_GATEWAY_JWT_KEYS", own.jwt_keys, read=read_keys),
            name=own.jwt_issuer,
            audience=own.jwt_audience,
            identity_claim=own.jwt_identity_claim,
            groups_claim=own.jwt_groups_claim,
        )
    tokens = None
    if own.tokens is not None:
        tokens = Followed("MESHBUS_GATEWAY_TOKENS", own.tokens, read=read_tokens)
    return Door(now=time.time, tokens=tokens, issuer=issuer, is_open=own.lets_anyone_in)


def _proof(door: Door) -> Prove:
    """Who has a token. Whoever reaches the bus is not for that the one local user."""
    door = replace(door, is_open=False)

    def prove(authorization: str) -> tuple[Identity, str]:
        admitted = door.admit(Evidence(authorization))
        return admitted.identity, admitted.by

    return prove


async def _passed_on(bus: Bus, name: str, question: dict[str, Any], identity: Identity) -> Any:
    service, _, verb = name.partition(".")
    return await ask(
        bus, question, service=service, verb=verb, within=_PASSED_ON_WITHIN, behalf=identity
    )


@asynccontextmanager
async def _drained(background: Background, grace: timedelta) -> AsyncIterator[None]:
    try:
        yield
    finally:
        await background.drain(grace)


@asynccontextmanager
async def _watched(
    deadlines: Deadlines, background: Background, *, every: timedelta
) -> AsyncIterator[None]:
    """Watches deadlines for the block, also those of operations that others have accepted."""

    async def scan() -> None:
        while True:
            try:
                await deadlines.scan()
            except MeshbusError as error:
                log.warning("deadlines_not_scanned", reason=error.summary)
            await asyncio.sleep(every.total_seconds())

    watching = background.start("deadlines", deadlines.run())
    scanning = background.start("scan-deadlines", scan())
    try:
        yield
    finally:
        for task in (watching, scanning):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


@asynccontextmanager
async def _registered(
    chassis: Chassis[GatewaySettings], catalogs: Catalogs, background: Background
) -> AsyncIterator[None]:
    """Keeps Meshery's registry up for the block, where its address is set."""
    bus, own = chassis.bus, chassis.own
    if not own.meshery:
        yield
        return
    published = Bucket(bus, definitions.BUCKET, _PATIENCE)
    leases = Leases(
        Bucket(bus, "leases", _PATIENCE), chassis.settings.instance, chassis.settings.lease_ttl / 6
    )

    async def text(version: str) -> str:
        entry = await published.get(definitions.key_of(version))
        try:
            return definitions.unpacked(entry.value).text if entry is not None else ""
        except InvalidMessage as error:
            log.warning("definitions_unreadable", version=version, reason=error.summary)
            return ""

    registering = Registering(
        registry=MesheryRegistry(
            base=own.meshery,
            policy=chassis.settings.address_policy,
            provider=own.meshery_provider,
            token=own.meshery_token.get_secret_value() if own.meshery_token else "",
        ),
        versions=catalogs.versions,
        definitions=text,
        alone=lambda: leases.held(
            "gateway.meshery",
            operation=chassis.settings.instance,
            attempt=1,
            fence=Fence(_REGISTERS_WITHIN),
        ),
        publisher=chassis.publisher,
        every=own.meshery_look,
        patience=own.meshery_patience,
    )
    chassis.health.notes["meshery"] = registering.problem
    task = background.start("register-at-meshery", registering.run())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


if __name__ == "__main__":
    run("gateway", GatewaySettings, compose, http_port=HTTP_PORT)
