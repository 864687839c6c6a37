"""What must be true after a soak, read from the streams: each sentence that is not is a violation.

The streams are the witness, not the clients: a client can miss what it was not connected for.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import aclosing
from pathlib import Path

import orjson

from services.chassis.bus.connection import Bus
from services.chassis.bus.reading import OrderedReader, StoredMessage
from services.chassis.bus.streams import call_api
from services.chassis.messages import Event, OperationRecord
from services.chassis.messages.following import TRANSLATED_FROM, following_key
from tests.faults.soak.faults import POISON
from tests.faults.soak.load import Accepted, Ledger
from tests.testbed.clusters import KubernetesApi
from tests.testbed.stack import Stack
from tests.testbed.stored import admin_bus

_MOST_TOLD = 10
_ROUTES = "/apis/networking.istio.io/v1/virtualservices"


async def violations(
    stack: Stack,
    ledger: Ledger,
    *,
    clusters: Mapping[str, KubernetesApi],
    poisoned: int,
    secrets: Iterable[str],
) -> list[str]:
    """Everything that does not hold; empty after a good soak. `clusters` by their tokens."""
    async with admin_bus(stack) as bus:
        finals = await finals_of(bus)
        found = [
            *_ended_once(ledger.accepted, finals),
            *await _queue_is_empty(bus),
            *await _records_are_closed(bus),
            *await _only_poison_is_dead(bus, poisoned),
            *await _routes_have_sources(bus, clusters),
        ]
    unheard = [a.operation for a in ledger.accepted if not ledger.heard[a.operation]]
    if unheard:
        found.append(f"{len(unheard)} ends never reached the client: {_some(unheard)}")
    return [*found, *_leaks(stack, secrets)]


async def finals_of(bus: Bus) -> Counter[tuple[str, str]]:
    """How many final events EVT has, by operation and cluster."""
    counted: Counter[tuple[str, str]] = Counter()
    async for message in _stored(bus, "EVT"):
        event = Event.model_validate(orjson.loads(message.body))
        if event.is_final:
            counted[event.operation, event.cluster] += 1
    return counted


def _ended_once(accepted: Iterable[Accepted], finals: Counter[tuple[str, str]]) -> Iterator[str]:
    lost = [a.operation for a in accepted if finals[a.operation, a.cluster] == 0]
    if lost:
        yield f"{len(lost)} accepted operations have no end: {_some(lost)}"
    repeated = [operation for (operation, _), count in finals.items() if count > 1]
    if repeated:
        yield f"{len(repeated)} operations ended more than once: {_some(repeated)}"


async def _queue_is_empty(bus: Bus) -> list[str]:
    state = (await call_api(bus.client, "STREAM.INFO.CMD", {}))["state"]
    return [f"CMD still holds {state['messages']} commands"] if state["messages"] else []


async def _records_are_closed(bus: Bus) -> list[str]:
    """No record of an operation's part says that it runs."""
    running = []
    async for message in _stored(bus, "KV_ops"):
        key = message.subject.removeprefix("$KV.ops.")
        if "." not in key or not message.body:
            continue
        record = OperationRecord.model_validate(orjson.loads(message.body))
        if not record.state.is_terminal:
            running.append(record.operation)
    return [f"{len(running)} records say running: {_some(running)}"] if running else []


async def _only_poison_is_dead(bus: Bus, poisoned: int) -> list[str]:
    """DLQ holds each poisoned message once, and nothing else."""
    dead: Counter[str] = Counter()
    async for message in _stored(bus, "DLQ"):
        origin = message.headers.get("Meshbus-Origin", "")
        dead["poison" if POISON in origin else origin] += 1
    found = []
    if dead["poison"] != poisoned:
        found.append(f"DLQ holds {dead['poison']} of {poisoned} poisoned messages")
    others = [origin for origin in dead if origin != "poison"]
    if others:
        found.append(f"{len(others)} commands ended in DLQ: {_some(others)}")
    return found


async def _routes_have_sources(bus: Bus, clusters: Mapping[str, KubernetesApi]) -> list[str]:
    """Each route was made of a source that is followed: a deleted one has left nothing."""
    kept = {
        message.subject.removeprefix("$KV.following.")
        async for message in _stored(bus, "KV_following")
        if message.body
    }
    orphans = []
    for token, api in clusters.items():
        for route in (await asyncio.to_thread(api.request, "GET", _ROUTES))["items"]:
            source = route["metadata"].get("annotations", {}).get(TRANSLATED_FROM, "")
            if source and following_key(token, source) not in kept:
                orphans.append(f"{source} on {token}")
    return [f"{len(orphans)} routes outlive their source: {_some(orphans)}"] if orphans else []


async def _stored(bus: Bus, stream: str) -> AsyncIterator[StoredMessage]:
    """All messages that a stream holds now."""
    state = (await call_api(bus.client, f"STREAM.INFO.{stream}", {}))["state"]
    if not state["messages"]:
        return
    async with aclosing(OrderedReader(bus, stream, ">", 1).messages()) as messages:
        async for message in messages:
            yield message
            if message.sequence >= int(state["last_seq"]):
                return


def _leaks(stack: Stack, secrets: Iterable[str]) -> Iterator[str]:
    """Secrets in logs or in NATS' files."""
    wanted = [secret.encode() for secret in secrets]
    for path in (*stack.folder.rglob("*.log"), *stack.nats.store.rglob("*")):
        if path.is_file() and any(secret in _content(path) for secret in wanted):
            yield f"a secret stands in {path.relative_to(stack.folder)}"


def _content(path: Path) -> bytes:
    return path.read_bytes()


def _some(names: Iterable[str]) -> str:
    shown = list(names)
    more = f" and {len(shown) - _MOST_TOLD} more" if len(shown) > _MOST_TOLD else ""
    return ", ".join(shown[:_MOST_TOLD]) + more
