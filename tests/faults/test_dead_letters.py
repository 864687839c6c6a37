"""A command that kills its workers is given up, shows nobody what is in it, and can be put back."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Iterator

import pytest

from services.chassis.bus.connection import Bus
from services.chassis.bus.streams import MAX_DELIVERIES, call_api
from tests.faults.test_handing_on import VIRTUAL_SERVICE
from tests.testbed.clusters import Cluster
from tests.testbed.meshery import Meshery
from tests.testbed.processes import BedError
from tests.testbed.proxies import FaultProxy
from tests.testbed.stack import Stack
from tests.testbed.stored import admin_bus, message_count
from tests.testbed.waiting import eventually

pytestmark = pytest.mark.services("lifecycle", "translator", "gateway")


@pytest.fixture
def proxy(cluster: Cluster) -> Iterator[FaultProxy]:
    """Before an API server that never answers, so that a worker can be met at its work."""
    with FaultProxy(int(cluster.server_url.rpartition(":")[2])) as proxy:
        proxy.blackhole()
        yield proxy


@pytest.fixture
def kubeconfig(cluster: Cluster, proxy: FaultProxy) -> str:
    return cluster.kubeconfig_through(f"https://{proxy.address}")


def secret(canary: str) -> str:
    """What Meshery's editor may hold, and sends along with every operation."""
    document = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "given-up", "namespace": "default"},
        "stringData": {"password": canary},
    }
    return json.dumps(document)


def stored(stack: Stack) -> bytes:
    files = stack.nats.store.rglob("*")
    return b"".join(path.read_bytes() for path in files if path.is_file())


async def deliveries(bus: Bus, service: str) -> int:
    told = await call_api(bus.client, f"CONSUMER.INFO.CMD.{service}", {})
    return int(told["delivered"]["consumer_seq"])


async def killed_each_time(stack: Stack, bus: Bus, service: str, *, before: int) -> None:
    """Kills the service's worker with each delivery of its command, and starts it again."""
    for attempt in range(1, MAX_DELIVERIES + 1):

        async def is_delivered(wanted: int = before + attempt) -> bool:
            return await deliveries(bus, service) >= wanted

        await eventually(is_delivered, what=f"delivery {attempt}", within_s=60.0)
        await asyncio.to_thread(stack.processes[service].kill)
        await asyncio.to_thread(stack.processes[service].start)


@pytest.mark.parametrize(
    ("service", "kind"),
    [
        ("lifecycle", "label-namespace"),
        pytest.param("translator", "custom", marks=pytest.mark.full),
    ],
)
async def test_five_crashes_show_nobody_a_secret(
    frail: Stack, client: Meshery, kubeconfig: str, service: str, kind: str
) -> None:
    canary = f"canary{secrets.token_hex(12)}"
    async with admin_bus(frail) as bus:
        letters = await message_count(bus, "DLQ")
        before = await deliveries(bus, service)
        operation = await client.apply(
            kind,
            body=f"{VIRTUAL_SERVICE}\n---\n{secret(canary)}",
            kubeconfigs=[kubeconfig],
            namespace="default",
        )
        assert operation.encode() in stored(frail), "the command is stored"
        assert canary.encode() not in stored(frail), "while it waits"
        await killed_each_time(frail, bus, service, before=before)
        (final,) = await client.finals(operation, within_s=60.0)
        assert final.event.error_code == "MB-2009"
        assert await message_count(bus, "DLQ") == letters + 1

    letter = await asyncio.to_thread(
        frail.nats_cli, "stream", "get", "DLQ", "--last-for", f"dlq.{service}"
    )
    assert operation in letter, "the operator sees which it was"
    assert "Meshbus-Reason" in letter
    places = {
        "the letter": letter,
        "NATS' store": stored(frail).decode("latin-1"),
        "logs": frail.log_text(),
        "events": "".join(str(received.event) for received in client.events),
    }
    assert {place for place, text in places.items() if canary in text} == set()
    if service != "lifecycle":
        assert "MB-2017" in await _retried(frail, 1), "lifecycle cannot open it"


async def _retried(stack: Stack, place: int) -> str:
    question = json.dumps({"letter": place})
    try:
        return await asyncio.to_thread(stack.nats_cli, "req", "mesh.lifecycle.retry", question)
    except BedError as refused:
        return str(refused)


async def test_a_letter_is_put_back_and_carried_out(
    frail: Stack, client: Meshery, cluster: Cluster, proxy: FaultProxy, kubeconfig: str
) -> None:
    cluster.kubectl("create", "namespace", "given-up")
    async with admin_bus(frail) as bus:
        before = await deliveries(bus, "lifecycle")
        operation = await client.apply(
            "label-namespace", kubeconfigs=[kubeconfig], namespace="given-up"
        )
        await killed_each_time(frail, bus, "lifecycle", before=before)
        (final,) = await client.finals(operation, within_s=60.0)
        assert final.event.error_code == "MB-2009"
        proxy.heal()

        assert '"retried":true' in (await _retried(frail, 1)).replace(" ", "")
        ends = await client.finals(operation, count=2, within_s=60.0)
        assert not ends[1].failed, ends[1].event
        labels = cluster.kubectl(
            "get", "namespace", "given-up", "-o", "jsonpath={.metadata.labels}"
        )
        assert "istio-injection" in labels

        again = await _retried(frail, 1)
        assert "MB-2017" in again, "what was put back once is not carried out twice"
        assert "MB-2017" in await _retried(frail, 99)
        assert await message_count(bus, "CMD") == 0
    cluster.kubectl("delete", "namespace", "given-up", "--wait=false")
