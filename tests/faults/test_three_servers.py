"""Three NATS servers: whichever goes, nothing that was accepted is lost and nothing comes twice."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta

import pytest

from services.chassis.bus import streams
from services.chassis.bus.connection import Bus
from services.chassis.bus.publishing import Publisher
from services.chassis.bus.pulling import Delivery
from services.chassis.bus.records import Bucket, RevisionConflict
from tests.real.chassis.bus.queues import Queue, running
from tests.testbed.busclusters import REPLICAS, NatsCluster
from tests.testbed.buses import connected
from tests.testbed.waiting import eventually

ACK_WAIT = timedelta(seconds=3)
WITHIN = timedelta(seconds=60)
LONGEST_GAP_S = 15.0
PAUSE_S = 0.02
SERVICE = "counted"


@pytest.fixture(scope="module")
def trio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsCluster]:
    with NatsCluster(tmp_path_factory.mktemp("trio")) as running_trio:
        yield running_trio


@pytest.fixture
async def bus(trio: NatsCluster) -> AsyncIterator[Bus]:
    async with connected(trio.url) as bus:
        await _applied(bus)
        yield bus


async def _applied(bus: Bus) -> None:
    """Streams with three replicas; a server that has just started may want to be asked again."""
    await streams.reconcile(
        bus.client, ack_wait=ACK_WAIT, lease_ttl=ACK_WAIT * 2, replicas=REPLICAS
    )


@dataclass(slots=True)
class Traffic:
    """Commands that one process publishes without a pause, and what workers made of them."""

    bus: Bus
    queue: Queue
    sent: int = 0
    sequences: set[int] = field(default_factory=set)
    """Places in the stream: a command that was stored twice would have two."""
    effects: Counter[str] = field(default_factory=Counter)
    longest_gap_s: float = 0.0
    _last: float = 0.0

    @asynccontextmanager
    async def flowing(self) -> AsyncIterator[None]:
        """Publishes and works off during the block; afterwards all is worked off."""
        first = self.sent + 1
        self._last = asyncio.get_running_loop().time()
        stopping = asyncio.Event()
        publishing = asyncio.create_task(self._publish(stopping))
        async with running(self.queue.worker(self._work, slots=4)):
            try:
                await self.until_sent(first + 20)
                yield
                await self.until_sent(self.sent + 20)
            finally:
                stopping.set()
                await publishing
            await eventually(self._is_done, what="every command to be worked off")

    async def until_sent(self, count: int) -> None:
        await eventually(lambda: self.sent >= count, what=f"{count} commands to be accepted")

    async def _publish(self, stopping: asyncio.Event) -> None:
        loop = asyncio.get_running_loop()
        publisher = Publisher(self.bus)
        while not stopping.is_set():
            name = f"c{self.sent}"
            headers = {"Nats-Msg-Id": f"{self.queue.service}.{name}"}
            subject = f"cmd.{self.queue.service}.{name}.mesh"
            await publisher.raw(subject, b"{}", headers, within=WITHIN)
            self.longest_gap_s = max(self.longest_gap_s, loop.time() - self._last)
            self._last = loop.time()
            self.sent += 1
            await asyncio.sleep(PAUSE_S)

    async def _work(self, delivery: Delivery) -> None:
        """Claims the command's record, as operations do, and then has its effect.

        Each claim is another one: a write whose answer was lost is known by what it wrote.
        """
        self.sequences.add(delivery.stream_sequence)
        name = delivery.message.subject.split(".")[2]
        claim = secrets.token_bytes(8)
        with contextlib.suppress(RevisionConflict):
            await Bucket(self.bus, "ops", WITHIN).create(f"{self.queue.service}.{name}", claim)
            self.effects[name] += 1

    async def _is_done(self) -> bool:
        return len(self.effects) == self.sent and await self.queue.stored() == 0


@pytest.fixture
async def traffic(bus: Bus) -> AsyncIterator[Traffic]:
    queue = await Queue(bus, service=f"t{secrets.token_hex(6)}").create(ack_wait=ACK_WAIT)
    yield Traffic(bus, queue)
    await queue.delete()


Fault = Callable[[NatsCluster, Traffic], Awaitable[None]]


async def _leader_dies(trio: NatsCluster, traffic: Traffic) -> None:
    leader = await trio.leader(traffic.bus, "CMD")
    leader.kill()
    await traffic.until_sent(traffic.sent + 20)
    await asyncio.to_thread(leader.start)


async def _each_restarts(trio: NatsCluster, traffic: Traffic) -> None:
    for server in trio.servers:
        await asyncio.to_thread(server.stop)
        await traffic.until_sent(traffic.sent + 20)
        await asyncio.to_thread(server.start)


async def _leader_is_a_lame_duck(trio: NatsCluster, traffic: Traffic) -> None:
    leader = await trio.leader(traffic.bus, "CMD")
    leader.lame_duck()
    await eventually(lambda: not leader.process.is_running, what="the server to have ended")
    await traffic.until_sent(traffic.sent + 20)
    await asyncio.to_thread(leader.start)


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(_leader_dies, id="its leader is killed"),
        pytest.param(_each_restarts, id="each restarts in turn", marks=pytest.mark.full),
        pytest.param(_leader_is_a_lame_duck, id="its leader is sent away", marks=pytest.mark.full),
    ],
)
async def test_publishing_goes_on_and_every_command_is_there_once(
    fault: Fault, trio: NatsCluster, traffic: Traffic
) -> None:
    async with traffic.flowing():
        await fault(trio, traffic)
    assert traffic.longest_gap_s < LONGEST_GAP_S
    assert len(traffic.sequences) == traffic.sent
    assert set(traffic.effects.values()) == {1}
