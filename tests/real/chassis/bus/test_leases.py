"""Leases exclude, expire and are taken over; the fence falls when heartbeats do not get through."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta

import pytest
from structlog.testing import capture_logs

from services.chassis.bus.connection import Bus
from services.chassis.bus.leases import Fence, Leases
from services.chassis.bus.records import Bucket
from services.chassis.bus.streams import call_api
from services.chassis.errors import BusUnavailable, ClusterBusy, LeaseLost, OperationCancelled
from tests.testbed.buses import NatsServer, connected
from tests.testbed.waiting import eventually

_RENEW_EVERY = timedelta(milliseconds=100)
_NEVER = timedelta(hours=1)


def _leases(bus: Bus, worker: str, *, renew_every: timedelta = _RENEW_EVERY) -> Leases:
    return Leases(Bucket(bus, "leases"), worker, renew_every)


def _fell(fence: Fence) -> bool:
    try:
        fence.check()
    except LeaseLost:
        return True
    return False


async def _revision(bus: Bus, key: str) -> int:
    entry = await Bucket(bus, "leases").get(key)
    return entry.revision if entry else 0


async def test_lease_excludes_another_operation_until_it_is_given_back(bus: Bus, name: str) -> None:
    fence = Fence(_NEVER)
    first, second = _leases(bus, "one"), _leases(bus, "two")

    async with first.held(name, operation="op-1", attempt=1, fence=fence):
        with pytest.raises(ClusterBusy, match="busy with operation op-1") as refused:
            async with second.held(name, operation="op-2", attempt=1, fence=Fence(_NEVER)):
                pytest.fail("two operations hold one lease")
        assert refused.value.subject == "op-1"
        fence.check()

    async with second.held(name, operation="op-2", attempt=1, fence=Fence(_NEVER)):
        pass


async def test_of_many_operations_one_holds_it_at_a_time(bus: Bus, name: str) -> None:
    inside = most = entered = 0

    async def work(number: int) -> None:
        nonlocal inside, most, entered
        leases = _leases(bus, f"worker-{number}")
        while True:
            try:
                async with leases.held(
                    name, operation=f"op-{number}", attempt=1, fence=Fence(_NEVER)
                ):
                    inside, entered = inside + 1, entered + 1
                    most = max(most, inside)
                    await bus.rtt_s()
                    inside -= 1
                return
            except ClusterBusy:
                await bus.rtt_s()

    await asyncio.gather(*(work(number) for number in range(10)))

    assert (most, entered) == (1, 10)


async def test_lease_outlives_its_time_while_it_is_renewed(bus: Bus, name: str) -> None:
    fence = Fence(_NEVER)
    async with _leases(bus, "one").held(name, operation="op-1", attempt=1, fence=fence):
        first = await _revision(bus, name)

        async def is_older_than_its_ttl() -> bool:
            # Renewed every 100 ms; the bucket forgets what is older than a second.
            return await _revision(bus, name) >= first + 15

        await eventually(is_older_than_its_ttl, what="fifteen renewals")
        fence.check()


async def test_same_operation_takes_over_and_the_earlier_worker_stops(bus: Bus, name: str) -> None:
    earlier, later = Fence(_NEVER), Fence(_NEVER)
    async with (
        _leases(bus, "one").held(name, operation="op-1", attempt=1, fence=earlier),
        _leases(bus, "two").held(name, operation="op-1", attempt=2, fence=later),
    ):
        await eventually(lambda: _fell(earlier), what="the earlier worker to be fenced")
        later.check()
        with pytest.raises(LeaseLost, match="taken over"):
            earlier.check()


async def test_fenced_worker_leaves_the_lease_of_its_successor(bus: Bus, name: str) -> None:
    earlier, later = Fence(_NEVER), Fence(_NEVER)
    one, two = _leases(bus, "one"), _leases(bus, "two")
    successor = two.held(name, operation="op-1", attempt=2, fence=later)

    async with one.held(name, operation="op-1", attempt=1, fence=earlier):
        await successor.__aenter__()
        await eventually(lambda: _fell(earlier), what="the earlier worker to be fenced")

    try:
        assert await Bucket(bus, "leases").get(name) is not None
        with pytest.raises(ClusterBusy):
            async with one.held(name, operation="op-2", attempt=1, fence=Fence(_NEVER)):
                pytest.fail("the earlier worker gave back a lease that was not its own")
    finally:
        await successor.__aexit__(None, None, None)


async def test_lease_of_a_dead_worker_expires(server: NatsServer, bus: Bus, name: str) -> None:
    dead = _leases(bus, "dead", renew_every=_NEVER)
    leaving = dead.held(name, operation="op-1", attempt=1, fence=Fence(_NEVER))
    await leaving.__aenter__()
    try:

        async def is_free() -> bool:
            return await Bucket(bus, "leases").get(name) is None

        await eventually(is_free, what="the lease to expire")
        async with _leases(bus, "two").held(name, operation="op-2", attempt=1, fence=Fence(_NEVER)):
            pass
    finally:
        await leaving.__aexit__(None, None, None)


async def test_lease_survives_a_kill_of_the_server(own_server: NatsServer, name: str) -> None:
    fence = Fence(_NEVER)
    async with connected(own_server.url) as bus, connected(own_server.url) as other:
        await _set_ttl(bus, timedelta(seconds=30))
        async with _leases(bus, "one").held(name, operation="op-1", attempt=1, fence=fence):
            own_server.kill()
            await asyncio.to_thread(own_server.start)

            with pytest.raises(ClusterBusy, match="op-1"):
                async with _leases(other, "two").held(
                    name, operation="op-2", attempt=1, fence=Fence(_NEVER)
                ):
                    pytest.fail("the restart of the server gave the lease away")
            fence.check()


async def test_lease_that_expired_in_an_outage_is_regained(bus: Bus, name: str) -> None:
    fence = Fence(_NEVER)
    async with _leases(bus, "one").held(name, operation="op-1", attempt=1, fence=fence):
        before = await _revision(bus, name)
        # What expiry does: the key is gone and leaves no marker.
        await call_api(bus.client, "STREAM.PURGE.KV_leases", {"filter": f"$KV.leases.{name}"})

        async def is_held_again() -> bool:
            return await _revision(bus, name) > before

        await eventually(is_held_again, what="the lease to be regained")
        fence.check()
        with pytest.raises(ClusterBusy):
            async with _leases(bus, "two").held(
                name, operation="op-2", attempt=1, fence=Fence(_NEVER)
            ):
                pytest.fail("two operations hold one lease")


async def test_lease_that_another_took_in_an_outage_is_lost(bus: Bus, name: str) -> None:
    fence = Fence(_NEVER)
    async with _leases(bus, "one", renew_every=timedelta(milliseconds=400)).held(
        name, operation="op-1", attempt=1, fence=fence
    ):
        await call_api(bus.client, "STREAM.PURGE.KV_leases", {"filter": f"$KV.leases.{name}"})
        async with _leases(bus, "two").held(name, operation="op-2", attempt=1, fence=Fence(_NEVER)):
            await eventually(lambda: _fell(fence), what="the first worker to be fenced")


async def test_renewing_goes_on_after_an_outage(own_server: NatsServer, name: str) -> None:
    fence = Fence(_NEVER)
    async with connected(own_server.url) as bus:
        await _set_ttl(bus, timedelta(seconds=30))
        leases = Leases(
            Bucket(bus, "leases", within=timedelta(milliseconds=100)), "one", _RENEW_EVERY
        )
        async with leases.held(name, operation="op-1", attempt=1, fence=fence):
            with capture_logs() as logs:
                own_server.process.pause()
                try:
                    await eventually(
                        lambda: any(line["event"] == "lease_not_renewed" for line in logs),
                        what="a renewal to fail",
                    )
                finally:
                    own_server.process.resume()
            before = await _revision(bus, name)

            async def is_renewed() -> bool:
                return await _revision(bus, name) > before

            await eventually(is_renewed, what="the next renewal")
            fence.check()


async def test_fence_falls_when_the_server_is_silent(own_server: NatsServer) -> None:
    async with connected(own_server.url, watchdog=timedelta(milliseconds=300)) as bus:
        fence = Fence(timedelta(seconds=1))
        async with _heartbeats(bus, fence):
            started = asyncio.get_running_loop().time()
            own_server.process.pause()
            try:
                await eventually(lambda: _fell(fence), what="the fence to fall")
            finally:
                own_server.process.resume()
            silent = asyncio.get_running_loop().time() - started
            assert 0.7 < silent < 3.0

            # Whoever may have been replaced stays out, also when heartbeats get through again.
            beaten = fence._beaten
            await eventually(lambda: fence._beaten > beaten, what="a heartbeat")
            with pytest.raises(LeaseLost, match="no heartbeat got through"):
                fence.check()


async def test_fence_stands_while_heartbeats_get_through(own_server: NatsServer) -> None:
    async with connected(own_server.url, watchdog=timedelta(seconds=1)) as bus:
        fence = Fence(timedelta(seconds=5))
        async with _heartbeats(bus, fence):
            own_server.kill()
            await asyncio.to_thread(own_server.start)
            beaten = fence._beaten
            await eventually(lambda: fence._beaten > beaten, what="a heartbeat")
            fence.check()


async def test_cancelled_operation_is_told_by_its_fence() -> None:
    fence = Fence(_NEVER)
    fence.check()

    fence.stop(OperationCancelled("the operation was cancelled on request"))

    with pytest.raises(OperationCancelled):
        fence.check()


@asynccontextmanager
async def _heartbeats(bus: Bus, fence: Fence) -> AsyncIterator[None]:
    """Beats as workers do: by what the server has answered."""

    async def beat() -> None:
        while True:
            sent = asyncio.get_running_loop().time()
            with suppress(BusUnavailable):
                await bus.rtt_s()
                fence.beat(at=sent)
            await asyncio.sleep(0.05)

    beating = asyncio.create_task(beat())
    try:
        yield
    finally:
        beating.cancel()
        with suppress(asyncio.CancelledError):
            await beating


async def _set_ttl(bus: Bus, ttl: timedelta) -> None:
    config = (await call_api(bus.client, "STREAM.INFO.KV_leases", {}))["config"]
    changed = {**config, "max_age": int(ttl.total_seconds() * 1e9)}
    answer = await call_api(bus.client, "STREAM.UPDATE.KV_leases", changed)
    assert "error" not in answer


async def test_a_lease_is_free_at_once_though_a_renewal_was_underway(bus: Bus, name: str) -> None:
    """Renewals without a pause: some of the releases meet one that the server has stored."""
    busy, calm = _leases(bus, "busy", renew_every=timedelta(0)), _leases(bus, "calm")
    for number in range(100):
        async with busy.held(name, operation=f"a{number}", attempt=1, fence=Fence(_NEVER)):
            await bus.rtt_s()
        async with calm.held(name, operation=f"b{number}", attempt=1, fence=Fence(_NEVER)):
            pass


async def test_revisions_grow_from_holder_to_holder(bus: Bus, name: str) -> None:
    taken = []
    for worker in ("one", "two", "one"):
        fence = Fence(_NEVER)
        async with _leases(bus, worker).held(
            name, operation=worker, attempt=1, fence=fence
        ) as revision:
            taken.append(revision)
    assert taken == sorted(set(taken))


async def test_renewals_may_be_heartbeats(bus: Bus, name: str) -> None:
    fence = Fence(timedelta(milliseconds=600))
    leases = Leases(Bucket(bus, "leases"), "one", _RENEW_EVERY, beats=True)
    async with leases.held(name, operation="op-1", attempt=1, fence=fence) as taken:
        # Ten renewals take longer than the fence allows without a heartbeat.
        await eventually(lambda: _grown(bus, name, taken + 10), what="ten renewals", within_s=60.0)
        assert not _fell(fence)


async def _grown(bus: Bus, key: str, revision: int) -> bool:
    return await _revision(bus, key) >= revision


@pytest.mark.parametrize("is_early", [True, False])
async def test_what_undoes_is_not_stopped(is_early: bool) -> None:
    fence, told = Fence(_NEVER), list[str]()
    if is_early:
        fence.stop(OperationCancelled("on request"))
    fence.carry_on(lambda: told.append("goes on"))
    if not is_early:
        fence.stop(OperationCancelled("on request"))
    fence.stop(OperationCancelled("on request"))
    fence.check()
    assert await fence.guard(asyncio.sleep(0, "done")) == "done"
    assert told == ["goes on"]
    assert not fence.is_stopped


async def test_a_lost_claim_counts_for_what_undoes_too() -> None:
    fence = Fence(_NEVER)
    fence.stop(OperationCancelled("on request"))
    fence.lose("another worker has it")
    fence.carry_on(lambda: None)
    assert _fell(fence)
    with pytest.raises(LeaseLost):
        await fence.guard(asyncio.sleep(60))
