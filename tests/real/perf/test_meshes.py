"""Tests in the mesh: through a real Envoy under istiod, asked for through the gateway."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from services.chassis.bus.connection import connect
from services.perf.measurements.histograms import Histogram
from services.perf.measurements.measurements import Measurement
from tests.real.perf.ingresses import NAMESPACE, Ingress
from tests.testbed.clusters import Cluster
from tests.testbed.entries import istio_object
from tests.testbed.meshery import Meshery, Received
from tests.testbed.perfrigs import Rig, smp
from tests.testbed.stack import Stack

DELAY_S = 0.02
SLOW_S = 0.1
RATE = 100
TOLERANCE = 0.1
"""By so much the medians of the same load may differ, whatever the number of workers: the machine
of the tests has two processors, and workers, Envoy, istiod and the target share them."""

_MOST_ASKED = 4


@pytest.fixture(scope="module")
def stack(built: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    settings = {
        "MESHBUS_ACK_WAIT": "6s",
        "MESHBUS_PERF_LOST_AFTER": "5s",
        "MESHBUS_PERF_START_WITHIN": "20s",
    }
    with Stack(tmp_path_factory.mktemp("meshes"), settings=settings) as running:
        yield running


@pytest.fixture(scope="module")
async def rig(stack: Stack) -> AsyncIterator[Rig]:
    """The stack with four perf workers."""
    bus = await connect(stack.settings("operator"), service="operator")
    rig = Rig(stack, bus)
    rig.add(3, first=2)
    yield rig
    await bus.close()


@pytest.fixture(scope="module")
def ingress(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ingress]:
    with Ingress(tmp_path_factory.mktemp("ingress"), cluster=cluster, delay_s=DELAY_S) as ingress:
        yield ingress


@pytest.fixture
async def meshery(stack: Stack, cluster: Cluster) -> AsyncIterator[Meshery]:
    async with Meshery(stack.gateway_address, [cluster.kubeconfig_text]).connected() as connected:
        yield connected


def median_us(measurement: Measurement) -> int:
    return Histogram.of(measurement.tally.durations).percentile_us(50)


@pytest.mark.full
@pytest.mark.alone
async def test_the_number_of_workers_changes_no_figure(rig: Rig, ingress: Ingress) -> None:
    measurements = []
    for workers in (1, 2, 4):
        ingress.backend.requests.clear()
        body = smp(
            ingress.url,
            rps=RATE,
            duration="10s",
            connections=8,
            client=ingress.client,
            workers=workers,
        )
        measurement = await rig.measured(body)
        counted = sum(measurement.tally.durations.counts)
        assert counted == 10 * RATE == ingress.backend.requests.total()
        assert measurement.workers == workers
        assert measurement.tally.codes == {"200": counted}
        assert measurement.actual_rate == pytest.approx(RATE, rel=0.01)
        measurements.append(measurement)
    medians = [median_us(measurement) for measurement in measurements]
    assert max(medians) <= min(medians) * (1 + TOLERANCE), medians


async def test_meshery_runs_a_test(meshery: Meshery, stack: Stack, ingress: Ingress) -> None:
    final = await meshery.run(
        "performance-test", body=smp(ingress.url, rps=50, duration="3s", client=ingress.client)
    )
    assert not final.failed, final.event
    assert re.search(
        r"finished successfully on bed: p50 [\d.]+, p99 [\d.]+ ms, 0\.00% failed$",
        final.event.summary,
    )
    assert "p99" in final.event.details
    removed = await meshery.run("performance-test", delete=True)
    assert "removed" in removed.event.summary


async def test_a_body_without_a_test_is_refused(meshery: Meshery, stack: Stack) -> None:
    final = await meshery.run("performance-test", body="")
    assert final.failed
    assert final.event.error_code == "MB-6001"


async def test_a_slower_route_is_rolled_back(
    meshery: Meshery, stack: Stack, ingress: Ingress, rig: Rig
) -> None:
    """A delay of 30 %, as a fault that Envoy injects, told by three pairs that alternate. Of a
    service so slow that what a busy machine adds is little beside it."""
    before = ingress.stored_route()
    ingress.backend.delay_s = SLOW_S
    try:
        delay_ms = SLOW_S * 1000 * 0.3
        body = gate(ingress, delay_ms=delay_ms, rps=20, repeats=3, furtherPairs=3)
        final, told = await decided(meshery, body, ingress)
    finally:
        ingress.backend.delay_s = DELAY_S
    assert final.failed
    assert final.event.error_code == "MB-6012"
    assert "worse" in final.event.details
    assert ingress.stored_route() == before
    steps = [step for summary in told for step in _STEPS if summary.startswith(step)]
    assert steps[:9] == [
        *("Run 1 of 3 before", "Applied", "Run 1 of 3 after"),
        *("Run 2 of 3 after", "Took back", "Run 2 of 3 before"),
        *("Run 3 of 3 before", "Applied", "Run 3 of 3 after"),
    ]
    assert any(
        re.match(r"The change made the service worse: regression, p50 .* ms, p99 .* ms, f", each)
        for each in told
    ), told
    assert any(each.startswith("Rolled back VirtualService") for each in told), told


_STEPS = (
    *(f"Run {number} of 3 {side}" for number in (1, 2, 3) for side in ("before", "after")),
    "Applied",
    "Took back",
)


@pytest.mark.full
async def test_a_service_that_stalls_is_rolled_back(
    meshery: Meshery, stack: Stack, ingress: Ingress, rig: Rig
) -> None:
    """The change sends requests to a server that freezes now and then: the tail shows it."""
    before = ingress.stored_route()
    body = gate(ingress, change=json.dumps(ingress.route(stalls=True)), repeats=3)
    final, _ = await decided(meshery, body, ingress)
    assert final.failed
    assert final.event.error_code == "MB-6012"
    assert re.search(r"p99: [^;]*: worse", final.event.details), final.event.details
    assert ingress.stored_route() == before


async def test_a_route_that_is_no_slower_stays(
    meshery: Meshery, stack: Stack, ingress: Ingress, rig: Rig
) -> None:
    """Told with a threshold that the noise of a busy machine does not reach. The last run of an
    even number of pairs is without the change, which then is applied once more."""
    before = ingress.stored_route()
    body = gate(ingress, retries=1, threshold=4.0, repeats=4, duration="3s")
    final, _ = await decided(meshery, body, ingress)
    assert not final.failed, final.event
    assert ingress.stored_route() == {**before, "retries": {"attempts": 1}}
    # A busy machine may have slowed the runs before the change so much that it looks like a gain.
    told = r"passed successfully on bed: (same|improvement), p50 .* ms, p99 "
    assert re.search(told, final.event.summary)


async def test_too_few_runs_prove_nothing_and_roll_nothing_back(
    meshery: Meshery, stack: Stack, ingress: Ingress, rig: Rig
) -> None:
    before = ingress.stored_route()
    slower = ingress.route(delay_ms=DELAY_S * 3000)
    try:
        final, _ = await gated(meshery, gate(ingress, change=json.dumps(slower)))
        assert not final.failed, final.event
        assert "finished successfully without a verdict on bed: inconclusive" in final.event.summary
        assert "Too few runs" in final.event.details
        assert ingress.stored_route()["fault"] == slower["spec"]["http"][0]["fault"]
    finally:
        ingress.restore_route()
    assert ingress.stored_route() == {k: v for k, v in before.items() if k != "retries"}


async def test_one_run_that_breaks_the_objective_is_enough(
    meshery: Meshery, stack: Stack, ingress: Ingress, rig: Rig, cluster: Cluster
) -> None:
    """A connection pool that is too small for the load: Envoy refuses what does not fit. What was
    not there before is deleted by the rollback."""
    pool = {
        "tcp": {"maxConnections": 1},
        "http": {"http1MaxPendingRequests": 1, "maxRequestsPerConnection": 1},
    }
    spec = {"host": ingress.host, "trafficPolicy": {"connectionPool": pool}}
    rule = istio_object("DestinationRule", name="small", namespace=NAMESPACE, spec=spec)
    body = gate(
        ingress,
        change=json.dumps(rule),
        repeats=3,
        objective={"errorRatio": 0.02, "rateRatio": 0},
    )
    final, told = await gated(meshery, body)
    assert final.failed
    assert final.event.error_code == "MB-6015"
    rules = cluster.kubectl("get", "destinationrules", "-n", NAMESPACE, "-o", "name")
    assert "/small" not in rules
    assert not any(summary.startswith("Run 2") for summary in told), told


async def test_one_operation_on_two_clusters_is_two_runs(
    meshery: Meshery,
    stack: Stack,
    ingress: Ingress,
    rig: Rig,
    cluster: Cluster,
    second_cluster: Cluster,
) -> None:
    ingress.backend.requests.clear()
    body = smp(ingress.url, rps=30, duration="2s", client=ingress.client, workers=1)
    operation = await meshery.apply(
        "performance-test",
        body=body,
        kubeconfigs=[cluster.kubeconfig_text, second_cluster.kubeconfig_text],
    )
    finals = await meshery.finals(operation, count=2, within_s=60.0)
    assert not any(final.failed for final in finals)
    assert ingress.backend.requests.total() == 120
    runs = [
        run["run"] for run in (await rig.ask("status"))["runs"] if run["operation"] == operation
    ]
    assert len(set(runs)) == 2


async def test_a_cancelled_gate_is_rolled_back(
    meshery: Meshery, stack: Stack, ingress: Ingress, rig: Rig
) -> None:
    before = ingress.stored_route()
    operation = await meshery.apply("performance-gate", body=gate(ingress, delay_ms=5))
    await meshery.until(lambda: _is_measuring_the_change(meshery, operation), within_s=60.0)
    assert ingress.stored_route() != before
    [run] = [
        run["run"]
        for run in (await rig.ask("status"))["runs"]
        if run["operation"] == operation
        and run["kind"] == "performance-gate"
        and "-before-" not in run["run"]
        and "-after-" not in run["run"]
    ]
    assert (await rig.ask("cancel", run=run))["cancelling"]

    def ended() -> list[str]:
        told = [each.event for each in meshery.of(operation)]
        return [e.suggested_remediation for e in told if "Cancelled while" in e.summary]

    await meshery.until(lambda: bool(ended()), within_s=60.0)
    assert "rolled back" in ended()[0]
    assert ingress.stored_route() == before
    assert (await rig.status(run))["state"] == "cancelled"


async def test_a_gate_whose_worker_dies_is_taken_over(
    meshery: Meshery, stack: Stack, ingress: Ingress, rig: Rig
) -> None:
    """It is killed with the change applied; another worker measures, and rolls back."""
    before = ingress.stored_route()
    limits = {"p50Ms": DELAY_S * 10_000, "errorRatio": None, "rateRatio": 0}
    body = gate(ingress, delay_ms=DELAY_S * 12_000, objective=limits, duration="2s")
    operation = await meshery.apply("performance-gate", body=body)
    await meshery.until(lambda: _is_measuring_the_change(meshery, operation), within_s=60.0)
    assert ingress.stored_route() != before
    keys = (await asyncio.to_thread(stack.nats_cli, "kv", "ls", "ops", user="admin")).split()
    [key] = [key for key in keys if key.startswith(f"{operation}.")]
    record = await asyncio.to_thread(stack.nats_cli, "kv", "get", "ops", key, "--raw")
    stack.processes[json.loads(record)["worker"]].kill()
    [final] = await meshery.finals(operation, within_s=90.0)
    assert final.failed
    assert final.event.error_code == "MB-6015"
    assert ingress.stored_route() == before


def _is_measuring_the_change(meshery: Meshery, operation: str) -> bool:
    return any("Run 1 of 1 after" in each.event.summary for each in meshery.of(operation))


async def gated(meshery: Meshery, body: str) -> tuple[Received, list[str]]:
    """The end of a gate, and the summaries of all its events."""
    operation = await meshery.apply("performance-gate", body=body)
    [final] = await meshery.finals(operation, within_s=240.0)
    told = [each.event.summary.removeprefix("Warning: ") for each in meshery.of(operation)]
    return final, told


async def decided(meshery: Meshery, body: str, ingress: Ingress) -> tuple[Received, list[str]]:
    """The same of a gate that has a verdict: `inconclusive` is right while the machine is too busy
    to tell, and asked again."""
    for _ in range(_MOST_ASKED):
        final, told = await gated(meshery, body)
        if "inconclusive" not in final.event.summary:
            break
        ingress.restore_route()
    return final, told


def gate(
    ingress: Ingress,
    *,
    delay_ms: float = 0,
    retries: int = 0,
    change: str = "",
    rps: int = 90,
    duration: str = "4s",
    **options: Any,
) -> str:
    """The body of a gate whose change is the route with a delay or retries, or another one. Of one
    pair, where nothing else is said."""
    route = ingress.route(delay_ms=delay_ms)
    if retries:
        route["spec"]["http"][0]["retries"] = {"attempts": retries}
    return smp(
        ingress.url,
        rps=rps,
        duration=duration,
        client=ingress.client,
        workers=1,
        change=change or json.dumps(route),
        settleSeconds=1,
        **{"repeats": 1, "furtherPairs": 0, **options},
    )
