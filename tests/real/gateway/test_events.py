"""StreamEvents: in order, to all, nothing lost; twice only what a killed gateway wrote last."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.chassis.bus.streams import EVT, call_api
from services.chassis.messages import ErrorReport, Phase, Severity
from tests.real.gateway.rig import (
    PATIENCE_S,
    Rig,
    ending,
    event,
    eventually,
    heard,
    opened,
    rigged,
)
from tests.testbed import loopback
from tests.testbed.proxies import FaultProxy

Serving = health_pb2.HealthCheckResponse


def summaries(events: list[Any]) -> list[str]:
    return [e.summary for e in events]


def steps(numbers: range) -> list[str]:
    return [f"step {number}" for number in numbers]


async def floor(rig: Rig) -> int:
    return int((await rig.ask("streams", {}))["floor"])


async def streams(rig: Rig) -> int:
    return int((await rig.ask("streams", {}))["open"])


async def settled(rig: Rig, sequence: int) -> None:
    """The mark of this event is stored."""

    async def marked() -> bool:
        entry = await rig.bucket("delivery").get("floor")
        return entry is not None and f'"sequence":{sequence}' in entry.value.decode()

    await eventually(marked, what=f"the mark {sequence}")


async def test_all_streams_get_all_events_in_order(fresh: Rig) -> None:
    async with fresh.client("F") as one, fresh.client("H") as two, fresh.client("A1") as old:
        open_streams = [await opened(client) for client in (one, two, old)]
        await fresh.tell_many("order", range(1, 301))
        for stream in open_streams:
            assert summaries(await heard(stream, 300)) == steps(range(1, 301))


async def test_an_error_travels_with_cause_remedy_and_code(fresh: Rig) -> None:
    report = ErrorReport(code="MB-3001", summary="no answer", cause="c", remedy="r", subject="s")
    failed = event("failed", 1, "Error while deploying").model_copy(
        update={
            "cluster_name": "prod",
            "phase": Phase.FAILED,
            "severity": Severity.ERROR,
            "error": report,
        }
    )
    async with fresh.client("F") as client:
        stream = await opened(client)
        await fresh.publisher.event(failed)
        (told,) = await heard(stream, 1)
    assert (told.event_type, told.error_code) == (2, "MB-3001")
    assert (told.probable_cause, told.suggested_remediation) == ("c", "r")
    assert told.summary == "Error while deploying on prod"
    assert told.details == "no answer (s)"
    assert (told.component, told.component_name) == ("adapter", "ISTIO")


async def test_what_nobody_heard_waits_for_the_next_client(fresh: Rig) -> None:
    await fresh.tell_many("kept", range(1, 6))
    async with fresh.client("F") as client:
        assert summaries(await heard(await opened(client), 5)) == steps(range(1, 6))
        await settled(fresh, 5)
    await eventually(lambda: _is_zero(fresh), what="the client to be gone")
    await fresh.tell_many("kept", range(6, 8))
    async with fresh.client("F") as client:
        # What was delivered is not delivered again.
        assert summaries(await heard(await opened(client), 2)) == steps(range(6, 8))


async def _is_zero(rig: Rig) -> bool:
    return await streams(rig) == 0


async def test_a_late_client_begins_where_delivery_stands(fresh: Rig) -> None:
    async with fresh.client("F") as early, fresh.client("F") as late:
        first = await opened(early)
        await fresh.tell_many("late", range(1, 4))
        await heard(first, 3)
        await settled(fresh, 3)
        second = await opened(late)
        await fresh.tell_many("late", range(4, 7))
        assert summaries(await heard(second, 3)) == steps(range(4, 7))
        assert summaries(await heard(first, 3)) == steps(range(4, 7))


async def test_events_outlive_a_killed_gateway(fresh: Rig) -> None:
    """A client reads at its own pace and misses nothing: a kill takes what it had not read.

    Nobody else may know what it has read: its library throws the rest away with the connection.
    """
    each, kills = 50, 5
    total = each * (kills + 1)
    got: list[str] = []
    for kill in range(1, kills + 1):
        telling = _telling(fresh, range(each * (kill - 1) + 1, each * kill + 1))
        async with fresh.client("F") as client:
            got += summaries(await heard(await opened(client), 40 + kill))
            fresh.stack.processes["gateway"].kill()
        fresh.restart_gateway()
        await telling
    telling = _telling(fresh, range(each * kills + 1, total + 1))
    async with fresh.client("F") as client:
        got += await _up_to(client, f"step {total}")
    await telling
    assert list(dict.fromkeys(got)) == steps(range(1, total + 1)), "lost or out of order"


async def test_a_killed_gateway_repeats_what_it_has_just_written(fresh: Rig) -> None:
    async with fresh.client("F") as client:
        stream = await opened(client)
        await fresh.tell_many("before", range(1, 101))
        await heard(stream, 100)
        await settled(fresh, 100)
        await fresh.tell_many("before", range(101, 111))
        await heard(stream, 10)
        fresh.stack.processes["gateway"].kill()
    fresh.restart_gateway()
    async with fresh.client("F") as client:
        await fresh.tell_many("before", range(111, 113))
        rest = await _up_to(client, "step 112")
    # How much of the ten counts as delivered is a question of half a second.
    assert rest == steps(range(113 - len(rest), 113)), "lost or out of order"
    assert 2 <= len(rest) <= 12, "told again, although it was marked"


async def test_a_burst_outlives_a_killed_gateway(fresh: Rig) -> None:
    total = 1200
    await fresh.tell_many("burst", range(1, total + 1))
    async with fresh.client("F") as client:
        got = summaries(await heard(await opened(client), 300))
        fresh.stack.processes["gateway"].kill()
    fresh.restart_gateway()
    async with fresh.client("F") as client:
        got += await _up_to(client, f"step {total}")
    assert list(dict.fromkeys(got)) == steps(range(1, total + 1)), "lost or out of order"


async def _up_to(client: Any, last: str) -> list[str]:
    """What a stream tells until this event."""
    stream = await opened(client)
    got: list[str] = []
    while not got or got[-1] != last:
        got += summaries(await heard(stream, 1))
    return got


async def test_what_a_client_got_of_a_burst_is_not_told_again(fresh: Rig) -> None:
    await fresh.tell_many("left", range(1, 401))
    async with fresh.client("F") as client:
        first = summaries(await heard(await opened(client), 170))
    # It left within a burst. What it did not read may have been written to it.
    await fresh.tell_many("left", range(401, 411))
    async with fresh.client("F") as client:
        rest = await _up_to(client, "step 410")
    assert first == steps(range(1, 171))
    assert rest == steps(range(411 - len(rest), 411)), "lost or out of order"
    assert len(rest) <= 240, "told again"


def _telling(rig: Rig, numbers: range) -> asyncio.Future[None]:
    """Events one after the other, while something else goes on."""

    async def tell() -> None:
        for number in numbers:
            await rig.tell("killed", number)

    return asyncio.ensure_future(tell())


async def test_a_restart_of_nats_loses_no_event(fresh: Rig) -> None:
    async with fresh.client("F") as client:
        stream = await opened(client)
        await fresh.tell("restart", 1)
        await heard(stream, 1)
        fresh.stack.nats.kill()
        async with grpc.aio.insecure_channel(fresh.stack.gateway_address) as channel:
            health = health_pb2_grpc.HealthStub(channel)

            async def status() -> int:
                return int((await health.Check(health_pb2.HealthCheckRequest())).status)

            async def away() -> bool:
                return bool(await status() == Serving.NOT_SERVING)

            async def back() -> bool:
                return bool(await status() == Serving.SERVING)

            await eventually(away, what="health to say that NATS is away")
            fresh.stack.nats.start()
            await eventually(back, what="health to say that NATS is back")
        await fresh.tell("restart", 2)
        await fresh.tell("restart", 3)
        assert summaries(await heard(stream, 2)) == ["step 2", "step 3"]


async def test_a_lost_event_stream_begins_anew(fresh: Rig) -> None:
    async with fresh.client("F") as client:
        stream = await opened(client)
        await fresh.tell_many("lost", range(1, 11))
        await heard(stream, 10)
        await settled(fresh, 10)
    await eventually(lambda: _is_zero(fresh), what="the client to be gone")
    await call_api(fresh.bus.client, f"STREAM.DELETE.{EVT.name}", {})
    fresh.stack.apply_streams()
    await fresh.tell_many("lost", range(11, 14))
    async with fresh.client("F") as client:
        stream = await opened(client)
        assert summaries(await heard(stream, 3)) == steps(range(11, 14))
        await fresh.tell("lost", 14)
        assert summaries(await heard(stream, 1)) == ["step 14"]
        # Before the client leaves: a call that ends while its last event is written marks nothing.
        await settled(fresh, 4)


async def test_a_bus_that_lost_everything_is_followed_again(fresh: Rig) -> None:
    async with fresh.client("F") as client:
        stream = await opened(client)
        await fresh.tell_many("wiped", range(1, 11))
        await heard(stream, 10)
        await settled(fresh, 10)
        fresh.stack.nats.kill()
        fresh.stack.nats.remove_store()
        fresh.stack.nats.start()
        fresh.stack.apply_streams()
        await fresh.tell("wiped", 11)
        assert summaries(await heard(stream, 1)) == ["step 11"]
        await settled(fresh, 1)


async def test_a_purged_event_stream_goes_on(fresh: Rig) -> None:
    async with fresh.client("F") as client:
        stream = await opened(client)
        await fresh.tell_many("purged", range(1, 4))
        await heard(stream, 3)
        await call_api(fresh.bus.client, f"STREAM.PURGE.{EVT.name}", {})
        await fresh.tell("purged", 4)
        assert summaries(await heard(stream, 1)) == ["step 4"]


async def test_what_is_no_event_is_skipped(fresh: Rig) -> None:
    async with fresh.client("F") as client:
        stream = await opened(client)
        await fresh.bus.client.publish("evt.lifecycle.acluster.bad", b"{}")
        await fresh.bus.client.publish("evt.lifecycle.acluster.bad", b"\xff\xff")
        await fresh.tell("good", 1)
        assert summaries(await heard(stream, 1)) == ["step 1"]


async def test_a_slow_client_is_dropped_while_others_go_on(tmp_path: Path) -> None:
    settings = {
        "MESHBUS_GATEWAY_EVENT_QUEUE": "64",
        "MESHBUS_GATEWAY_SLOW_CLIENT_GRACE": "PT1S",
    }
    details = "x" * 20_000  # fills the connection's window soon
    async with (
        rigged(tmp_path, settings) as rig,
        rig.client("F") as quick,
        rig.client("F") as slow,
    ):
        reading, stuck = await opened(quick), await opened(slow)
        await rig.tell_many("slow", range(1, 1501), details=details)
        assert summaries(await heard(reading, 1500)) == steps(range(1, 1501))
        error = await ending(stuck)
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert (error.details() or "").startswith("MB-2011: ")
        assert rig.metric("meshbus_event_clients_dropped_total") == 1
        await rig.tell("slow", 1501)
        assert summaries(await heard(reading, 1)) == ["step 1501"]


async def test_a_lone_slow_client_is_waited_for(tmp_path: Path) -> None:
    settings = {
        "MESHBUS_GATEWAY_EVENT_QUEUE": "16",
        "MESHBUS_GATEWAY_SLOW_CLIENT_GRACE": "PT0.2S",
    }
    async with rigged(tmp_path, settings) as rig, rig.client("F") as client:
        stream = await opened(client)
        await rig.tell_many("lone", range(1, 1001), details="x" * 20_000)
        delivered = -1.0

        async def stuck() -> bool:
            """No event was written for longer than the grace."""
            nonlocal delivered
            before, delivered = delivered, rig.metric("meshbus_events_delivered_total")
            await asyncio.sleep(0.5)
            return before == delivered

        await eventually(stuck, what="the client's window to be full")
        assert delivered < 1000
        assert summaries(await heard(stream, 1000)) == steps(range(1, 1001))


async def test_a_client_that_leaves_is_cleaned_up(fresh: Rig) -> None:
    async with fresh.client("F") as client:
        streams_open = [await opened(client) for _ in range(3)]
        assert await streams(fresh) == 3
        for stream in streams_open:
            stream.cancel()
        await eventually(lambda: _is_zero(fresh), what="the streams to be closed")
    assert fresh.metric("meshbus_event_streams") == 0


async def test_a_peer_that_vanished_is_noticed(tmp_path: Path) -> None:
    settings = {"MESHBUS_GATEWAY_KEEPALIVE": "PT1S"}
    async with rigged(tmp_path, settings) as rig:
        with FaultProxy(rig.stack.gateway_port) as proxy:
            address = proxy.address.rpartition("/")[2]
            async with rig.client("F", address=address) as client:
                await opened(client)
                assert await streams(rig) == 1
                proxy.blackhole()
                await eventually(lambda: _is_zero(rig), what="the stream to be closed")


async def test_a_drain_ends_streams_and_refuses_operations(fresh: Rig) -> None:
    gateway = fresh.stack.processes["gateway"]
    async with fresh.client("F") as client:
        stream = await opened(client)
        stopping = asyncio.create_task(asyncio.to_thread(gateway.stop))
        error = await ending(stream)
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        assert "shutting down" in (error.details() or "")
        async with asyncio.timeout(PATIENCE_S):
            await stopping
        assert gateway.popen.returncode == 0


async def test_two_gateways_share_one_mark(fresh: Rig) -> None:
    port = fresh.stack.gateway_port
    fresh.stack.gateway_port = loopback.take_port()
    fresh.stack.add("gateway", name="second")
    fresh.stack.wait_ready("second")
    second_address = fresh.stack.gateway_address
    fresh.stack.gateway_port = port
    async with fresh.client("F") as one, fresh.client("F", address=second_address) as two:
        first, second = await opened(one), await opened(two)
        await fresh.tell_many("shared", range(1, 101))
        assert summaries(await heard(first, 100)) == steps(range(1, 101))
        assert summaries(await heard(second, 100)) == steps(range(1, 101))
        await settled(fresh, 100)
        first.cancel()
        await fresh.tell_many("shared", range(101, 103))
        assert summaries(await heard(second, 2)) == steps(range(101, 103))
        await settled(fresh, 102)
        third = await opened(one)
        await fresh.tell("shared", 103)
        assert summaries(await heard(third, 1)) == ["step 103"]
