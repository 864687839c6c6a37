"""List and watch: what is known equals what the server has, whatever happens in between."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import aclosing

import orjson
import pytest

from services.chassis.errors import ClusterFailed, ClusterForbidden, KindUnknown, WatchExpired
from services.chassis.kube import watching
from services.chassis.kube.applying import Applier
from services.chassis.kube.client import KubeClient
from services.chassis.kube.kubeconfigs import parse_kubeconfig
from services.chassis.kube.watching import Change, ChangeType, listed, watched
from tests.real.chassis.kube.caches import OURS, config_maps, drop, put, versions, watching_into
from tests.real.chassis.kube.objects import body, config_map, ref
from tests.testbed.clusters import Cluster
from tests.testbed.proxies import FaultProxy
from tests.testbed.waiting import eventually

_BINDINGS = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings"


async def test_state_and_then_each_change(
    client: KubeClient, applier: Applier, namespace: str
) -> None:
    await put(applier, namespace, "first", a="1")
    async with watching_into(client, config_maps(namespace), labelSelector=OURS) as cache:
        await cache.has("first")
        await put(applier, namespace, "second", a="1")
        await cache.has("second")
        await put(applier, namespace, "second", a="2")
        await drop(applier, namespace, "first")
        await cache.has_not("first")

    kinds = [ChangeType.LISTED, ChangeType.ADDED, ChangeType.MODIFIED, ChangeType.DELETED]
    assert cache.types() == kinds
    [item] = cache.changes[0].items
    # Items of a list do not say what they are; whoever reads them must know.
    assert (item["kind"], item["apiVersion"]) == ("ConfigMap", "v1")
    assert cache.changes[2].obj["data"] == {"a": "2"}


async def test_empty_collection_is_listed_as_such(client: KubeClient, namespace: str) -> None:
    async with watching_into(client, config_maps(namespace), labelSelector=OURS) as cache:
        first = cache.changes[0]
        assert first == Change(ChangeType.LISTED, {}, (), version=first.version)
        assert first.version


async def test_long_collections_come_page_by_page(
    client: KubeClient, applier: Applier, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = {f"paged-{number:02}" for number in range(25)}
    await asyncio.gather(*(put(applier, namespace, name) for name in names))
    monkeypatch.setattr(watching, "_PAGE", 10)

    listing = await listed(client, config_maps(namespace), query={"labelSelector": OURS})

    assert [item["metadata"]["name"] for item in listing.items] == sorted(names)
    assert {item["kind"] for item in listing.items} == {"ConfigMap"}

    # Of a version, which the server takes with the first page only.
    query = {"labelSelector": OURS, "resourceVersion": listing.version}
    assert (await listed(client, config_maps(namespace), query=query)).items == listing.items


async def test_only_one_object_is_watched_by_its_name(
    client: KubeClient, applier: Applier, namespace: str
) -> None:
    async with watching_into(
        client, config_maps(namespace), fieldSelector="metadata.name=wanted"
    ) as cache:
        await put(applier, namespace, "other")
        await put(applier, namespace, "wanted")
        await cache.has("wanted")

    assert set(cache.known) == {"wanted"}


async def test_watch_goes_on_over_a_cut(
    proxied: KubeClient, proxy: FaultProxy, applier: Applier, namespace: str
) -> None:
    async with watching_into(proxied, config_maps(namespace), labelSelector=OURS) as cache:
        await put(applier, namespace, "before")
        await cache.has("before")

        proxy.refuse()
        proxy.cut()
        await put(applier, namespace, "during")
        await drop(applier, namespace, "before")
        proxy.heal()

        await cache.has("during")
        await cache.has_not("before")
        # Taken up where it broke off, not listed again.
        assert cache.listings() == 1
        assert cache.types().count(ChangeType.ADDED) == 2


def test_expired_place_within_a_watch_is_seen() -> None:
    status = {"kind": "Status", "code": 410, "message": "too old resource version: 1 (9)"}
    line = orjson.dumps({"type": "ERROR", "object": status})

    with pytest.raises(WatchExpired, match="too old resource version"):
        watching._decoded(line, "/api/v1/configmaps")


def test_line_that_was_cut_off_is_no_change() -> None:
    with pytest.raises(ClusterFailed, match="not JSON"):
        watching._decoded(b'{"type":"ADDED","object":{"metadata":{"na', "/api/v1/configmaps")


async def test_bookmark_moves_the_place_and_is_no_change(
    client: KubeClient, applier: Applier, namespace: str
) -> None:
    await put(applier, namespace, "first")
    await applier.apply(ref(later := config_map("unlabelled", namespace)), body(later))
    # The server sends one a minute; asked like this, it sends one after what is there already.
    query = {
        "labelSelector": OURS,
        "sendInitialEvents": "true",
        "resourceVersionMatch": "NotOlderThan",
    }
    path = config_maps(namespace)

    async with aclosing(watching._connection(client, path, query, "0")) as connection:
        (change, first), (bookmark, place) = [await anext(connection) for _ in range(2)]

    assert change is not None
    assert change.obj["metadata"]["name"] == "first"
    assert bookmark is None
    assert int(place) > int(first)


async def test_server_that_ends_watches_at_once_is_not_pestered(
    client: KubeClient, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    connection = watching._connection

    def counted(*arguments: object) -> object:
        asked.append("watch")
        return connection(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(watching, "_connection", counted)
    # The server ends such a watch when it has just begun.
    monkeypatch.setattr(watching, "_SERVER_TIMEOUT_S", 1.5)
    async with watching_into(client, config_maps(namespace), labelSelector=OURS):
        loop = asyncio.get_running_loop()
        started = loop.time()
        await eventually(lambda: len(asked) >= 3, what="the third watch")

    assert loop.time() - started > 1.0


async def test_what_can_not_be_watched_is_told(
    cluster: Cluster, client: KubeClient, namespace: str
) -> None:
    with pytest.raises(KindUnknown):
        await anext(watched(client, "/apis/nowhere.example/v1/things"))

    config = parse_kubeconfig(cluster.token_kubeconfig_text(account="reader", role="view"))
    async with KubeClient(config) as reader:
        with pytest.raises(ClusterForbidden):
            await anext(watched(reader, f"/api/v1/namespaces/{namespace}/secrets"))


async def test_right_that_is_taken_away_ends_the_watch(
    cluster: Cluster, proxy: FaultProxy, namespace: str, name: str
) -> None:
    text = cluster.token_kubeconfig_text(
        account=name, role="view", server_url=f"https://{proxy.address}"
    )
    async with (
        KubeClient(parse_kubeconfig(text)) as client,
        aclosing(watched(client, config_maps(namespace))) as changes,
    ):
        assert (await anext(changes)).type is ChangeType.LISTED
        following = asyncio.create_task(_exhausted(changes))
        cluster.api.request("DELETE", f"{_BINDINGS}/kube-system-{name}-view")
        await eventually(lambda: _is_refused(client, namespace), what="the right to be gone")

        proxy.cut()

        with pytest.raises(ClusterForbidden):
            await asyncio.wait_for(following, 20.0)


async def _exhausted(changes: AsyncIterator[Change]) -> None:
    async for _ in changes:
        pass


async def _is_refused(client: KubeClient, namespace: str) -> bool:
    try:
        await client.get(config_maps(namespace))
    except ClusterForbidden:
        return True
    return False


async def test_reader_that_leaves_takes_its_connection_along(
    proxied: KubeClient, proxy: FaultProxy, applier: Applier, namespace: str
) -> None:
    changes = watched(proxied, config_maps(namespace))
    assert (await anext(changes)).type is ChangeType.LISTED
    following = asyncio.create_task(anext(changes))
    await put(applier, namespace, "seen")
    await following
    before = proxy.open_connections

    await changes.aclose()

    # The watch's own connection cannot be used again; what is idle in the pool may stay.
    await eventually(lambda: proxy.open_connections < before, what="the watch to be closed")


async def test_cache_equals_server_after_random_changes_and_cuts(
    proxied: KubeClient, proxy: FaultProxy, applier: Applier, namespace: str
) -> None:
    chance = random.Random(20)
    names = [f"random-{number}" for number in range(12)]

    async def change(count: int) -> None:
        for step in range(count):
            name = chance.choice(names)
            if chance.random() < 0.4:
                await drop(applier, namespace, name)
            else:
                await put(applier, namespace, name, step=str(step))

    async with watching_into(proxied, config_maps(namespace), labelSelector=OURS) as cache:
        for _ in range(12):
            changing = asyncio.create_task(change(25))
            seen = len(cache.changes)
            await eventually(
                lambda seen=seen: len(cache.changes) > seen + 3, what="changes to come through"
            )
            proxy.cut()
            await changing

        async def is_equal() -> bool:
            query = {"labelSelector": OURS}
            listing = await listed(applier.client, config_maps(namespace), query=query)
            return cache.known == versions(listing.items)

        await eventually(is_equal, what="the cache to equal the server", within_s=60.0)
        assert proxy.accepted_connections >= 12
