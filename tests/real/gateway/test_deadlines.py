"""Which requests a gateway reads when it looks for operations that others have accepted."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from datetime import datetime, timedelta, timezone
from functools import partial

from services.chassis.bus import streams, subjects
from services.chassis.bus.connection import Bus
from services.chassis.bus.publishing import Publisher
from services.chassis.bus.reading import StoredMessage
from services.chassis.bus.records import Bucket, Records
from services.chassis.bus.streams import call_api
from services.chassis.messages import OperationRecord, RequestRecord
from services.gateway.adapters.bus import REQUESTS, requests_reader, stream_state, told_ends
from services.gateway.deadlines import Deadlines
from services.gateway.notices import Notices
from tests.testbed.bus_fixtures import ACK_WAIT, LEASE_TTL
from tests.testbed.buses import NatsServer
from tests.testbed.waiting import eventually

PATIENCE = timedelta(minutes=30)


def now() -> datetime:
    return datetime.now(timezone.utc)


async def accepted(bus: Bus, operation: str) -> None:
    """As a gateway records a request that nobody has begun."""
    record = RequestRecord(
        operation=operation,
        fingerprint="f",
        kind="custom",
        clusters=["c1"],
        service="translator",
        deadline=now() + PATIENCE,
    )
    await Records(Bucket(bus, "ops"), RequestRecord).create(
        subjects.operation_key(operation), record
    )


async def test_a_scan_reads_what_it_has_not_read_whatever_happened_to_the_server(
    own_server: NatsServer, own_bus: Bus
) -> None:
    """A week of requests lies there, and a connection that comes back is no news about them; a
    stream that was made anew is."""
    read: list[str] = []

    async def reading(start: int) -> AsyncGenerator[StoredMessage, None]:
        async for message in requests_reader(own_bus)(start):
            read.append(message.subject.rpartition(".")[2])
            yield message

    parts = Records(Bucket(own_bus, "ops"), OperationRecord)
    deadlines = Deadlines(
        records=Records(Bucket(own_bus, "ops"), RequestRecord),
        requests=reading,
        stream=partial(stream_state, own_bus, REQUESTS),
        notices=Notices(Publisher(own_bus), parts, told_ends(own_bus), "gateway-1"),
        now=now,
        patience=PATIENCE,
    )

    async def scanned() -> list[str]:
        read.clear()
        await deadlines.scan()
        return read

    for operation in ("first", "second"):
        await accepted(own_bus, operation)
    assert await scanned() == ["first", "second"]

    own_server.kill()
    own_server.start()
    await eventually(lambda: own_bus.is_connected, what="the connection to come back")
    await accepted(own_bus, "third")
    assert await scanned() == ["third"]
    assert await scanned() == []

    await call_api(own_bus.client, f"STREAM.DELETE.{REQUESTS}", {})
    await streams.reconcile(own_bus.client, ack_wait=ACK_WAIT, lease_ttl=LEASE_TTL)
    for operation in ("fourth", "fifth", "sixth", "seventh"):
        await accepted(own_bus, operation)
    assert await scanned() == ["fourth", "fifth", "sixth", "seventh"]
