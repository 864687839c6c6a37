"""List and watch: what is known equals what the server has, whatever happens in between."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, field

import orjson
import pytest

from services.chassis.errors import (
    ClusterFailed,
    ClusterForbidden,
    ClusterUnauthorized,
    KindUnknown,
    WatchExpired,
)
from services.chassis.kube import watching
from services.chassis.kube.applying import Applier
from services.chassis.kube.client import KubeClient
from services.chassis.kube.kubeconfigs import parse_kubeconfig
from services.chassis.kube.objects import KubeObject
from services.chassis.kube.watching import Change, ChangeType, listed, watched
from tests.cluster.objects import body, config_map, ref
from tests.testbed.clusters import Cluster
from tests.testbed.proxies import FaultProxy
from tests.waiting import eventually


@dataclass(slots=True)
class _Cache:
    """What a reader of the changes knows: resource versions by name."""

    known: dict[str, str] = field(default_factory=dict)
    changes: list[Change] = field(default_factory=list)

    def take(self, change: Change) -> None:
        self.changes.append(change)
        if change.type is ChangeType.LISTED:
            self.known = dict(map(_known, change.items))
        elif change.type is ChangeType.DELETED:
            self.known.pop(change.obj["metadata"]["name"], None)
        else:
            self.known.update([_known(change.obj)])

    def types(self) -> list[ChangeType]:
        return [change.type for change in self.changes]

    def listings(self) -> int:
        return self.types().count(ChangeType.LISTED)

    async def has(self, *names: str) -> None:
        await eventually(
            lambda: set(names) <= set(self.known), what=f"{names} to be seen", within_s=30.0
        )

    async def has_not(self, name: str) -> None:
        await eventually(lambda: name not in self.known, what=f"{name} to be gone", within_s=30.0)


def _known(obj: KubeObject) -> tuple[str, str]:
    return obj["metadata"]["name"], obj["metadata"]["resourceVersion"]


@asynccontextmanager
async def _watching(client: KubeClient, path: str, **query: str) -> AsyncIterator[_Cache]:
    cache = _Cache()

    async def watch() -> None:
        async with aclosing(watched(client, path, query=query)) as changes:
            async for change in changes:
                cache.take(change)

    task = asyncio.create_task(watch())
    try:
        await eventually(lambda: cache.changes or task.done(), what="the listing", within_s=30.0)
        yield cache
        assert not task.done(), task.exception()
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def _path(namespace: str) -> str:
    return f"/api/v1/namespaces/{namespace}/configmaps"


# The cluster puts one of its own into each namespace, some time after it was made.
_OURS = "owner=tests"


def _labelled(name: str, namespace: str, **data: str) -> KubeObject:
    obj = config_map(name, namespace, **data)
    obj["metadata"]["labels"] = {"owner": "tests"}
    return obj


async def _put(applier: Applier, namespace: str, name: str, **data: str) -> None:
    obj = _labelled(name, namespace, **data)
    await applier.apply(ref(obj), body(obj))


async def _drop(applier: Applier, namespace: str, name: str) -> None:
    await applier.delete(ref(config_map(name, namespace)))


async def test_state_and_then_each_change(
    client: KubeClient, applier: Applier, namespace: str
) -> None:
    await _put(applier, namespace, "first", a="1")
    async with _watching(client, _path(namespace), labelSelector=_OURS) as cache:
        await cache.has("first")
        await _put(applier, namespace, "second", a="1")
        await cache.has("second")
        await _put(applier, namespace, "second", a="2")
        await _drop(applier, namespace, "first")
        await cache.has_not("first")

    kinds = [ChangeType.LISTED, ChangeType.ADDED, ChangeType.MODIFIED, ChangeType.DELETED]
    assert cache.types() == kinds
    [item] = cache.changes[0].items
    # Items of a list do not say what they are; whoever reads them must know.
    assert (item["kind"], item["apiVersion"]) == ("ConfigMap", "v1")
    assert cache.changes[2].obj["data"] == {"a": "2"}


async def test_empty_collection_is_listed_as_such(client: KubeClient, namespace: str) -> None:
    async with _watching(client, _path(namespace), labelSelector=_OURS) as cache:
        assert cache.changes[0] == Change(ChangeType.LISTED, {}, ())


async def test_long_collections_come_page_by_page(
    client: KubeClient, applier: Applier, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = {f"paged-{number:02}" for number in range(25)}
    await asyncio.gather(*(_put(applier, namespace, name) for name in names))
    monkeypatch.setattr(watching, "_PAGE", 10)

    listing = await listed(client, _path(namespace), query={"labelSelector": _OURS})

    assert [item["metadata"]["name"] for item in listing.items] == sorted(names)
    assert {item["kind"] for item in listing.items} == {"ConfigMap"}


async def test_only_one_object_is_watched_by_its_name(
    client: KubeClient, applier: Applier, namespace: str
) -> None:
    async with _watching(client, _path(namespace), fieldSelector="metadata.name=wanted") as cache:
        await _put(applier, namespace, "other")
        await _put(applier, namespace, "wanted")
        await cache.has("wanted")

    assert set(cache.known) == {"wanted"}


async def test_watch_goes_on_over_a_cut(
    proxied: KubeClient, proxy: FaultProxy, applier: Applier, namespace: str
) -> None:
    async with _watching(proxied, _path(namespace), labelSelector=_OURS) as cache:
        await _put(applier, namespace, "before")
        await cache.has("before")

        proxy.refuse()
        proxy.cut()
        await _put(applier, namespace, "during")
        await _drop(applier, namespace, "before")
        proxy.heal()

        await cache.has("during")
        await cache.has_not("before")
        # Taken up where it broke off, not listed again.
        assert cache.listings() == 1
        assert cache.types().count(ChangeType.ADDED) == 2


async def test_watch_goes_on_over_a_kill_of_the_server(
    cluster: Cluster, client: KubeClient, applier: Applier, namespace: str
) -> None:
    async with _watching(client, _path(namespace), labelSelector=_OURS) as cache:
        await _put(applier, namespace, "before")
        await cache.has("before")

        cluster.kill_apiserver()
        await asyncio.to_thread(cluster.start_apiserver)
        await _put(applier, namespace, "after")
        await _drop(applier, namespace, "before")

        await cache.has("after")
        await cache.has_not("before")


async def test_watch_of_an_account_goes_on_over_a_restart(
    cluster: Cluster, applier: Applier, namespace: str
) -> None:
    config = parse_kubeconfig(cluster.token_kubeconfig_text(account="reader", role="view"))
    async with KubeClient(config) as client:
        async with _watching(client, _path(namespace), labelSelector=_OURS) as cache:
            await asyncio.to_thread(cluster.restart_apiserver)
            await _put(applier, namespace, "after")

            await cache.has("after")


async def test_place_that_the_server_forgot_is_listed_again(
    cluster: Cluster, proxied: KubeClient, proxy: FaultProxy, applier: Applier, namespace: str
) -> None:
    async with _watching(proxied, _path(namespace), labelSelector=_OURS) as cache:
        await _put(applier, namespace, "before")
        await cache.has("before")
        proxy.refuse()
        proxy.cut()
        await _drop(applier, namespace, "before")
        await _put(applier, namespace, "during")

        # A server that has just started knows no change from before its start.
        await asyncio.to_thread(cluster.restart_apiserver)
        proxy.heal()

        await cache.has("during")
        await cache.has_not("before")
        assert cache.listings() == 2


async def test_old_place_is_refused_as_expired(
    cluster: Cluster, client: KubeClient, applier: Applier, namespace: str
) -> None:
    old = (await listed(client, _path(namespace))).version
    await _put(applier, namespace, "newer")
    await asyncio.to_thread(cluster.restart_apiserver)

    with pytest.raises(WatchExpired):
        async with aclosing(watching._continued(client, _path(namespace), {}, old)) as changes:
            async for _ in changes:
                pass


def test_expired_place_within_a_watch_is_seen() -> None:
    status = {"kind": "Status", "code": 410, "message": "too old resource version: 1 (9)"}
    line = orjson.dumps({"type": "ERROR", "object": status})

    with pytest.raises(WatchExpired, match="too old resource version"):
        watching._read(line, "/api/v1/configmaps")


def test_line_that_was_cut_off_is_no_change() -> None:
    with pytest.raises(ClusterFailed, match="not JSON"):
        watching._read(b'{"type":"ADDED","object":{"metadata":{"na', "/api/v1/configmaps")


async def test_bookmarks_move_the_place_and_are_no_change(
    client: KubeClient, applier: Applier, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The server sends a bookmark once a minute, and two seconds before the end that is asked for.
    monkeypatch.setattr(watching, "_SERVER_TIMEOUT_S", 5)
    monkeypatch.setattr(random, "uniform", lambda _low, high: high)
    start = (await listed(client, _path(namespace), query={"labelSelector": _OURS})).version
    await applier.apply(ref(other := config_map("unlabelled", namespace)), body(other))

    seen = [
        (change, version)
        async for change, version in watching._connection(
            client, _path(namespace), {"labelSelector": _OURS}, start
        )
    ]

    assert seen, "the server sent no bookmark"
    assert {change for change, _ in seen} == {None}
    assert int(seen[-1][1]) > int(start)


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
    async with _watching(client, _path(namespace), labelSelector=_OURS):
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
    cluster: Cluster, applier: Applier, proxy: FaultProxy, namespace: str, name: str
) -> None:
    text = cluster.token_kubeconfig_text(
        account=name, role="view", server_url=f"https://{proxy.address}"
    )
    async with KubeClient(parse_kubeconfig(text)) as client:
        async with aclosing(watched(client, _path(namespace))) as changes:
            assert (await anext(changes)).type is ChangeType.LISTED
            following = asyncio.create_task(_exhausted(changes))
            await eventually(lambda: proxy.open_connections, what="the watch")

            cluster.api.request("DELETE", f"/api/v1/namespaces/kube-system/serviceaccounts/{name}")
            await _refused(cluster, text)
            proxy.cut()

            with pytest.raises((ClusterUnauthorized, ClusterForbidden)):
                await asyncio.wait_for(following, 20.0)


async def _exhausted(changes: AsyncIterator[Change]) -> None:
    async for _ in changes:
        pass


async def _refused(cluster: Cluster, text: str) -> None:
    """Until the server has noticed that the account is gone."""
    async with KubeClient(parse_kubeconfig(text)) as client:

        async def is_refused() -> bool:
            try:
                await client.get("/api")
            except (ClusterUnauthorized, ClusterForbidden):
                return True
            return False

        await eventually(is_refused, what="the account to be refused", within_s=30.0)


async def test_reader_that_leaves_takes_its_connection_along(
    proxied: KubeClient, proxy: FaultProxy, applier: Applier, namespace: str
) -> None:
    changes = watched(proxied, _path(namespace))
    assert (await anext(changes)).type is ChangeType.LISTED
    following = asyncio.create_task(anext(changes))
    await _put(applier, namespace, "seen")
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
                await _drop(applier, namespace, name)
            else:
                await _put(applier, namespace, name, step=str(step))

    async with _watching(proxied, _path(namespace), labelSelector=_OURS) as cache:
        for _ in range(12):
            changing = asyncio.create_task(change(25))
            seen = len(cache.changes)
            await eventually(
                lambda seen=seen: len(cache.changes) > seen + 3, what="changes to come through"
            )
            proxy.cut()
            await changing

        async def is_equal() -> bool:
            listing = await listed(applier.client, _path(namespace), query={"labelSelector": _OURS})
            return cache.known == dict(map(_known, listing.items))

        await eventually(is_equal, what="the cache to equal the server", within_s=20.0)
        assert proxy.accepted_connections > 12
