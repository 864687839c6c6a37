"""A worker behind a region's NATS server: its line may break at any moment, and nothing is lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import timedelta

import pytest

from services.chassis.bus.queries import ask
from services.chassis.bus.records import Bucket, Records
from services.chassis.bus.subjects import operation_key
from services.chassis.errors import MalformedRequest
from services.chassis.kube.kubeconfigs import parse_kubeconfig
from services.chassis.messages import OperationRecord
from services.gateway import wire
from tests.faults.conftest import ACK_WAIT_S
from tests.faults.soak.invariants import finals_of
from tests.testbed.backends import Backends
from tests.testbed.clusters import Cluster
from tests.testbed.meshery import Meshery, without_istio
from tests.testbed.perfrigs import ENDED, Rig, smp
from tests.testbed.processes import wait_until
from tests.testbed.recipe import ISTIO_VERSION
from tests.testbed.regions import REGION, RegionalStack, in_region
from tests.testbed.stored import admin_bus, bus_of, register_clusters, stored_events

WITHIN_S = 180.0
_GIVEN_UP = ("message_abandoned", "handler_failed")


@pytest.fixture(scope="module")
def regional(built: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegionalStack]:
    settings = {"MESHBUS_ACK_WAIT": f"{ACK_WAIT_S}s"}
    with RegionalStack(
        tmp_path_factory.mktemp("regional"),
        regional=("lifecycle", "perf"),
        services=("gateway", "lifecycle"),
        settings=settings,
    ) as running:
        running.add_behind("lifecycle")
        yield running


@pytest.fixture
async def client(regional: RegionalStack, cluster: Cluster) -> AsyncIterator[Meshery]:
    address, kubeconfigs = regional.gateway_address, [in_region(cluster.kubeconfig_text)]
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
async def test_an_install_in_a_region_ends_once_over_a_line_that_breaks(
    broken: Callable[[RegionalStack], None],
    regional: RegionalStack,
    client: Meshery,
    cluster: Cluster,
) -> None:
    here, sent = [cluster.kubeconfig_text], list[str]()
    loop = asyncio.get_running_loop()

    def moved_and_broken() -> None:
        # Each region has a slot for it, and the cluster one lease.
        other = client.apply("istio", version=ISTIO_VERSION, kubeconfigs=here)
        sent.append(asyncio.run_coroutine_threadsafe(other, loop).result())
        broken(regional)

    operation = await client.broken_at(
        "Wave 2", moved_and_broken, name="istio", version=ISTIO_VERSION
    )
    [refused] = await client.finals(sent[0], within_s=WITHIN_S)
    assert (refused.event.event_type, refused.event.error_code) == (2, "MB-2002")
    assert await _worker_of(regional, sent[0], cluster) == "lifecycle"
    [final] = await client.finals(operation, within_s=WITHIN_S)
    assert not final.failed, final.event
    async with admin_bus(regional) as bus:
        ends = await finals_of(bus)
    assert [count for (ended, _), count in ends.items() if ended == operation] == [1]
    assert await _worker_of(regional, operation, cluster) == "lifecycle-east"
    events = await stored_events(regional, operation)
    told = {str(wire.events_response(event).summary) for event in events}
    assert told == {r.event.summary for r in client.of(operation)}


async def test_questions_about_a_cluster_are_answered_in_its_region(
    regional: RegionalStack, cluster: Cluster
) -> None:
    [token] = await register_clusters(regional, [cluster.kubeconfig_text])
    async with bus_of(regional, "operator") as bus:
        answer = await ask(
            bus,
            {"cluster": token, "namespaces": ["kube-system"]},
            service="lifecycle",
            verb="facts",
            within=timedelta(seconds=30),
            region=REGION,
        )
    assert answer["read_namespaces"] == ["kube-system"]
    _assert_nothing_refused(regional)


async def test_a_load_test_of_a_region_is_made_by_its_workers(regional: RegionalStack) -> None:
    with Backends() as backends:
        target = backends.add("target")
        regional.add("perf")
        regional.add_behind("perf")
        regional.wait_ready("perf")
        async with bus_of(regional, "operator") as bus:
            test = smp(f"http://127.0.0.1:{target.port}/", rps=30, duration="1s")
            rig = Rig(regional, bus)
            for asked, worker in (({"region": REGION}, "perf-east"), ({}, "perf")):
                before = target.requests.total()
                record = await rig.until(await rig.start(test, **asked), *ENDED)
                assert record["state"] == "done", record
                assert record["workers"] == [worker]
                assert target.requests.total() == before + 30
            with pytest.raises(MalformedRequest, match="no perf workers of the region west"):
                await rig.start(test, region="west")
    _assert_nothing_refused(regional)


async def _worker_of(stack: RegionalStack, operation: str, cluster: Cluster) -> str:
    key = operation_key(operation, parse_kubeconfig(cluster.kubeconfig_text).cluster)
    async with admin_bus(stack) as bus:
        stored = await Records(Bucket(bus, "ops"), OperationRecord).get(key)
    assert stored is not None
    return stored[0].worker


def _assert_nothing_refused(stack: RegionalStack) -> None:
    """Neither of the two servers has refused what a worker or the line needs."""
    for server in (stack.nats, stack.leaf):
        assert "Violation" not in server.process.log.read_text()
