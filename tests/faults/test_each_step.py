"""A worker that dies at whichever step of a handler: another one goes on, and no write is doubled.

The steps are what the worker says to the bus and to the API server; it is killed before the other
side has the message, and after it has it but before the worker knows. Writes are counted by the
resource versions that the API server gave out: one for each object, or somebody wrote twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

import grpc
import pytest
from aiohttp import web

from services.chassis.bus.connection import Bus
from services.chassis.bus.records import Bucket
from services.chassis.bus.subjects import operation_credential
from services.chassis.kube.kubeconfigs import parse_kubeconfig
from services.chassis.messages import Phase
from tests.testbed.bodies import config_map
from tests.testbed.clusters import Cluster
from tests.testbed.meshery import Meshery
from tests.testbed.stack import Stack
from tests.testbed.stored import admin_bus, message_count, stored_events
from tests.testbed.waiting import eventually
from tests.testbed.wires import ApiWire, BusWire, Forward

SPACE = "each-step"
WITHIN_S = 90.0
NAMES = ("first", "second")
SERVICES = ("lifecycle", "translator", "gateway")
BODY = "\n---\n".join(config_map(name) for name in NAMES)


@dataclass(frozen=True, slots=True)
class Place:
    """Services whose every message passes a wire, and the client."""

    stack: Stack
    wires: dict[str, BusWire]
    api: ApiWire
    client: Meshery
    cluster: str


@pytest.fixture(scope="module")
def api(cluster: Cluster) -> Iterator[ApiWire]:
    with ApiWire(cluster) as wire:
        yield wire


@pytest.fixture(scope="module")
def wired(
    built: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Stack, dict[str, BusWire]]]:
    settings = {"MESHBUS_ACK_WAIT": "2s"}
    folder = tmp_path_factory.mktemp("wired")
    with contextlib.ExitStack() as things:
        stack = things.enter_context(Stack(folder, services=(), settings=settings))
        wires = {name: things.enter_context(BusWire(stack.nats.port)) for name in SERVICES}
        for name, wire in wires.items():
            stack.add(name, settings={"MESHBUS_NATS_URL": wire.url})
        for name in wires:
            stack.wait_ready(name)
        yield stack, wires
        for name in wires:
            stack.processes[name].stop()


@pytest.fixture
async def place(
    wired: tuple[Stack, dict[str, BusWire]], api: ApiWire, cluster: Cluster
) -> AsyncIterator[Place]:
    stack, wires = wired
    cluster.api.create_or_keep("/api/v1/namespaces", {"metadata": {"name": SPACE}})
    token = parse_kubeconfig(api.kubeconfig_text).cluster
    async with Meshery(stack.gateway_address, [api.kubeconfig_text]).connected() as client:
        place = Place(stack, wires, api, client, token)
        yield place
        await _removed(place)


@dataclass(frozen=True, slots=True)
class Step:
    """The `nth` message of an operation that is like `pattern`."""

    pattern: str
    nth: int = 1


async def test_a_worker_that_dies_when_its_end_is_recorded_is_replaced(place: Place) -> None:
    await _killed_at(place, "lifecycle", Step("$KV.ops.*", 2), after=True)


@pytest.mark.parametrize(
    ("nth", "after"),
    [
        pytest.param(1, False, id="first, not arrived", marks=pytest.mark.full),
        pytest.param(1, True, id="first, arrived"),
        pytest.param(2, False, id="second, not arrived", marks=pytest.mark.full),
        pytest.param(2, True, id="second, arrived", marks=pytest.mark.full),
    ],
)
async def test_a_worker_that_dies_at_a_write_is_replaced(
    nth: int, after: bool, place: Place
) -> None:
    sprung = threading.Event()
    seen = 0

    async def meddle(request: web.Request, forward: Forward) -> web.StreamResponse:
        nonlocal seen
        seen += request.method == "PATCH"
        if request.method != "PATCH" or seen != nth or sprung.is_set():
            return await forward()
        if after:
            await forward()
        place.stack.processes["lifecycle"].kill()
        sprung.set()
        return web.Response(status=500)

    place.api.meddle = meddle
    await _survived(place, "lifecycle", sprung)


@pytest.mark.full
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("service", SERVICES)
async def test_a_service_that_dies_at_any_message_at_all_is_replaced(
    service: str, place: Place
) -> None:
    """The steps are those of an operation that nothing disturbs, so none is ever forgotten."""
    published = place.wires[service].published
    async with admin_bus(place.stack) as bus:
        # The last operation's acknowledgement may come after its end.
        await eventually(lambda: _is_idle(bus), what="nothing to be left of the last one")
    published.clear()
    operation = await place.client.apply("custom", body=BODY, namespace=SPACE)
    await place.client.finals(operation)
    await eventually(lambda: any(map(_is_end, published)), what="the service's last word")
    steps = list(_steps(published, operation))
    if service == "gateway":
        # Beside accepting, it keeps its streams' marks whenever it likes.
        steps = [step for step in steps if "*" in step.pattern]
    assert len(steps) > 2, steps
    for step in steps:
        for after in (False, True):
            await _removed(place)
            await _killed_at(place, service, step, after=after)


def _is_end(published: str) -> bool:
    """A worker's acknowledgement, or the command that the gateway was asked for."""
    return published in ("ack ", "ack +ACK") or published.startswith("cmd.translator.")


def _steps(published: list[str], operation: str) -> Iterator[Step]:
    """Each message up to the end, by what it is and how many of its kind came before."""
    kinds: Counter[str] = Counter()
    for subject in published:
        is_acknowledgement = subject.startswith("ack ")
        pattern = "ack *" if is_acknowledgement else subject.replace(operation, "*")
        kinds[pattern] += 1
        yield Step(pattern, kinds[pattern])
        if _is_end(subject):
            return


async def _killed_at(place: Place, service: str, step: Step, *, after: bool) -> None:
    process = place.stack.processes[service]
    snare = place.wires[service].arm(step.pattern, nth=step.nth, after=after, then=process.kill)
    await _survived(place, service, snare.sprung)


async def _survived(place: Place, service: str, sprung: threading.Event) -> None:
    """Runs an operation in which the service dies, and starts it again: one end, one effect."""
    place.api.written.clear()
    operation = str(uuid.uuid4())
    applying = asyncio.create_task(_applied(place, operation))
    await eventually(sprung.is_set, what="the service to reach the step", within_s=WITHIN_S)
    place.api.meddle = None
    await asyncio.to_thread(place.stack.processes[service].start)
    await applying
    async with admin_bus(place.stack) as bus:
        finals = await place.client.finals(operation, within_s=WITHIN_S)
        assert [final.failed for final in finals] == [False], str(finals[0].event)
        await eventually(lambda: _is_over(bus, place, operation), what="nothing to be left of it")
    phases = [event.phase for event in await stored_events(place.stack, operation)]
    assert phases.count(Phase.DONE) == 1
    assert _effects(place) == dict.fromkeys(NAMES, 1), place.api.written


async def _applied(place: Place, operation: str) -> None:
    """Asks for the operation until a gateway has accepted it, as Meshery does after an error."""

    async def is_accepted() -> bool:
        try:
            await place.client.apply("custom", body=BODY, namespace=SPACE, operation=operation)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE:
                raise
            return False
        return True

    await eventually(is_accepted, what="the call to be accepted", within_s=WITHIN_S)


async def _is_over(bus: Bus, place: Place, operation: str) -> bool:
    """The command has left its queue, and the credential that came with it is forgotten."""
    key = operation_credential(operation, place.cluster)
    return await _is_idle(bus) and await Bucket(bus, "credentials").get(key) is None


async def _is_idle(bus: Bus) -> bool:
    return await message_count(bus, "CMD") == 0


def _effects(place: Place) -> dict[str, int]:
    """How many versions of each object the API server has made."""
    versions: dict[str, set[str]] = {}
    for written in place.api.written:
        if written.code < 300:
            versions.setdefault(written.path.rpartition("/")[2], set()).add(written.version)
    return {name: len(found) for name, found in versions.items()}


async def _removed(place: Place) -> None:
    final = await place.client.run("custom", body=BODY, namespace=SPACE, delete=True)
    assert not final.failed, final.event
