"""A worker behind a region's NATS server: its line may break at any moment, and nothing is lost."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from datetime import timedelta

import pytest

from services.chassis.bus.queries import ask
from services.gateway import wire
from tests.faults.conftest import ACK_WAIT_S
from tests.faults.soak.invariants import finals_of
from tests.testbed.backends import Backends
from tests.testbed.clusters import Cluster
from tests.testbed.meshery import Meshery, without_istio
from tests.testbed.perfrigs import ENDED, Rig, smp
from tests.testbed.processes import wait_until
from tests.testbed.recipe import ISTIO_VERSION
from tests.testbed.regions import RegionalStack
from tests.testbed.stored import admin_bus, bus_of, stored_events
from tests.testbed.waiting import eventually

WITHIN_S = 180.0
_GIVEN_UP = ("message_abandoned", "handler_failed")


@pytest.fixture(scope="module")
def regional(built: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegionalStack]:
    settings = {"MESHBUS_ACK_WAIT": f"{ACK_WAIT_S}s"}
    with RegionalStack(
        tmp_path_factory.mktemp("regional"),
        regional=("lifecycle", "perf"),
        services=("gateway",),
        settings=settings,
    ) as running:
        running.add_behind("lifecycle")
        yield running


@pytest.fixture
async def client(regional: RegionalStack, cluster: Cluster) -> AsyncIterator[Meshery]:
    address, kubeconfigs = regional.gateway_address, [cluster.kubeconfig_text]
    async with Meshery(address, kubeconfigs).connected() as connected:
        await without_istio(connected, cluster)
        yield connected
        await without_istio(connected, cluster)


def _for_a_moment(stack: RegionalStack) -> None:
    stack.line.cut()


def _until_the_worker_gives_up(stack: RegionalStack) -> None:
    """For longer than a command stays with a worker that is not heard."""
    worker = stack.processes["lifecycle-east"]
    stack.line.refuse()
    stack.line.cut()
    wait_until(
        lambda: any(word in worker.log.read_text() for word in _GIVEN_UP),
        timeout_s=WITHIN_S,
        what="the worker to let go of its command",
        processes=[worker],
    )
    stack.line.heal()


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param(_for_a_moment, id="for a moment"),
        pytest.param(
            _until_the_worker_gives_up, id="until its worker gives up", marks=pytest.mark.full
        ),
    ],
)
async def test_an_install_ends_once_over_a_line_that_breaks(
    broken: Callable[[RegionalStack], None], regional: RegionalStack, client: Meshery
) -> None:
    operation = await client.broken_at(
        "Wave 2", lambda: broken(regional), name="istio", version=ISTIO_VERSION
    )
    [final] = await client.finals(operation, within_s=WITHIN_S)
    assert not final.failed, final.event
    async with admin_bus(regional) as bus:
        ends = await finals_of(bus)
    assert [count for (ended, _), count in ends.items() if ended == operation] == [1]
    events = await stored_events(regional, operation)
    told = {str(wire.events_response(event).summary) for event in events}
    assert told == {r.event.summary for r in client.of(operation)}


async def test_questions_are_answered_from_behind_the_line(regional: RegionalStack) -> None:
    async with bus_of(regional, "operator") as bus:
        answer = await ask(
            bus, {}, service="lifecycle", verb="versions", within=timedelta(seconds=30)
        )
    assert ISTIO_VERSION in str(answer)
    _assert_nothing_refused(regional)


async def test_workers_on_both_sides_of_the_line_share_a_load_test(regional: RegionalStack) -> None:
    with Backends() as backends:
        target = backends.add("target")
        regional.add("perf")
        regional.add_behind("perf")
        regional.wait_ready("perf")
        async with bus_of(regional, "operator") as bus:
            test = smp(f"http://127.0.0.1:{target.port}/", rps=30, duration="2s", workers=2)
            rig = Rig(regional, bus)

            async def is_shared() -> bool:
                """A worker that answers late on a busy machine is left out of a run."""
                before = target.requests.total()
                record = await rig.until(await rig.start(test), *ENDED)
                assert record["state"] == "done", record
                assert target.requests.total() == before + 60
                return sorted(record["workers"]) == ["perf", "perf-east"]

            await eventually(is_shared, what="both workers to share a run")
    _assert_nothing_refused(regional)


def _assert_nothing_refused(stack: RegionalStack) -> None:
    """Neither of the two servers has refused what a worker or the line needs."""
    for server in (stack.nats, stack.leaf):
        assert "Violation" not in server.process.log.read_text()
