"""The frame of a service: settings, telemetry, bus, health, and a drain on SIGTERM.

`run` is all that a service's `__main__` calls, with the function that composes its parts.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Generic, TypeVar

import structlog
import uvloop
from pydantic_settings import BaseSettings

from services.chassis import settings as chassis_settings
from services.chassis.bus import streams
from services.chassis.bus.audits import Audit, auditing
from services.chassis.bus.connection import Bus, connect
from services.chassis.bus.publishing import Publisher
from services.chassis.bus.queries import Askers
from services.chassis.connections import Connections, affordable, raise_file_limit
from services.chassis.errors import BusUnavailable, MeshbusError, StreamsMissing
from services.chassis.files import Followed
from services.chassis.health import Health
from services.chassis.memory import (
    collect_seldom,
    keep_started,
    return_free_pages,
    return_large_blocks,
)
from services.chassis.policy import OPEN, Policy, read_policy
from services.chassis.reading import limits as reading_limits
from services.chassis.reading.limits import Limits
from services.chassis.settings import ChassisSettings, SettingsError
from services.chassis.telemetry import logs, traces
from services.chassis.telemetry.metrics import Metrics

_STREAMS_PATIENCE_S = 60.0
# Connections that one address may have to the port of health and metrics.
_MOST_HTTP_CONNECTIONS = 256
_LONGEST_TURN_S = 0.0002

S = TypeVar("S", bound=BaseSettings)

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Chassis(Generic[S]):
    """The parts that a service is composed from."""

    service: str
    settings: ChassisSettings
    own: S
    bus: Bus
    publisher: Publisher
    metrics: Metrics
    health: Health
    audit: Audit
    policy: Callable[[], Policy] = lambda: OPEN
    """As the file says now; open where there is none."""

    @property
    def askers(self) -> Askers:
        """For the service API: who may ask under his own name."""
        return Askers(self.service, self.policy, self.audit)


Composer = Callable[[Chassis[S]], AbstractAsyncContextManager[None]]
"""Starts a service's parts; leaving the context drains them."""


def run(service: str, settings_type: type[S], compose: Composer[S], *, http_port: int) -> None:
    """Runs `service` until SIGTERM or SIGINT; exits with 2 for unusable settings."""
    # grpc and forking do not go together; children are started by exec.
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
    return_large_blocks()
    collect_seldom()
    try:
        settings, own = chassis_settings.load(settings_type, service=service)
    except SettingsError as error:
        sys.exit(f"meshbus {service}: {error}")
    logs.configure(settings, service=service)
    raise_file_limit()
    reading_limits.use(Limits.of(settings))
    # How long the loop waits for the lock that a thread holds while it reads a large text.
    sys.setswitchinterval(_LONGEST_TURN_S)
    port = settings.http_port or http_port + settings.port_offset
    factory = uvloop.new_event_loop if settings.loop == "uvloop" else asyncio.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        try:
            runner.run(_serve(service, settings, own, compose, port))
        except (SettingsError, MeshbusError, OSError) as error:
            log.error("service_cannot_start", reason=str(error))
            sys.exit(1)


async def _serve(
    service: str, settings: ChassisSettings, own: S, compose: Composer[S], http_port: int
) -> None:
    provider = traces.configure(settings, service=service)
    policy = _policy(settings)
    metrics = Metrics()
    health = Health(service, metrics)
    stopping = _stop_signal()
    web = await health.serve(
        host=settings.http_host, port=http_port, names=frozenset(settings.http_names)
    )
    watching = [
        asyncio.create_task(health.watch_loop(), name="loop-lag"),
        asyncio.create_task(return_free_pages(), name="free-pages"),
        asyncio.create_task(_bounded(http_port, metrics).bound(), name="http-connections"),
    ]
    try:
        async with (
            _connected(settings, service=service) as bus,
            auditing(Publisher(bus), metrics) as audit,
        ):
            health.check_bus(bus)
            chassis = Chassis(
                service=service,
                settings=settings,
                own=own,
                bus=bus,
                publisher=Publisher(bus),
                metrics=metrics,
                health=health,
                audit=audit,
                policy=policy,
            )
            async with compose(chassis):
                keep_started()
                health.is_starting = False
                log.info("service_ready", http_port=http_port)
                await _first(stopping, bus.lost)
                health.is_draining = True
                log.info("service_drains")
            if bus.lost.is_set():
                raise BusUnavailable("NATS has closed the connection for good")
    finally:
        for task in watching:
            task.cancel()
        await web.cleanup()
        if provider is not None:
            await asyncio.to_thread(provider.shutdown)
    log.info("service_stopped")


def _policy(settings: ChassisSettings) -> Callable[[], Policy]:
    if settings.policy is None:
        return lambda: OPEN
    return Followed("MESHBUS_POLICY", settings.policy, read=read_policy).current


def _bounded(port: int, metrics: Metrics) -> Connections:
    most = affordable(_MOST_HTTP_CONNECTIONS)
    return Connections(port=port, most_per_address=most, metrics=metrics)


async def _first(*events: asyncio.Event) -> None:
    """Until one of them is set."""
    waiting = [asyncio.create_task(event.wait()) for event in events]
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waiting:
            task.cancel()


def _stop_signal() -> asyncio.Event:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    return stopping


@contextlib.asynccontextmanager
async def _connected(settings: ChassisSettings, *, service: str) -> AsyncIterator[Bus]:
    bus = await connect(settings, service=service)
    try:
        bus.keys.check(service)
        await _await_streams(bus, settings, service=service)
        yield bus
    finally:
        await bus.close()


async def _await_streams(bus: Bus, settings: ChassisSettings, *, service: str) -> None:
    """The init job may still be at work when a service starts."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _STREAMS_PATIENCE_S
    while True:
        try:
            await streams.verify(
                bus.client, lease_ttl=settings.lease_ttl, service=service, region=settings.region
            )
            return
        except (StreamsMissing, BusUnavailable) as error:
            if loop.time() > deadline:
                raise
            log.info("waiting_for_streams", reason=error.summary)
            await asyncio.sleep(0.5)
