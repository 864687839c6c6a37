"""A worker or a gateway that is cut off from NATS, blocked, or in another time.

The worker is caught in the middle of an operation: its first write has reached the API server's
place and is held there. Whatever then happens to it, another one takes over, and once it is back it
sends nothing more of what it had begun; and it goes on working without a restart.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

import grpc
import pytest
from aiohttp import web

from services.chassis.bus import envelopes, subjects
from services.chassis.bus.publishing import Publisher
from services.chassis.kube.kubeconfigs import parse_kubeconfig
from services.chassis.messages import Command, Phase
from tests.testbed.bodies import config_map
from tests.testbed.clusters import Cluster
from tests.testbed.meshery import Meshery
from tests.testbed.processes import Process
from tests.testbed.proxies import FaultProxy
from tests.testbed.stack import ROOT, Stack
from tests.testbed.stored import admin_bus, message_count, stored_events
from tests.testbed.waiting import eventually
from tests.testbed.wires import ApiWire, Forward

SPACE = "away"
WITHIN_S = 90.0
ACK_WAIT_S = 2
SETTINGS = {"MESHBUS_ACK_WAIT": f"{ACK_WAIT_S}s"}
BLOCK_S = 8.0
LONGEST_CALL_S = 20.0
INJECTED = ROOT / "tests" / "testbed" / "injected"
# Of a later wave than the ConfigMap: it is written only by who still may.
CONTROLLER = {
    "apiVersion": "v1",
    "kind": "ReplicationController",
    "metadata": {"name": "second"},
    "spec": {
        "replicas": 0,
        "selector": {"app": "second"},
        "template": {
            "metadata": {"labels": {"app": "second"}},
            "spec": {"containers": [{"name": "main", "image": "example.invalid/main"}]},
        },
    },
}
BODY = f"{config_map('first')}\n---\n{json.dumps(CONTROLLER)}"


class Held:
    """The first write of an operation, held on its way to the API server."""

    def __init__(self, api: ApiWire) -> None:
        self.arrived, self._released = threading.Event(), threading.Event()
        self._api = api
        api.asked.clear()
        api.meddle = self._meddle

    def release(self) -> None:
        self._released.set()
        self._api.meddle = None

    async def _meddle(self, request: web.Request, forward: Forward) -> web.StreamResponse:
        if request.method == "PATCH" and not self.arrived.is_set():
            self.arrived.set()
            await asyncio.to_thread(self._released.wait, WITHIN_S)
        return await forward()


@dataclass(frozen=True, slots=True)
class Place:
    """Services whose ways to NATS and whose clocks can be broken, and a client."""

    stack: Stack
    api: ApiWire
    client: Meshery
    ways: dict[str, FaultProxy]
    clocks: dict[str, Path]

    @property
    def cluster(self) -> str:
        return parse_kubeconfig(self.api.kubeconfig_text).cluster

    async def removed(self) -> None:
        final = await self.client.run("custom", body=BODY, namespace=SPACE, delete=True)
        assert not final.failed, final.event

    async def done_once(self, operation: str) -> None:
        finals = await self.client.finals(operation, within_s=WITHIN_S)
        assert [final.failed for final in finals] == [False], str(finals[0].event)
        events = await stored_events(self.stack, operation)
        assert [event.phase for event in events if event.is_final] == [Phase.DONE]

    def writes(self, name: str) -> int:
        """How often anybody sent a write of the object to the API server's place."""
        return sum(
            asked.startswith("PATCH ") and asked.endswith(f"/{name}") for asked in self.api.asked
        )


@pytest.fixture(scope="module")
def api(cluster: Cluster) -> Iterator[ApiWire]:
    with ApiWire(cluster) as wire:
        cluster.api.create_or_keep("/api/v1/namespaces", {"metadata": {"name": SPACE}})
        yield wire


@pytest.fixture(scope="module")
def broken(
    built: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Stack, dict[str, FaultProxy], dict[str, Path]]]:
    folder = tmp_path_factory.mktemp("away")
    with (
        Stack(folder, services=("translator",), settings=SETTINGS) as stack,
        FaultProxy(stack.nats.port) as lifecycle,
        FaultProxy(stack.nats.port) as gateway,
    ):
        ways = {"lifecycle": lifecycle, "gateway": gateway}
        clocks = {name: folder / f"clock-{name}" for name in ways}
        for name, way in ways.items():
            settings = {
                "MESHBUS_NATS_URL": f"nats://{way.address}",
                "PYTHONPATH": f"{INJECTED}{os.pathsep}{ROOT}",
                "BED_BLOCK_S": str(BLOCK_S),
                "BED_CLOCK": str(clocks[name]),
            }
            stack.add(name, settings=settings)
        for name in ways:
            stack.wait_ready(name)
        yield stack, ways, clocks
        for name in ways:
            stack.processes[name].stop()


@pytest.fixture
async def place(
    broken: tuple[Stack, dict[str, FaultProxy], dict[str, Path]], api: ApiWire
) -> AsyncIterator[Place]:
    stack, ways, clocks = broken
    async with Meshery(stack.gateway_address, [api.kubeconfig_text]).connected() as client:
        place = Place(stack, api, client, ways, clocks)
        yield place
        await place.removed()


async def _caught(place: Place) -> tuple[str, Held]:
    """An operation whose worker waits for the answer to its first write."""
    held = Held(place.api)
    operation = await place.client.apply("custom", body=BODY, namespace=SPACE)
    await eventually(held.arrived.is_set, what="the first write", within_s=WITHIN_S)
    return operation, held


async def _succeeded(
    place: Place, fault: Callable[[], object], heal: Callable[[], object], successor: str
) -> None:
    """The worker is caught in a fault, another one ends the operation, and the first one comes
    back, does nothing more of it, and does the next."""
    first = place.stack.processes["lifecycle"]
    before = _abandoned(first)
    operation, held = await _caught(place)
    await asyncio.to_thread(fault)
    second = place.stack.add("lifecycle", name=successor)
    await place.done_once(operation)
    held.release()
    await asyncio.to_thread(heal)
    await eventually(
        lambda: _abandoned(first) > before,
        what="the first worker to see that it is too late",
        within_s=WITHIN_S,
    )
    assert place.writes("second") == 1
    await asyncio.to_thread(second.stop)
    await place.removed()
    await place.done_once(await place.client.apply("custom", body=BODY, namespace=SPACE))
    assert first.is_running


def _abandoned(worker: Process) -> int:
    return worker.log.read_text().count("message_abandoned")


async def test_a_worker_that_is_cut_off_is_succeeded_and_comes_back(place: Place) -> None:
    way = place.ways["lifecycle"]
    await _succeeded(place, way.blackhole, way.heal, "after-the-partition")


async def test_a_worker_whose_loop_is_blocked_is_succeeded_and_comes_back(place: Place) -> None:
    pid = place.stack.processes["lifecycle"].pid
    await _succeeded(place, lambda: os.kill(pid, signal.SIGUSR1), lambda: None, "after-the-blocked")


async def test_a_gateway_that_is_cut_off_says_so_and_comes_back(place: Place) -> None:
    way = place.ways["gateway"]
    await place.done_once(await place.client.apply("custom", body=BODY, namespace=SPACE))
    way.blackhole()
    began = time.monotonic()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await place.client.apply("custom", body=BODY, namespace=SPACE, operation="cut-off")
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert time.monotonic() - began < LONGEST_CALL_S
    answer = await place.client.client.call("MeshName", timeout_seconds=5.0)
    assert answer.name, "what needs no NATS is answered"
    way.heal()

    async def is_accepted() -> bool:
        try:
            await place.client.apply("custom", body=BODY, namespace=SPACE, operation="cut-off")
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE:
                raise
            return False
        return True

    await eventually(is_accepted, what="the gateway to be back")
    await place.done_once("cut-off")


@pytest.mark.full
@pytest.mark.parametrize(
    ("who", "seconds", "is_in_time"),
    [
        ("lifecycle", 7200, False),
        ("lifecycle", -7200, True),
        ("gateway", 7200, True),
        ("gateway", -7200, False),
    ],
)
async def test_a_clock_that_jumps_spares_what_runs_and_is_told_to_what_waits(
    who: str, seconds: int, is_in_time: bool, place: Place
) -> None:
    """Claims, leases and patience go by the monotonic clock; only deadlines are times of day."""
    operation, held = await _caught(place)
    place.clocks[who].write_text(str(seconds))
    try:
        # An operation that is accepted now makes the gateway look at its deadlines.
        beside = config_map("beside", namespace=SPACE)
        final = await place.client.run("custom", body=beside)
        assert final.failed is not is_in_time, final.event
        if not is_in_time:
            # The deadline, or that of the grant, which lifecycle looks at first.
            assert final.event.error_code in ("MB-2007", "MB-2014")
        # Longer than a claim lives without heartbeats: that it passes is what is tried here.
        await asyncio.sleep(2 * ACK_WAIT_S)
        held.release()
        await place.done_once(operation)
        assert place.writes("second") == 1
    finally:
        held.release()
        place.clocks[who].write_text("0")
    await place.client.run("custom", body=beside, delete=True)


async def _asked_by_hand(place: Place, operation: str, *, left: timedelta) -> None:
    """A command as a person sends it, that must be begun soon; then it leaves its queue."""
    command = Command(
        operation=operation,
        kind="manifest",
        namespace=SPACE,
        body=BODY,
        deadline=datetime.now(timezone.utc) + left,
    )
    body, headers = envelopes.encode(command, content_type=envelopes.JSON)
    subject = subjects.apply_command(
        service="lifecycle", cluster=place.cluster, operation=operation
    )
    ttl = left if left > timedelta(0) else None
    async with admin_bus(place.stack) as bus:
        await Publisher(bus).raw(subject, body, headers, within=timedelta(seconds=10), ttl=ttl)


async def test_a_deadline_that_passes_during_the_work_spares_it(place: Place) -> None:
    await place.done_once(await place.client.apply("custom", body=BODY, namespace=SPACE))
    await place.removed()
    held = Held(place.api)
    await _asked_by_hand(place, "begun-in-time", left=timedelta(seconds=3))
    await eventually(held.arrived.is_set, what="the first write", within_s=WITHIN_S)
    async with admin_bus(place.stack) as bus:

        async def has_left() -> bool:
            return await message_count(bus, "CMD") == 0

        await eventually(has_left, what="the command to leave its queue at its deadline")
    held.release()
    await place.done_once("begun-in-time")
    assert place.writes("second") == 1


async def test_a_deadline_that_has_passed_is_told_and_frees_the_queue(place: Place) -> None:
    await place.done_once(await place.client.apply("custom", body=BODY, namespace=SPACE))
    place.api.asked.clear()
    await _asked_by_hand(place, "too-late", left=timedelta(seconds=-1))
    [final] = await place.client.finals("too-late")
    assert final.failed
    assert final.event.error_code == "MB-2007"
    assert place.writes("first") == 0
    async with admin_bus(place.stack) as bus:

        async def has_left() -> bool:
            return await message_count(bus, "CMD") == 0

        await eventually(has_left, what="the command to have left its queue")
