"""What the bus holds, read as the init job's user: to compare it with what a client got.

And clusters, put there as lifecycle puts them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager

from services.chassis.bus.connection import Bus, connect
from services.chassis.bus.credentials import Sealer
from services.chassis.bus.leases import Holder
from services.chassis.bus.reading import OrderedReader
from services.chassis.bus.records import Bucket, Records
from services.chassis.bus.streams import AUDITED, audit_stream, call_api
from services.chassis.kube.kubeconfigs import parse_kubeconfig
from services.chassis.messages import AuditEntry, ClusterRecord, Event
from services.topology.adapters.feeds import last_sequence
from services.topology.feed import deltas
from services.topology.feed.deltas import Delta
from tests.testbed.stack import Stack


@asynccontextmanager
async def bus_of(stack: Stack, user: str) -> AsyncIterator[Bus]:
    """A connection with the rights of a NATS user."""
    bus = await connect(stack.settings(user), service=user)
    try:
        yield bus
    finally:
        await bus.close()


def admin_bus(stack: Stack) -> AbstractAsyncContextManager[Bus]:
    """One with the rights of the init job."""
    return bus_of(stack, "admin")


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
    """All that services have written down of who asked, service by service."""
    async with admin_bus(stack) as bus:
        return [e for service in AUDITED for e in await _audit_of(bus, audit_stream(service))]


async def _audit_of(bus: Bus, stream: str) -> list[AuditEntry]:
    answer = await call_api(bus.client, f"STREAM.INFO.{stream}", {})
    last, found = int(answer["state"]["last_seq"]), list[AuditEntry]()
    if not last:
        return found
    async with aclosing(OrderedReader(bus, stream, ">", 1).messages()) as messages:
        async for message in messages:
            found.append(AuditEntry.model_validate_json(message.body))
            if message.sequence >= last:
                return found
    raise AssertionError("unreachable")


async def stored_feed(stack: Stack, cluster: str) -> list[Delta]:
    """Everything that was told about a cluster, in the order in which TOPO has it."""
    async with admin_bus(stack) as bus:
        last = await last_sequence(bus, cluster)
        found: list[Delta] = []
        reader = OrderedReader(bus, deltas.STREAM, deltas.every(cluster), 1)
        async with aclosing(reader.messages()) as messages:
            async for message in messages:
                found.append(deltas.decoded(message.body, message.headers))
                if message.sequence >= last:
                    break
    return found


async def cluster_owners(stack: Stack, clusters: Iterable[str]) -> dict[str, str]:
    """The topology replica that holds each cluster's lease, of those that are held."""
    async with admin_bus(stack) as bus:
        leases = Bucket(bus, "leases")
        entries = {cluster: await leases.get(f"watch.{cluster}") for cluster in clusters}
    return {
        cluster: Holder.model_validate_json(entry.value).worker
        for cluster, entry in entries.items()
        if entry is not None
    }


async def register_clusters(stack: Stack, kubeconfigs: Iterable[str]) -> list[str]:
    """Registers each kubeconfig's cluster as lifecycle does; returns their tokens in order."""
    bus = await connect(stack.settings("lifecycle"), service="lifecycle")
    tokens: list[str] = []
    try:
        for number, text in enumerate(kubeconfigs):
            config = parse_kubeconfig(text)
            await Sealer(Bucket(bus, "credentials")).register(config.cluster, text)
            record = ClusterRecord(
                cluster=config.cluster, name=f"cluster-{number}", server=config.server
            )
            await Records(Bucket(bus, "clusters"), ClusterRecord).put(record.cluster, record)
            tokens.append(config.cluster)
    finally:
        await bus.close()
    return tokens
