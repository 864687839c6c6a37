"""What must not notice that the API server dies and comes back.

These tests have a cluster of their own: its controllers ask less and less often for a server that
keeps going away, and the other suites' rollouts would have to wait for them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import timedelta

import pytest

from services.chassis.kube.applying import Applier
from services.chassis.kube.client import KubeClient
from services.chassis.kube.kubeconfigs import parse_kubeconfig
from services.chassis.kube.objects import Ref
from services.chassis.kube.readiness import Readiness
from services.chassis.kube.resources import Resources
from services.chassis.kube.watching import listed
from tests.real.chassis.kube.caches import OURS, config_maps, drop, put, versions, watching_into
from tests.real.chassis.kube.objects import body, config_map, definition, ref
from tests.testbed.clusters import Cluster
from tests.testbed.proxies import FaultProxy
from tests.testbed.waiting import eventually


@pytest.fixture(scope="module")
def cluster(built: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


async def test_requests_outlive_a_kill(cluster: Cluster, applier: Applier, namespace: str) -> None:
    async with KubeClient(parse_kubeconfig(cluster.token_kubeconfig_text())) as account:
        writers = [applier, Applier(account, Resources(account))]
        for writer in writers:
            await put(writer, namespace, "before")

        cluster.kill_apiserver()
        asking = [
            asyncio.create_task(work)
            for number, writer in enumerate(writers * 4)
            for work in (
                writer.client.get(config_maps(namespace)),
                put(writer, namespace, f"during-{number}"),
            )
        ]
        await asyncio.to_thread(cluster.start_apiserver)
        await asyncio.gather(*asking)

    listing = await listed(applier.client, config_maps(namespace))
    assert {f"during-{number}" for number in range(8)} <= set(versions(listing.items))


async def test_watches_and_waits_outlive_a_kill(
    cluster: Cluster, applier: Applier, readiness: Readiness, namespace: str
) -> None:
    wanted = ref(config_map("after", namespace))
    unwanted = ref(config_map("before", namespace))
    await put(applier, namespace, "before")
    async with watching_into(applier.client, config_maps(namespace), labelSelector=OURS) as cache:
        await cache.has("before")
        waiting = asyncio.create_task(readiness.wait([wanted], within=_LONG, on_ready=_ignore))
        leaving = asyncio.create_task(readiness.wait_gone([unwanted], within=_LONG))

        cluster.kill_apiserver()
        await asyncio.to_thread(cluster.start_apiserver)
        await put(applier, namespace, "after")
        await drop(applier, namespace, "before")

        await cache.has("after")
        await cache.has_not("before")
    assert await waiting == set()
    assert await leaving == set()


async def test_account_writes_and_watches_over_an_orderly_restart(
    cluster: Cluster, namespace: str
) -> None:
    # A server that has just started refuses accounts: it has not read their roles yet.
    async with KubeClient(parse_kubeconfig(cluster.token_kubeconfig_text())) as client:
        applier = Applier(client, Resources(client))
        async with watching_into(client, config_maps(namespace), labelSelector=OURS) as cache:
            restarting = asyncio.create_task(asyncio.to_thread(cluster.restart_apiserver))
            written: list[str] = []
            while not restarting.done():
                written.append(f"steady-{len(written)}")
                await put(applier, namespace, written[-1])
            await restarting

            for name in written:
                await cache.has(name)
        listing = await listed(client, config_maps(namespace), query={"labelSelector": OURS})
    assert cache.known == versions(listing.items)


async def test_place_that_the_server_forgot_is_listed_again(
    cluster: Cluster, proxied: KubeClient, proxy: FaultProxy, applier: Applier, namespace: str
) -> None:
    async with watching_into(proxied, config_maps(namespace), labelSelector=OURS) as cache:
        await put(applier, namespace, "before")
        await cache.has("before")
        proxy.refuse()
        proxy.cut()
        await drop(applier, namespace, "before")
        await put(applier, namespace, "during")

        # It knows no change from before its start, and says 410 to whoever asks for one.
        await asyncio.to_thread(cluster.restart_apiserver)
        proxy.heal()

        await cache.has("during")
        await cache.has_not("before")
        assert cache.listings() == 2


async def test_server_that_has_just_started_hides_no_kind(
    cluster: Cluster, client: KubeClient, applier: Applier, name: str
) -> None:
    definitions = [definition(f"g{number}.{name}.example", "Widget") for number in range(20)]
    await asyncio.gather(*(applier.apply(ref(d), body(d)) for d in definitions))
    groups = [d["spec"]["group"] for d in definitions]

    async def missing() -> list[str]:
        fresh = Resources(client)
        return [group for group in groups if not await fresh.kind_of(group, "widgets")]

    async def none_is_missing() -> bool:
        return not await missing()

    await eventually(none_is_missing, what="the kinds to be served")

    # It answers before it has found all kinds, for about a tenth of a second.
    restarting = asyncio.create_task(asyncio.to_thread(cluster.restart_apiserver))
    hidden: list[str] = []
    while not restarting.done():
        hidden += await missing()
    await restarting

    assert hidden == []


_LONG = timedelta(seconds=30)


async def _ignore(_: Ref) -> None:
    pass
