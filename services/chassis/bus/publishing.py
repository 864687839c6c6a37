"""Publishing with retries under one message id.

A publish whose answer was lost may still have arrived (nats-py even keeps it while it is
disconnected), so every try carries the same `Nats-Msg-Id` and the server drops the copies.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import NamedTuple, TypeVar

import nats.errors
import nats.js.errors

from services.chassis.bus import envelopes, subjects
from services.chassis.bus.connection import Bus
from services.chassis.bus.subjects import CommandSubject
from services.chassis.errors import (
    BusUnavailable,
    ClusterBusy,
    DeadlineExpired,
    QueueFull,
    shortened,
)
from services.chassis.messages import Command, Event, SlotKind
from services.chassis.telemetry import traces

_FIRST_DELAY_S = 0.05
_LONGEST_DELAY_S = 2.0
_TRY_TIMEOUT_S = 2.0
_STORE_REFUSED = 10077
_NO_ROOM = frozenset({_STORE_REFUSED, 10002, 10023, 10047})
"""A full stream, an account's limit, and the server's own two: nats-server's `errors.json`."""
JUST_ENDED = "(just ended)"
"""The holder of a slot that was free again when its name was asked for: a new try may succeed."""

T = TypeVar("T")

# What a retry can mend: no answer, no server, a stream without its leader for a moment.
TRANSIENT = (
    TimeoutError,
    nats.errors.TimeoutError,
    nats.errors.NoServersError,
    nats.errors.ConnectionClosedError,
    nats.errors.ConnectionReconnectingError,
    nats.errors.StaleConnectionError,
    nats.errors.NoRespondersError,
    nats.errors.OutboundBufferLimitError,
    nats.js.errors.NoStreamResponseError,
    nats.js.errors.ServiceUnavailableError,
)


async def retried(attempt: Callable[[], Awaitable[T]], *, within: timedelta, what: str) -> T:
    """Repeats `attempt` on transient bus errors, with growing jittered pauses, for `within`."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + within.total_seconds()
    delay = _FIRST_DELAY_S
    while True:
        try:
            return await attempt()
        except TRANSIENT as error:
            if _is_busy(error):
                raise
            if loop.time() + delay > deadline:
                raise BusUnavailable(f"{what} did not reach NATS") from error
        await asyncio.sleep(delay * random.uniform(0.5, 1.0))
        delay = min(delay * 2, _LONGEST_DELAY_S)


def _is_busy(error: Exception) -> bool:
    """Whether a subject holds all that it may; the server gives that a 503, like its outages."""
    return (
        isinstance(error, nats.js.errors.APIError)
        and error.err_code == _STORE_REFUSED
        and "per subject" in str(error.description)
    )


def has_no_room(error: BaseException | None) -> bool:
    """Whether the stream, its account or the server holds all that it may."""
    return (
        isinstance(error, nats.js.errors.APIError)
        and error.err_code in _NO_ROOM
        and not _is_busy(error)
    )


def _queue_full(command: Command) -> QueueFull:
    name = command.cluster_name or command.cluster
    return QueueFull(f"there is no room for operation {command.operation} on cluster {name}")


@dataclass(frozen=True, slots=True)
class Published:
    """The server's word for a stored message."""

    sequence: int
    duplicate: bool


class LaidOut(NamedTuple):
    """A command as it lies on the wire."""

    subject: str
    body: bytes
    headers: dict[str, str]
    command: Command


@dataclass(frozen=True, slots=True)
class Publisher:
    """Publishes commands and events of one process."""

    bus: Bus

    async def command(
        self,
        command: Command,
        *,
        service: str,
        slot: SlotKind,
        within: timedelta,
        sender: str = "",
        region: str = "",
    ) -> Published:
        """Queues `command`; raises `ClusterBusy` with the holder's id when the slot is taken, and
        `QueueFull` when the stream has no room for it.

        `sender` is for a service that hands something on, which has no slot of its own then.
        `region` is the one whose workers take the command.
        """
        laid_out = self.laid_out(command, service=service, slot=slot, sender=sender, region=region)
        return await self.queued(*laid_out, within=within)

    def laid_out(
        self,
        command: Command,
        *,
        service: str,
        slot: SlotKind,
        sender: str = "",
        region: str = "",
    ) -> LaidOut:
        """Encodes and seals `command` as `queued` takes it; raises `RequestTooLarge`."""
        subject = subjects.in_region(
            _subject(command, service=service, slot=slot, sender=sender), region
        )
        body, headers = envelopes.encode(command, content_type=envelopes.MSGPACK)
        body, headers = envelopes.sealed(body, headers, keys=self.bus.keys, recipient=service)
        headers |= {
            envelopes.MESSAGE_ID: self.bus.message_id(
                f"{service}.{command.operation}.{command.cluster}"
            ),
            envelopes.OPERATION: command.operation,
            envelopes.KIND: f"{command.verb} {command.kind}",
        }
        return LaidOut(subject, body, headers, command)

    async def queued(
        self,
        subject: str,
        body: bytes,
        headers: dict[str, str],
        command: Command,
        *,
        within: timedelta,
    ) -> Published:
        """The same for a command that is laid out already."""
        try:
            return await self.raw(subject, body, headers, within=within, ttl=_time_to_live(command))
        except BusUnavailable as error:
            if has_no_room(error.__cause__):
                raise _queue_full(command) from error
            raise
        except nats.js.errors.APIError as error:
            if has_no_room(error):
                raise _queue_full(command) from error
            if not _is_busy(error):
                raise BusUnavailable(shortened(str(error.description))) from error
            # A subject of its own has no other holder than the operation itself.
            parsed = CommandSubject.parse(subject)
            is_mesh = parsed is not None and parsed.operation is None
            holder = await self._holder(subject) if is_mesh else command.operation
            raise ClusterBusy(
                f"cluster {command.cluster_name or command.cluster} is busy with "
                f"operation {holder}",
                subject=holder,
            ) from None

    async def event(self, event: Event, *, within: timedelta = timedelta(seconds=30)) -> Published:
        """Stores one event; a repeat of the same one (a publisher's retry) is dropped."""
        subject = subjects.event(
            service=event.service, cluster=event.cluster or "none", operation=event.operation
        )
        body, headers = envelopes.encode(event, content_type=envelopes.JSON)
        headers |= {
            envelopes.MESSAGE_ID: self.bus.message_id(
                f"{event.service}.{event.operation}.{event.cluster}"
                f".{event.attempt}.{event.sequence}"
            ),
            envelopes.OPERATION: event.operation,
            envelopes.KIND: f"{event.phase} {event.kind}",
        }
        return await self.raw(subject, body, headers, within=within)

    async def raw(
        self,
        subject: str,
        body: bytes,
        headers: dict[str, str],
        *,
        within: timedelta,
        ttl: timedelta | None = None,
    ) -> Published:
        """Stores one message under the id in its headers."""
        carried = traces.injected(headers)
        seconds = max(1, round(ttl.total_seconds())) if ttl else None

        async def once() -> Published:
            ack = await self.bus.client.jetstream(timeout=_TRY_TIMEOUT_S).publish(
                subject, body, headers=dict(carried), msg_ttl=seconds
            )
            return Published(sequence=ack.seq, duplicate=bool(ack.duplicate))

        return await retried(once, within=within, what=f"a message for {subject}")

    async def _holder(self, subject: str) -> str:
        try:
            held = await self.bus.client.jetstream().get_last_msg("CMD", subject)
        except (nats.js.errors.NotFoundError, *TRANSIENT):
            return JUST_ENDED
        return str((held.headers or {}).get(envelopes.OPERATION, "(sent by hand)"))


def _subject(command: Command, *, service: str, slot: SlotKind, sender: str) -> str:
    cluster, operation = command.cluster, command.operation
    if sender:
        return subjects.handed_on(
            service=service, cluster=cluster, sender=sender, operation=operation
        )
    if slot is SlotKind.MESH:
        return subjects.mesh_command(service=service, cluster=cluster)
    return subjects.apply_command(service=service, cluster=cluster, operation=operation)


def _time_to_live(command: Command) -> timedelta:
    """Until the deadline: a command that was not started by then leaves its slot by itself."""
    left = command.deadline - datetime.now(timezone.utc)
    if left <= timedelta(0):
        raise DeadlineExpired("the command's deadline has passed")
    return left + timedelta(seconds=command.may_take_s)
