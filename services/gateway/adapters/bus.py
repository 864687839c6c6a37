"""NATS beyond the chassis: changes of the catalog, an operation's events, states of the server."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import structlog
from nats.aio.msg import Msg

from services.chassis.bus import envelopes, subjects
from services.chassis.bus.connection import Bus
from services.chassis.bus.reading import OrderedReader, StoredMessage, last_of_each
from services.chassis.bus.records import is_deletion
from services.chassis.bus.streams import EVT, call_api, live
from services.chassis.errors import (
    BusUnavailable,
    InvalidMessage,
    MeshbusError,
    StreamsMissing,
)
from services.chassis.messages import Event
from services.chassis.messages.events import FINAL_PHASES
from services.gateway.background import Background
from services.gateway.catalogs import Catalogs
from services.gateway.outcomes import Followed
from services.gateway.queries import Stored
from services.gateway.streaming.events import Read
from services.gateway.streaming.marks import StreamState

REQUESTS = "KV_ops"
"""The stream of the bucket that says what operation ids stand for."""
_CATALOG = live("$KV.catalog.")
_READ_WITHIN_S = 10.0

log = structlog.get_logger(__name__)


@asynccontextmanager
async def followed_catalogs(
    bus: Bus, catalogs: Catalogs, background: Background
) -> AsyncIterator[None]:
    """Keeps `catalogs` up: the bucket tells what was written."""

    async def changed(message: Msg) -> None:
        gone = is_deletion(message.headers)
        service = message.subject.removeprefix(_CATALOG)
        catalogs.changed(service, None if gone else message.data)

    async def reload() -> None:
        try:
            await catalogs.load()
        except MeshbusError as error:
            # `Catalogs.find` loads again when it misses something.
            log.warning("catalogs_not_loaded", reason=error.summary)

    def reconnected() -> None:
        background.start("reload-catalogs", reload())

    subscription = await bus.client.subscribe(f"{_CATALOG}>", cb=changed)
    # A subscription is not acknowledged; what is published after the flush, arrives.
    await bus.client.flush()
    forget = bus.on_reconnect(reconnected)
    try:
        await catalogs.load()
        yield
    finally:
        forget()
        if not bus.client.is_closed:
            await subscription.unsubscribe()


def events_reader(bus: Bus) -> Read:
    """Reads the events of all services, in the order of the stream."""

    def read(start: int) -> AsyncGenerator[StoredMessage, None]:
        return OrderedReader(bus, EVT.name, "evt.*.*.*", start).messages()

    return read


def requests_reader(bus: Bus) -> Read:
    """Reads the requests that are stored, in the order in which they came, and ends then."""

    def read(start: int) -> AsyncGenerator[StoredMessage, None]:
        return OrderedReader(bus, REQUESTS, "$KV.ops.*", start).stored()

    return read


def stored_events(bus: Bus) -> Stored:
    """Reads what the stream holds: of one operation, or the newest ones of all."""

    async def stored(operation: str | None, most: int) -> list[Event]:
        subject = f"evt.*.*.{subjects.token(operation)}" if operation else "evt.*.*.*"
        question = {"subjects_filter": subject} if operation else {}
        answer = await call_api(bus.client, f"STREAM.INFO.{EVT.name}", question)
        if "error" in answer:
            raise StreamsMissing(f"the stream {EVT.name} is not there")
        state = answer["state"]
        held = sum((state.get("subjects") or {}).values()) if operation else state["messages"]
        if not held:
            return []
        start = 1 if operation else int(state["last_seq"]) - most + 1
        found: deque[Event] = deque(maxlen=most)
        try:
            async with asyncio.timeout(_READ_WITHIN_S):
                reading = OrderedReader(bus, EVT.name, subject, start).messages()
                async with contextlib.aclosing(reading) as messages:
                    async for message in messages:
                        with contextlib.suppress(InvalidMessage):
                            found.append(envelopes.decode(Event, message.body, message.headers))
                        if message.is_newest:
                            break
        except TimeoutError:
            raise BusUnavailable("the events could not be read in time") from None
        return list(found)

    return stored


def told_ends(bus: Bus) -> Callable[[Event], Awaitable[bool]]:
    """Tells whether the last that the service of a final event said of its operation there is a
    final one."""

    async def is_told(final: Event) -> bool:
        subject = subjects.event(
            service=final.service, cluster=final.cluster or "none", operation=final.operation
        )
        [found] = await last_of_each(bus, EVT.name, [subject], [None])
        with contextlib.suppress(InvalidMessage):
            return any(envelopes.decode(Event, m.body, m.headers).is_final for m in found)
        return True

    return is_told


async def stream_state(bus: Bus, stream: str) -> StreamState:
    answer = await call_api(bus.client, f"STREAM.INFO.{stream}", {})
    if "error" in answer:
        raise StreamsMissing(f"the stream {stream} is not there")
    return StreamState(created=str(answer["created"]), last=int(answer["state"]["last_seq"]))


def followed_events(bus: Bus) -> Followed:
    """Follows the events of one operation, of any service, from the moment of entry on."""

    @asynccontextmanager
    async def followed(operation: str) -> AsyncIterator[asyncio.Queue[Event]]:
        events: asyncio.Queue[Event] = asyncio.Queue()

        async def heard(message: Msg) -> None:
            with contextlib.suppress(InvalidMessage):
                events.put_nowait(envelopes.decode(Event, message.data, message.headers))

        subject = f"live.evt.*.*.{subjects.token(operation)}"
        subscription = await bus.client.subscribe(subject, cb=heard)
        try:
            yield events
        finally:
            if not bus.client.is_closed:
                await subscription.unsubscribe()

    return followed


@asynccontextmanager
async def heard_ends(bus: Bus, ended: Callable[[str, str], None]) -> AsyncIterator[None]:
    """Calls `ended` with the tokens of an operation and its cluster for each final event."""

    async def heard(message: Msg) -> None:
        phase = (message.headers or {}).get(envelopes.KIND, "").partition(" ")[0]
        if phase in FINAL_PHASES:
            *_, cluster, operation = message.subject.split(".")
            ended(operation, cluster)

    subscription = await bus.client.subscribe("live.evt.*.*.*", cb=heard)
    try:
        yield
    finally:
        if not bus.client.is_closed:
            await subscription.unsubscribe()


async def is_attended(bus: Bus, service: str, region: str) -> bool:
    """Whether a worker of `service` is connected, of that region if one is named: one waits for
    commands, or one has some.

    A worker that died with a command in its hands counts until that command comes back.
    """
    try:
        name = subjects.consumer(service, region)
        answer = await call_api(bus.client, f"CONSUMER.INFO.CMD.{name}", {})
    except BusUnavailable:
        return True  # nothing is known, so nothing is said
    if "error" in answer:
        return False
    return bool(answer.get("num_waiting") or answer.get("num_ack_pending"))
