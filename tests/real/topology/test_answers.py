"""The topology over HTTP, as programs ask it: answers, refusals, and the stream of events."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import orjson
import pytest
from yarl import URL

from services.chassis.messages.events import Phase
from tests.real.topology.samples import (
    CLUSTER,
    VIRTUAL_SERVICE,
    Shop,
    event,
    large,
    node,
    parts,
)
from tests.real.topology.serving import Server


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)) as session:
        yield session


async def ask(
    client: aiohttp.ClientSession, server: Server, path: str, **options: Any
) -> tuple[int, Any]:
    async with client.get(server.url + path, **options) as response:
        body = await response.read()
        is_json = response.content_type == "application/json"
        return response.status, orjson.loads(body) if is_json else body.decode()


class Events:
    """The events of one stream."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._content = response.content

    async def _line(self) -> bytes:
        return await self._content.readline(max_line_length=1 << 24)

    async def next(self, wanted: str = "") -> tuple[str, str, Any]:
        """The next event (event, id, data); of one kind when it is named."""
        while True:
            fields: dict[str, str] = {}
            while (line := (await self._line()).decode()) not in ("\n", ""):
                name, _, value = line.rstrip("\n").partition(": ")
                fields[name] = value
            if not fields:
                raise AssertionError("the stream ended")
            if "data" in fields and wanted in ("", fields["event"]):
                return fields["event"], fields.get("id", ""), orjson.loads(fields["data"])


async def test_the_graph_in_the_vendors_shape(client: aiohttp.ClientSession, shop: Server) -> None:
    status, graph = await ask(client, shop, "/api/graph?graphType=versionedApp&cluster=c1")
    assert status == 200
    assert sorted(graph) == ["duration", "elements", "graphType", "timestamp"]
    assert graph["graphType"] == "versionedApp"
    assert abs(graph["timestamp"] - time.time()) < 60
    assert [one["data"] for one in graph["elements"]["nodes"]] == list(Shop.nodes)
    assert [one["data"] for one in graph["elements"]["edges"]] == list(Shop.edges)
    # The only cluster need not be named; the view is Kiali's default.
    assert (await ask(client, shop, "/api/graph"))[1]["elements"] == graph["elements"]
    assert (await ask(client, shop, "/api/graph?graphType=service"))[1]["elements"] == {
        "nodes": [],
        "edges": [],
    }


async def test_the_graph_of_some_namespaces(client: aiohttp.ClientSession, shop: Server) -> None:
    _, graph = await ask(client, shop, "/api/graph?namespaces=money")
    found = {one["data"]["id"]: one["data"] for one in graph["elements"]["nodes"]}
    assert set(found) == {Shop.pay["id"], Shop.bank["id"], Shop.cart["id"]}
    assert {ident for ident, one in found.items() if one.get("isOutside")} == {Shop.cart["id"]}
    edges = {one["data"]["id"] for one in graph["elements"]["edges"]}
    assert edges == {Shop.into_pay["id"], Shop.into_bank["id"]}


async def test_other_answers(client: aiohttp.ClientSession, shop: Server) -> None:
    _, told = await ask(client, shop, "/api/clusters")
    assert [(one["cluster"], one["name"]) for one in told["clusters"]] == [(CLUSTER, "kind-shop")]
    _, told = await ask(client, shop, "/api/findings?cluster=c1")
    assert [one["code"] for one in told["items"]] == ["IST0101"]
    assert (told["epoch"], told["number"]) == (7, 0)
    _, told = await ask(client, shop, "/api/drift?cluster=c1")
    assert [one["kind"] for one in told["items"]] == ["changed"]
    query = {"cluster": CLUSTER, "kind": VIRTUAL_SERVICE, "namespace": "shop", "name": "cart"}
    _, told = await ask(client, shop, "/api/object", params=query)
    assert told["object"]["spec"] == {"hosts": ["cart"]}
    assert told["yaml"].startswith("apiVersion: networking.istio.io/v1\nkind: VirtualService\n")
    _, told = await ask(client, shop, "/api/moments?cluster=c1")
    [moment] = told["moments"]
    shop.change(parts([node("later")]))
    _, told = await ask(client, shop, "/api/history", params={"cluster": CLUSTER, "at": moment})
    assert (len(told["nodes"]), told["at"], sorted(told["findings"])) == (
        len(Shop.nodes),
        moment,
        ["IST0101/cart"],
    )
    status, told = await ask(client, shop, "/compliance.json")
    assert (status, told["missing"]) == (200, [])
    assert [(one["cluster"], one["name"]) for one in told["clusters"]] == [(CLUSTER, "kind-shop")]
    status, told = await ask(client, shop, "/compliance.csv?cluster=c1")
    assert (status, told.splitlines()[0].split(",")[0]) == (200, "cluster")
    status, told = await ask(client, shop, "/compliance.html")
    assert status == 200
    assert "<title>" in told
    assert "kind-shop" in told
    assert 'href="/static/report.css"' in told


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/nothing", 404, "MB-1001"),
        ("/api/graph?cluster=other", 404, "MB-7002"),
        ("/api/events?cluster=other", 404, "MB-7002"),
        ("/api/graph?graphType=round", 400, "MB-1001"),
        ("/api/object?kind=x/Y&name=z", 404, "MB-3004"),
        ("/api/history?at=yesterday", 400, "MB-1001"),
        ("/api/history?at=2020-01-01T00:00:00Z", 404, "MB-7003"),
        ("/static/nothing.js", 404, "MB-1001"),
        ("/static/index.html", 404, "MB-1001"),
        ("/static/..%2f..%2fsettings.py", 404, "MB-1001"),
        ("/static/%2e%2e/%2e%2e/settings.py", 404, "MB-1001"),
        ("/static//etc/hostname.txt", 404, "MB-1001"),
    ],
)
async def test_refusals_say_what_to_do(
    client: aiohttp.ClientSession, shop: Server, path: str, status: int, code: str
) -> None:
    async with client.get(URL(shop.url + path, encoded=True)) as response:
        found, told = response.status, orjson.loads(await response.read())
    assert (found, told["code"]) == (status, code)
    assert told["summary"]
    assert told["cause"]
    assert told["remedy"]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Host": "localhost:1"}, 200),
        ({"Host": "[::1]:9114"}, 200),
        ({"Host": "10.1.2.3"}, 200),
        ({"Host": "attacker.example"}, 403),
        ({"Host": "localhost.attacker.example"}, 403),
        ({"Host": "[::1"}, 403),
        ({"Origin": "https://attacker.example"}, 403),
        ({"Origin": "null"}, 403),
    ],
)
async def test_other_sites_are_refused(
    client: aiohttp.ClientSession, shop: Server, headers: dict[str, str], status: int
) -> None:
    assert (await ask(client, shop, "/api/graph", headers=headers))[0] == status


async def test_answers_carry_the_security_policy(
    client: aiohttp.ClientSession, shop: Server
) -> None:
    for path in ("/", "/static/main.js", "/api/graph", "/nothing", "/compliance", "/api/events"):
        async with client.get(shop.url + path) as response:
            policy = response.headers["Content-Security-Policy"]
            assert "default-src 'self'" in policy
            assert "frame-ancestors 'none'" in policy
            assert "unsafe" not in policy
            assert response.headers["X-Content-Type-Options"] == "nosniff"
            assert "Access-Control-Allow-Origin" not in response.headers


async def test_events_resume_where_a_client_was(
    client: aiohttp.ClientSession, shop: Server
) -> None:
    url = f"{shop.url}/api/events?cluster={CLUSTER}"
    async with client.get(url) as response:
        assert response.content_type == "text/event-stream"
        events = Events(response)
        assert (await events.next())[0] == "clusters"
        event, ident, told = await events.next()
        assert (event, ident, len(told["nodes"])) == ("snapshot", "7.0", len(Shop.nodes))
        shop.change(parts([node("one")]))
        assert (await events.next())[1] == "7.1"
    for name in ("two", "three"):
        shop.change(parts([node(name)]))
    async with client.get(url, headers={"Last-Event-ID": "7.1"}) as response:
        events = Events(response)
        missed = [await events.next("delta"), await events.next("delta")]
        assert [ident for _, ident, _ in missed] == ["7.2", "7.3"]
        [added] = missed[1][2]["nodes"].values()
        assert added["app"] == "three"
    async with client.get(url + "&after=6.9") as response:
        assert (await Events(response).next("snapshot"))[1] == "7.3"


async def test_an_idle_stream_is_kept_and_knows_its_place(client: aiohttp.ClientSession) -> None:
    server = Server(ping_every_s=0.05)
    await server.start()
    try:
        server.begin(Shop.parts())
        async with client.get(f"{server.url}/api/events?cluster={CLUSTER}") as response:
            events = Events(response)
            await events.next("snapshot")
            server.change({"app.nodes": {"elsewhere": {"id": "elsewhere"}}})
            while (await events.next("ping"))[1] != "7.1":
                pass
    finally:
        await server.stop()


async def test_only_so_many_streams_and_closed_ones_do_not_count(
    client: aiohttp.ClientSession,
) -> None:
    server = Server(most_streams=2)
    await server.start()
    try:
        server.begin(Shop.parts())
        url = f"{server.url}/api/events?cluster={CLUSTER}"
        first, second = await client.get(url), await client.get(url)
        status, told = await ask(client, server, "/api/events")
        assert (status, told["code"]) == (503, "MB-7004")
        first.close()
        async with client.get(url) as third:
            await Events(third).next("snapshot")
        second.close()
    finally:
        await server.stop()


async def test_a_client_that_does_not_read_costs_no_more_than_its_bound(
    client: aiohttp.ClientSession, server: Server
) -> None:
    server.begin(large(1_000, 2_000))
    async with client.get(f"{server.url}/api/events?cluster={CLUSTER}") as response:
        assert server.pages is not None
        for number in range(400):
            server.change(parts([node("busy", labels={"n": str(number), "x": "y" * 20_000})]))
            await asyncio.sleep(0)
        [follower] = server.pages.following._followers
        assert follower.waiting_bytes <= 1 << 20
        # All that it reads in the end leads to the present.
        events, seen = Events(response), [("", "")]
        while seen[-1][1] != "7.400":
            event, ident, _ = await events.next()
            seen.append((event, ident))
        assert ("snapshot", "7.400") in seen
        assert len(seen) < 400


@pytest.mark.alone
async def test_a_change_is_at_the_client_at_once(
    client: aiohttp.ClientSession, server: Server
) -> None:
    server.begin(large(1_000, 2_000))
    async with client.get(f"{server.url}/api/events?cluster={CLUSTER}") as response:
        events = Events(response)
        await events.next("snapshot")
        took_ms = []
        for number in range(100):
            begin = time.perf_counter()
            server.change(parts([node("busy", labels={"n": str(number)})]))
            await events.next("delta")
            took_ms.append(1_000 * (time.perf_counter() - begin))
    took_ms.sort()
    print(f"\ntell → client: p50 {took_ms[50]:.2f} ms, p99 {took_ms[98]:.2f} ms")
    assert took_ms[50] < 20


async def test_all_topics_come_in_one_stream_and_resume(
    client: aiohttp.ClientSession, shop: Server
) -> None:
    url = f"{shop.url}/api/events?cluster={CLUSTER}&topics=fleet,operations"
    async with client.get(url) as response:
        events = Events(response)
        assert (await events.next("begin"))[1] == "~0"
        _, _, fleet = await events.next("fleet")
        assert [one["name"] for one in fleet["clusters"]] == ["kind-shop"]
        await events.next("snapshot")
        shop.tell(event("op-1", Phase.STARTED))
        _, ident, told = await events.next("operation")
        assert (ident, told["operation"]) == ("~1", "op-1")
        shop.change(parts([node("one")]))
        assert (await events.next("delta"))[1] == "7.1"
        [changed] = (await events.next("fleet"))[2]["clusters"]
        assert changed["workloads"] == len(Shop.nodes)
    shop.tell(event("op-1", Phase.DONE))
    shop.change(parts([node("two")]))
    async with client.get(url, headers={"Last-Event-ID": "7.1~1"}) as response:
        events = Events(response)
        assert (await events.next("delta"))[1] == "7.2"
        assert (await events.next("operation"))[1] == "~2"
        # The last id of a write is of all topics, for a browser that says it by itself.
        assert await whole_id(response) == "7.2~2"
    async with client.get(f"{shop.url}/api/events?topics=operations&after=~999") as response:
        assert (await Events(response).next("missed"))[2] == {"topic": "operations"}


async def whole_id(response: aiohttp.ClientResponse) -> str:
    while line := (await response.content.readline()).decode():
        if line.startswith("id: ") and "~" in line and not line.startswith("id: ~"):
            return line.removeprefix("id: ").strip()
    raise AssertionError("the stream ended")


async def test_what_is_asked_for_a_browser_is_a_list(
    client: aiohttp.ClientSession, shop: Server
) -> None:
    shop.asked.operations = [{"request": {"operation": "a"}, "parts": {}}]
    path = "/api/ask?name=gateway.operations&question="
    status, told = await ask(client, shop, path + '{"limit": 5}')
    assert (status, told["more"], len(told["operations"])) == (200, False, 1)
    status, told = await ask(client, shop, path + '{"operation": "none"}')
    assert (status, told["code"]) == (404, "MB-3004")
    for refused in (
        "/api/ask?name=gateway.apply&question={}",
        "/api/ask?name=lifecycle.cancel",
        "/api/ask",
        path + "[1]",
        path + "{",
        path + '{"a":"' + 5000 * "x" + '"}',
        "/api/events?topics=everything",
    ):
        status, told = await ask(client, shop, refused)
        assert (status, told["code"]) == (400, "MB-1001"), refused


async def test_many_who_ask_the_same_are_asked_for_once(
    client: aiohttp.ClientSession, shop: Server
) -> None:
    path = "/api/ask?name=gateway.operations&question=%7B%22limit%22:5%7D"
    answers = await asyncio.gather(*(ask(client, shop, path) for _ in range(20)))
    assert {status for status, _ in answers} == {200}
    assert len(shop.asked.questions) == 1


async def test_every_view_has_an_address(client: aiohttp.ClientSession, shop: Server) -> None:
    for path in ("/", "/graph", "/operations", "/operations/some%20id"):
        status, page = await ask(client, shop, path)
        assert (status, "/static/main.js" in page) == (200, True), path
    for path in ("/other", "/operations/a/b"):
        assert (await ask(client, shop, path))[0] == 404
    async with client.get(shop.url + "/static/main.js") as response:
        assert response.headers["Content-Encoding"] in ("br", "gzip")
        assert response.content_type == "text/javascript"
