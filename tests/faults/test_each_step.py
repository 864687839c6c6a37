"""A worker that dies at whichever step of a handler: another one goes on, and no write is doubled.

The steps are what the worker says to the bus and to the API server; it is killed before the other
side has the message, and after it has it but before the worker knows. Writes are counted by the
resource versions that the API server gave out: one for each object, or somebody wrote twice.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

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
BODY = "\n---\n".join(config_map(name) for name in NAMES)


@dataclass(frozen=True, slots=True)
class Place:
    """One worker whose every message passes a wire, and the client."""

    stack: Stack
    bus: BusWire
    api: ApiWire
    client: Meshery
    cluster: str


@pytest.fixture(scope="module")
def api(cluster: Cluster) -> Iterator[ApiWire]:
    with ApiWire(cluster) as wire:
        yield wire


@pytest.fixture(scope="module")
def wired(built: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Stack, BusWire]]:
    settings = {"MESHBUS_ACK_WAIT": "2s"}
    folder = tmp_path_factory.mktemp("wired")
    with (
        Stack(folder, services=("translator", "gateway"), settings=settings) as stack,
        BusWire(stack.nats.port) as bus,
    ):
        stack.add("lifecycle", settings={"MESHBUS_NATS_URL": bus.url})
        stack.wait_ready("lifecycle")
        yield stack, bus
        stack.processes["lifecycle"].stop()


@pytest.fixture
async def place(
    wired: tuple[Stack, BusWire], api: ApiWire, cluster: Cluster
) -> AsyncIterator[Place]:
    stack, bus = wired
    cluster.api.create_or_keep("/api/v1/namespaces", {"metadata": {"name": SPACE}})
    token = parse_kubeconfig(api.kubeconfig_text).cluster
    async with Meshery(stack.gateway_address, [api.kubeconfig_text]).connected() as client:
        place = Place(stack, bus, api, client, token)
        yield place
        await _removed(place)


@dataclass(frozen=True, slots=True)
class Step:
    """The `nth` message of an operation that is like `pattern`."""

    pattern: str
    nth: int = 1


@pytest.mark.parametrize(
    "step", [Step("$KV.ops.*"), Step("$KV.ops.*", 2)], ids=["the claim", "the end's record"]
)
async def test_a_worker_that_dies_when_a_record_is_stored_is_replaced(
    step: Step, place: Place
) -> None:
    await _killed_at(place, step, after=True)


@pytest.mark.parametrize("after", [False, True], ids=["not arrived", "arrived"])
@pytest.mark.parametrize("nth", [1, pytest.param(2, marks=pytest.mark.full)])
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
    await _survived(place, sprung)


@pytest.mark.full
@pytest.mark.timeout(1800)
async def test_a_worker_that_dies_at_any_message_at_all_is_replaced(place: Place) -> None:
    """The steps are those of an operation that nothing disturbs, so none is ever forgotten."""
    place.bus.published.clear()
    operation = await place.client.apply("custom", body=BODY, namespace=SPACE)
    await place.client.finals(operation)
    await eventually(lambda: any(map(_is_end, place.bus.published)), what="the acknowledgement")
    steps = list(_steps(place.bus.published, operation))
    assert len(steps) > 8, steps
    for step in steps:
        for after in (False, True):
            await _removed(place)
            await _killed_at(place, step, after=after)


def _is_end(published: str) -> bool:
    return published in ("ack ", "ack +ACK")


def _steps(published: list[str], operation: str) -> Iterator[Step]:
    """Each message up to the end, by what it is and how many of its kind came before."""
    kinds: Counter[str] = Counter()
    for subject in published:
        pattern = "ack *" if _is_end(subject) else subject.replace(operation, "*")
        kinds[pattern] += 1
        yield Step(pattern, kinds[pattern])
        if _is_end(subject):
            return


async def _killed_at(place: Place, step: Step, *, after: bool) -> None:
    worker = place.stack.processes["lifecycle"]
    snare = place.bus.arm(step.pattern, nth=step.nth, after=after, then=worker.kill)
    await _survived(place, snare.sprung)


async def _survived(place: Place, sprung: threading.Event) -> None:
    """Runs an operation in which the worker dies, and starts it again: one end, one effect."""
    place.api.written.clear()
    operation = await place.client.apply("custom", body=BODY, namespace=SPACE)
    await eventually(sprung.is_set, what="the worker to reach the step", within_s=WITHIN_S)
    place.api.meddle = None
    worker = place.stack.processes["lifecycle"]
    await asyncio.to_thread(worker.start)
    async with admin_bus(place.stack) as bus:
        finals = await place.client.finals(operation, within_s=WITHIN_S)
        assert [final.failed for final in finals] == [False], str(finals[0].event)
        await eventually(lambda: _is_over(bus, place, operation), what="nothing to be left of it")
    phases = [event.phase for event in await stored_events(place.stack, operation)]
    assert phases.count(Phase.DONE) == 1
    assert _effects(place) == dict.fromkeys(NAMES, 1), place.api.written


async def _is_over(bus: Bus, place: Place, operation: str) -> bool:
    """The command has left its queue, and the credential that came with it is forgotten."""
    key = operation_credential(operation, place.cluster)
    return (
        await message_count(bus, "CMD") == 0 and await Bucket(bus, "credentials").get(key) is None
    )


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
