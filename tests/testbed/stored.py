"""What the bus holds, read as the init job's user: to compare it with what a client got."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

from services.chassis.bus.connection import Bus, connect
from services.chassis.bus.reading import OrderedReader
from services.chassis.bus.streams import call_api
from services.chassis.messages import AuditEntry, Event
from tests.testbed.stack import Stack


@asynccontextmanager
async def admin_bus(stack: Stack) -> AsyncIterator[Bus]:
    """A connection with the rights of the init job."""
    bus = await connect(stack.settings("admin"), service="admin")
    try:
        yield bus
    finally:
        await bus.close()


async def message_count(bus: Bus, stream: str) -> int:
    answer = await call_api(bus.client, f"STREAM.INFO.{stream}", {})
    return int(answer["state"]["messages"])


async def stored_events(stack: Stack, operation: str) -> list[Event]:
    """All events of an operation in the order in which EVT has them."""
    async with admin_bus(stack) as bus:
        answer = await call_api(bus.client, "STREAM.INFO.EVT", {})
        last = int(answer["state"]["last_seq"])
        found: list[Event] = []
        async with aclosing(OrderedReader(bus, "EVT", ">", 1).messages()) as messages:
            async for message in messages:
                event = Event.model_validate_json(message.body)
                if event.operation == operation:
                    found.append(event)
                if message.sequence >= last:
                    return found
    raise AssertionError("unreachable")


async def audit_entries(stack: Stack) -> list[AuditEntry]:
    """The whole stream AUDIT, in its order."""
    async with admin_bus(stack) as bus:
        answer = await call_api(bus.client, "STREAM.INFO.AUDIT", {})
        last, found = int(answer["state"]["last_seq"]), list[AuditEntry]()
        if not last:
            return found
        async with aclosing(OrderedReader(bus, "AUDIT", ">", 1).messages()) as messages:
            async for message in messages:
                found.append(AuditEntry.model_validate_json(message.body))
                if message.sequence >= last:
                    return found
    raise AssertionError("unreachable")
