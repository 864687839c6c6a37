"""Clusters are registered when they have accepted a credential, and what was made up harms nobody.

The attacker reaches the gateway's port and knows what is public: the clusters' addresses and their
authorities.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from services.chassis.bus import subjects
from services.chassis.bus.connection import Bus, connect
from services.chassis.bus.queries import ask
from services.chassis.bus.records import Bucket, Records
from services.chassis.kube.kubeconfigs import parse_kubeconfig
from services.chassis.messages import ClusterRecord
from tests.testbed import loopback
from tests.testbed.bodies import config_map
from tests.testbed.clusters import Cluster
from tests.testbed.meshery import Meshery
from tests.testbed.proxies import FaultProxy
from tests.testbed.seeing import WITHIN, seeing
from tests.testbed.stack import Stack
from tests.testbed.strangers import Stranger, answer
from tests.testbed.waiting import eventually

pytestmark = pytest.mark.services("lifecycle", "translator", "topology", "gateway")

MADE_UP = 100
PATIENCE_S = 25.0
"""Of somebody whose operation comes behind 100 clusters that do not answer; it was 420 s."""


@pytest.fixture
def silent() -> Iterator[str]:
    """An address where connections are made, by the kernel, and nobody answers."""
    with socket.create_server((loopback.HOST, 0), backlog=1024) as listener:
        yield f"{loopback.HOST}:{listener.getsockname()[1]}"


@asynccontextmanager
async def admin(stack: Stack) -> AsyncIterator[Bus]:
    bus = await connect(stack.settings("admin"), service="admin")
    try:
        yield bus
    finally:
        await bus.close()


def with_token(kubeconfig: str, token: str) -> str:
    """The kubeconfig of the same cluster with another credential."""
    document = yaml.safe_load(kubeconfig)
    document["users"][0]["user"] = {"token": token}
    return yaml.safe_dump(document)


def with_labels(kubeconfig: str, labels: Any) -> str:
    document = yaml.safe_load(kubeconfig)
    entry = {"name": "meshbus.io/labels", "extension": labels}
    document["contexts"][0]["context"]["extensions"] = [entry]
    return yaml.safe_dump(document)


async def registered(bus: Bus, cluster: str) -> ClusterRecord | None:
    stored = await Records(Bucket(bus, "clusters"), ClusterRecord).get(cluster)
    return stored[0] if stored else None


async def kept(bus: Bus, cluster: str) -> int:
    """The revision of a registered credential."""
    entry = await Bucket(bus, "credentials").get(subjects.registered_credential(cluster))
    assert entry is not None
    return entry.revision


async def apply(meshery: Meshery, name: str, *kubeconfigs: str) -> None:
    """A ConfigMap that comes and goes again."""
    for is_deletion in (False, True):
        final = await meshery.run(
            "custom", body=config_map(name), delete=is_deletion, kubeconfigs=kubeconfigs or None
        )
        assert not final.failed, final.event


async def test_a_made_up_credential_replaces_no_working_one(frail: Stack, cluster: Cluster) -> None:
    text = cluster.kubeconfig_text
    token = parse_kubeconfig(text).cluster
    async with (
        Meshery(frail.gateway_address, [text]).connected() as meshery,
        admin(frail) as bus,
        seeing(frail) as seen,
    ):
        await apply(meshery, "registers")
        await seen.watched(token)
        revision = await kept(bus, token)
        async with seen.following(token) as follower:
            forged = with_token(text, "made-up-by-a-stranger")
            for kind, body in (("custom", config_map("forged")), ("istio", "")):
                final = await meshery.run(kind, body=body, kubeconfigs=[forged])
                assert final.failed
                assert final.event.error_code == "MB-3002"
            assert await kept(bus, token) == revision
            # Topology has seen whatever was registered since: this comes after it on the bus.
            await bus.client.publish("$KV.clusters.other", b"{}")
            await apply(meshery, "registers")
            states = [d["info"]["cluster"]["state"] for _, d in follower.events if "info" in d]
            assert "unreachable" not in states
        assert await seen.is_watched(token)


async def test_a_renewed_credential_replaces_the_former_one(frail: Stack, cluster: Cluster) -> None:
    text = cluster.kubeconfig_text
    renewed = with_labels(cluster.token_kubeconfig_text(), {"region": "eu"})
    token = parse_kubeconfig(text).cluster
    async with (
        Meshery(frail.gateway_address, [text]).connected() as meshery,
        admin(frail) as bus,
        seeing(frail) as seen,
    ):
        await apply(meshery, "registers")
        await seen.watched(token)
        revision, record = await kept(bus, token), await registered(bus, token)
        await apply(meshery, "registers", renewed)

        async def replaced() -> bool:
            return await registered(bus, token) != record

        async def chosen() -> bool:
            question = {"labels": {"region": "eu"}}
            found = await ask(bus, question, service="topology", verb="findings", within=WITHIN)
            told = [*found["clusters"], *found["missing"]]
            return [one["cluster"] for one in told] == [token]

        await eventually(replaced, what="the renewed credential to be registered")
        await eventually(chosen, what="the cluster to be chosen by its label")
        assert await kept(bus, token) > revision
        await seen.watched(token)
        # Whoever is forgotten registers again with the next operation.
        answer = await ask(
            bus, {"cluster": token}, service="gateway", verb="deregister", within=WITHIN
        )
        assert answer["deregistered"]
        assert await registered(bus, token) is None
        await apply(meshery, "registers")
        await eventually(lambda: registered(bus, token), what="the cluster to be registered again")


async def test_clusters_that_do_not_answer_keep_nobody_waiting_and_are_no_clusters(
    frail: Stack, cluster: Cluster, silent: str
) -> None:
    made_up = [
        cluster.kubeconfig_through(f"https://{silent}/{number}") for number in range(MADE_UP)
    ]
    token = parse_kubeconfig(cluster.kubeconfig_text).cluster
    async with (
        Meshery(frail.gateway_address, [cluster.kubeconfig_text]).connected() as meshery,
        seeing(frail) as seen,
    ):
        # Of lifecycle's own operations and of those that the translator asks about first.
        flood = [
            await meshery.apply("label-namespace", namespace="default", kubeconfigs=made_up),
            await meshery.apply("custom", body=config_map("flood"), kubeconfigs=made_up),
        ]
        began = time.monotonic()
        await apply(meshery, "in-between")
        assert time.monotonic() - began < PATIENCE_S
        await seen.watched(token)
        for operation in flood:
            finals = await meshery.finals(operation, count=MADE_UP, within_s=240.0)
            assert {final.event.error_code for final in finals} == {"MB-3001"}
        known = await ask(seen.bus, {}, service="gateway", verb="clusters", within=WITHIN)
        assert [record["cluster"] for record in known["clusters"]] == [token]


async def test_a_cluster_that_hangs_leaves_slots_to_the_others(
    frail: Stack, cluster: Cluster, second_cluster: Cluster
) -> None:
    """Its operations wait for it as long as they are retried, which is 45 s for each request."""
    with FaultProxy(urlsplit(second_cluster.server_url).port or 0) as proxy:
        hanging = second_cluster.kubeconfig_through(f"https://{proxy.address}")
        async with Meshery(frail.gateway_address, [cluster.kubeconfig_text]).connected() as meshery:
            await apply(meshery, "answers", hanging)
            proxy.blackhole()
            for number in range(20):
                await meshery.apply(
                    "label-namespace", namespace=f"hangs-{number}", kubeconfigs=[hanging]
                )
            began = time.monotonic()
            final = await meshery.run("label-namespace", namespace="default")
            assert not final.failed, final.event
            await meshery.run("label-namespace", namespace="default", delete=True)
            assert time.monotonic() - began < PATIENCE_S
            proxy.heal()


def poses_as_kubernetes(_request: str) -> Iterator[bytes]:
    """Accepts every credential, and knows every object."""
    namespace = {"kind": "Namespace", "metadata": {"name": "kube-system", "uid": "made-up"}}
    yield answer(json.dumps(namespace).encode(), Content_Type="application/json")


async def test_api_servers_of_a_stranger_s_own_do_not_fill_topology(
    built: None, cluster: Cluster, tmp_path: Path
) -> None:
    """They accept their own credential as often as somebody likes."""
    quota = 3
    settings = {"MESHBUS_LIFECYCLE_CLUSTERS_PER_IDENTITY": str(quota)}
    services = ("lifecycle", "translator", "gateway")
    with (
        Stack(tmp_path, services=services, settings=settings) as stack,
        Stranger(poses_as_kubernetes) as stranger,
    ):
        fakes = [
            stranger.kubeconfig(f"https://{loopback.HOST}:{stranger.port}/{number}")
            for number in range(quota + 2)
        ]
        async with (
            Meshery(stack.gateway_address, [cluster.kubeconfig_text]).connected() as meshery,
            admin(stack) as bus,
        ):

            async def known() -> list[str]:
                listed = await ask(bus, {}, service="gateway", verb="clusters", within=WITHIN)
                return [record["cluster"] for record in listed["clusters"]]

            for number, fake in enumerate(fakes):
                final = await meshery.run(
                    "label-namespace", namespace="default", kubeconfigs=[fake]
                )
                if number < quota:
                    await eventually(
                        lambda count=number + 1: _has(known, count), what="one more cluster"
                    )
                else:
                    told = partial(_is_warned, meshery, final.event.operation_id)
                    await meshery.until(told)
            assert len(await known()) == quota
            # What is not needed any more makes room.
            gone = parse_kubeconfig(fakes[0]).cluster
            await ask(bus, {"cluster": gone}, service="gateway", verb="deregister", within=WITHIN)
            await apply(meshery, "registers")
            token = parse_kubeconfig(cluster.kubeconfig_text).cluster
            await eventually(lambda: registered(bus, token), what="the cluster that is there")


async def _has(known: Callable[[], Awaitable[list[str]]], count: int) -> bool:
    return len(await known()) == count


def _is_warned(meshery: Meshery, operation: str) -> bool:
    told = [received.event.summary for received in meshery.of(operation)]
    return any("clusters registered, as many as one may" in summary for summary in told)
