"""The connection: it comes back from whatever takes it away, also from a silent death."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest

from services.chassis.bus.connection import Bus, connect
from services.chassis.errors import BusUnavailable
from services.chassis.settings import ChassisSettings
from tests.real.chassis.bus.queues import HOSTILE, Hands, Queue, publish_raw, running
from tests.testbed import loopback
from tests.testbed.buses import NatsServer, connected
from tests.testbed.proxies import FaultProxy
from tests.testbed.waiting import eventually

_QUICK = timedelta(milliseconds=300)


async def test_connection_has_the_names_of_service_and_instance(server: NatsServer) -> None:
    settings = ChassisSettings(nats_url=server.url, instance="pod-7")
    bus = await connect(settings, service="lifecycle")
    try:
        answer = await asyncio.to_thread(
            loopback.fetch_json, f"{server.monitoring_url}/connz?subs=1"
        )
        names = {connection["name"] for connection in answer["connections"]}

        assert bus.is_connected
        assert 0 < await bus.rtt_s() < 5
        assert "meshbus-lifecycle-pod-7" in names
        assert bus.client.new_inbox().startswith("_INBOX_lifecycle.")
    finally:
        await bus.close()


async def test_server_may_come_later(tmp_path: Path) -> None:
    server = NatsServer(tmp_path)
    connecting = asyncio.create_task(connect(ChassisSettings(nats_url=server.url), service="tests"))

    await asyncio.to_thread(server.start)
    try:
        bus = await asyncio.wait_for(connecting, 10.0)
        assert await bus.rtt_s() < 5
        await bus.close()
    finally:
        server.stop()


async def test_reconnect_wakes_who_asked_for_it(own_server: NatsServer, own_bus: Bus) -> None:
    woken: list[str] = []
    own_bus.on_reconnect(lambda: woken.append("kept"))
    forget = own_bus.on_reconnect(lambda: woken.append("forgotten"))
    forget()

    own_server.kill()
    await asyncio.to_thread(own_server.start)

    await eventually(lambda: woken, what="the reconnect")
    assert woken == ["kept"]
    assert own_bus.is_connected
    await own_bus.rtt_s()


async def test_subscriptions_survive_a_reconnect(own_server: NatsServer, own_bus: Bus) -> None:
    subscription = await own_bus.client.subscribe("greetings")
    woken = asyncio.Event()
    own_bus.on_reconnect(woken.set)

    own_server.kill()
    await asyncio.to_thread(own_server.start)
    await asyncio.wait_for(woken.wait(), 10.0)
    await own_bus.client.publish("greetings", b"hello")

    assert (await subscription.next_msg(timeout=5.0)).data == b"hello"


async def test_silent_server_is_told(own_server: NatsServer) -> None:
    async with connected(own_server.url, watchdog=_QUICK) as bus:
        own_server.process.pause()
        try:
            await eventually(lambda: _is_silent(bus), what="the server to be silent")
            with pytest.raises(BusUnavailable, match="does not answer a ping"):
                await bus.rtt_s()
        finally:
            own_server.process.resume()
        await eventually(lambda: _answers(bus), what="the bus to answer again")


async def _is_silent(bus: Bus) -> bool:
    # The signal takes effect a moment later.
    return not await _answers(bus)


async def _answers(bus: Bus) -> bool:
    try:
        await bus.rtt_s()
    except BusUnavailable:
        return False
    return True


async def test_half_open_connection_is_replaced(server: NatsServer) -> None:
    with FaultProxy(server.port) as proxy:
        async with connected(f"nats://{proxy.address}", watchdog=_QUICK) as bus:
            woken = asyncio.Event()
            bus.on_reconnect(woken.set)

            proxy.blackhole()
            await eventually(lambda: not bus.is_connected, what="the watchdog to notice")
            proxy.heal()

            await asyncio.wait_for(woken.wait(), 10.0)
            await bus.rtt_s()


async def test_a_connection_that_is_behind_is_kept(server: NatsServer, bus: Bus, name: str) -> None:
    """Answers to pings come too late, and so does what was sent before them: no dead reader."""
    heard = asyncio.Semaphore(0)

    async def hear(_: object) -> None:
        heard.release()

    async def tell() -> None:
        while True:
            await bus.client.publish(name, b"")
            await bus.client.flush()
            await asyncio.sleep(_QUICK.total_seconds() / 4)

    with FaultProxy(server.port) as proxy:
        telling = asyncio.create_task(tell())
        proxy.delay(1.2 * _QUICK.total_seconds())
        async with connected(f"nats://{proxy.address}", watchdog=2 * _QUICK) as late:
            await late.client.subscribe(name, cb=hear)
            async with asyncio.timeout(60.0):
                await heard.acquire()
                with pytest.raises(BusUnavailable):
                    await late.rtt_s()
                for _ in range(60):
                    await heard.acquire()
            assert late.client.stats["reconnects"] == 0
            telling.cancel()
            await asyncio.gather(telling, return_exceptions=True)


def _end_reader(bus: Bus) -> None:
    """As nats-py's reader ends of an error that it does not expect: it tells nobody."""
    assert bus.client._reading_task is not None
    bus.client._reading_task.cancel()


async def test_watchdog_revives_a_dead_reader(server: NatsServer, name: str) -> None:
    async with connected(server.url, watchdog=_QUICK) as bus:
        heard: asyncio.Queue[bytes] = asyncio.Queue()

        async def hear(message: object) -> None:
            heard.put_nowait(getattr(message, "data", b""))

        await bus.client.subscribe(name, cb=hear)
        await bus.client.flush()
        woken = asyncio.Event()
        bus.on_reconnect(woken.set)

        _end_reader(bus)
        # Where the machine is busy it may be alive again before anybody looks.
        await eventually(
            lambda: _reader_is_dead(bus) or woken.is_set(), what="the reader to have died"
        )
        # The trap that the watchdog is for: the client thinks that all is well.
        assert bus.is_connected

        await asyncio.wait_for(woken.wait(), 10.0)
        await bus.client.publish(name, b"still here")
        assert await asyncio.wait_for(heard.get(), 5.0) == b"still here"


def _reader_is_dead(bus: Bus) -> bool:
    task = bus.client._reading_task
    return task is not None and task.done()


async def test_pull_worker_goes_on_after_its_reader_died(
    bus: Bus, server: NatsServer, name: str
) -> None:
    # What the server sent to the dead reader comes again after the ack wait.
    queue = await Queue(bus, service=name).create(ack_wait=timedelta(seconds=1))
    async with connected(server.url, watchdog=_QUICK) as attacked:
        hands = Hands()
        worker = queue.worker(hands, bus=attacked)
        async with running(worker):
            await eventually(lambda: queue.parked(), what="the pull to be parked")
            assert worker._inbox is not None

            _end_reader(attacked)
            await eventually(lambda: _reader_is_dead(attacked), what="the reader to die")
            await queue.send("c1")

            assert (await hands.next(within_s=60.0)).message.subject == queue.subject("c1")


async def test_late_answer_to_a_ping_does_no_harm(own_server: NatsServer) -> None:
    async with connected(own_server.url) as bus:
        own_server.process.pause()
        asking = asyncio.create_task(bus.rtt_s())
        await eventually(lambda: bus.client._pongs, what="the ping to be sent")
        asking.cancel()
        await asyncio.wait({asking})
        own_server.process.resume()

        # The answer to the first ping comes before this one's.
        await bus.rtt_s()
        assert not _reader_is_dead(bus)


async def test_requests_can_be_cancelled_at_any_moment(bus: Bus, name: str) -> None:
    async def ask_for_ever() -> None:
        while True:
            await bus.rtt_s()

    for _ in range(100):
        asking = asyncio.create_task(ask_for_ever())
        # Answers and the cancellation come together, again and again.
        await bus.rtt_s()
        asking.cancel()
        done, _pending = await asyncio.wait({asking}, timeout=5.0)
        assert done
        assert asking.cancelled()


async def test_close_without_a_server_is_quick(own_server: NatsServer) -> None:
    bus = await connect(ChassisSettings(nats_url=own_server.url), service="tests")
    await bus.client.subscribe("anything", cb=_ignore)

    own_server.kill()
    await eventually(lambda: not bus.is_connected, what="the bus to notice")

    await asyncio.wait_for(bus.close(), 5.0)
    assert bus.client.is_closed


async def _ignore(_: object) -> None:
    pass


async def test_close_sends_what_is_underway(bus: Bus, server: NatsServer, name: str) -> None:
    subscription = await bus.client.subscribe(name)
    await bus.client.flush()
    other = await connect(ChassisSettings(nats_url=server.url), service="tests")

    for number in range(1000):
        await other.client.publish(name, b"%d" % number)
    await other.close()

    heard = [int((await subscription.next_msg(timeout=5.0)).data) for _ in range(1000)]
    assert heard == list(range(1000))


async def test_a_connection_that_the_server_ended_for_good_is_told(own_server: NatsServer) -> None:
    """A subject longer than the server takes is a fatal error to it, and nats-py gives up then."""
    async with connected(own_server.url) as bus:
        await bus.client.publish("a" * 8000, b"")
        async with asyncio.timeout(60):
            await bus.lost.wait()
        assert bus.client.is_closed


@pytest.mark.parametrize("headers", HOSTILE)
async def test_no_header_of_a_sender_ends_what_a_connection_hears(
    bus: Bus, name: str, headers: bytes
) -> None:
    subscription = await bus.client.subscribe(f"mesh.{name}.asked")

    await publish_raw(bus, f"mesh.{name}.asked", headers, b"hostile")
    await bus.client.publish(f"mesh.{name}.asked", b"next")

    assert (await subscription.next_msg(timeout=20)).data == b"hostile"
    assert (await subscription.next_msg(timeout=20)).data == b"next"
    assert await bus.rtt_s() > 0
