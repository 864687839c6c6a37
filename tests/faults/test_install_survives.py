"""An install is finished whatever dies in the middle of it, once and without duplicates."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable

import pytest

from services.gateway import wire
from tests.testbed.bodies import no_pods_quota
from tests.testbed.clusters import Cluster
from tests.testbed.meshery import Meshery, Received
from tests.testbed.recipe import ISTIO_VERSION
from tests.testbed.snapshots import snapshot
from tests.testbed.stack import Stack
from tests.testbed.stored import stored_events

pytestmark = pytest.mark.services("lifecycle", "translator", "gateway")

WITHIN_S = 90.0
GENERATED_NAMES = ("Pod", "EndpointSlice", "IPAddress")

POINTS = {
    "after the plan": "Plan: install",
    "after the definitions": "Wave 1",
    "after the workloads": "Wave 3",
}


@pytest.mark.parametrize(
    "point",
    [
        pytest.param(
            POINTS[name], id=name, marks=() if name == "after the definitions" else pytest.mark.full
        )
        for name in POINTS
    ],
)
async def test_a_killed_worker_is_replaced(
    point: str, frail: Stack, client: Meshery, cluster: Cluster
) -> None:
    expected = await _objects_of_an_install(client, cluster)
    worker = frail.processes["lifecycle"]
    operation = await _broken_at(client, point, worker.kill)
    frail.add("lifecycle", name="lifecycle-2")
    await _completed(client, operation)
    assert _inventory(cluster) == expected
    attempts = [r for r in client.of(operation) if "started" in r.event.summary]
    assert len(attempts) == 2


@pytest.mark.full
async def test_nats_is_killed_and_comes_back(
    frail: Stack, client: Meshery, cluster: Cluster
) -> None:
    def kill_and_start() -> None:
        frail.nats.kill()
        frail.nats.start()

    operation = await _broken_at(client, "Wave 1", kill_and_start)
    await _completed(client, operation)
    assert cluster.kubectl("get", "deployment", "istiod", "-n", "istio-system", "-o", "name")


@pytest.mark.full
async def test_the_api_server_restarts(frail: Stack, client: Meshery, cluster: Cluster) -> None:
    operation = await _broken_at(client, "Wave 1", cluster.restart_apiserver)
    await _completed(client, operation)


@pytest.mark.full
async def test_the_gateway_is_killed_while_a_client_streams(frail: Stack, client: Meshery) -> None:
    gateway = frail.processes["gateway"]

    def kill_and_start() -> None:
        gateway.kill()
        gateway.start()

    operation = await _broken_at(client, "Wave 2", kill_and_start)
    await _completed(client, operation)
    plain = [r.event.summary for r in client.of(operation)]
    events = await stored_events(frail, operation)
    stored = [str(wire.events_response(event).summary) for event in events]
    assert list(dict.fromkeys(plain)) == list(dict.fromkeys(stored)), "something was missed"
    assert client.connections >= 1


async def test_a_paused_worker_stops_before_its_next_write(
    frail: Stack, client: Meshery, cluster: Cluster
) -> None:
    """The worker wakes up after another one took over; only the new holder may go on."""
    cluster.kubectl("create", "namespace", "istio-system")
    quota = json.dumps(no_pods_quota("istio-system"))
    cluster.kubectl("apply", "-f", "-", stdin=quota)
    first = frail.processes["lifecycle"]
    operation = await _broken_at(client, "Wave 3", first.pause)
    frail.add("lifecycle", name="lifecycle-2")
    await client.until(lambda: len(_starts(client, operation)) == 2, within_s=WITHIN_S)
    first.resume()
    cluster.kubectl("delete", "resourcequota", "no-pods", "-n", "istio-system")
    cluster.kubectl("rollout", "restart", "deployment", "istiod", "-n", "istio-system")
    await _completed(client, operation)
    log = first.log.read_text()
    assert "message_abandoned" in log
    cluster.kubectl("delete", "namespace", "istio-system")


def _starts(client: Meshery, operation: str) -> list[Received]:
    return [r for r in client.of(operation) if "started" in r.event.summary]


def _inventory(cluster: Cluster) -> Counter[str]:
    """Objects by name, those with generated names by kind: duplicates show as a count."""
    return Counter(
        next((kind for kind in GENERATED_NAMES if f" {kind} " in f" {key} "), key)
        for key in snapshot(cluster)
    )


async def _objects_of_an_install(client: Meshery, cluster: Cluster) -> Counter[str]:
    """What an install that nothing disturbs leaves in the cluster."""
    final = await client.run("istio", version=ISTIO_VERSION)
    assert not final.failed, final.event
    objects = _inventory(cluster)
    await client.run("istio", delete=True)
    return objects


async def _broken_at(client: Meshery, point: str, fault: Callable[[], object]) -> str:
    return await client.broken_at(point, fault, name="istio", version=ISTIO_VERSION)


async def _completed(client: Meshery, operation: str) -> None:
    """One final event, and it is a success."""
    finals = await client.finals(operation, within_s=WITHIN_S)
    assert [f.failed for f in finals] == [False], str(finals[0].event)
