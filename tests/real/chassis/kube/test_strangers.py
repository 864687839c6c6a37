"""What answers at a kubeconfig's address may be anything: each test is such a thing's attack."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Iterator
from contextlib import aclosing

import orjson
import pytest

from services.chassis.addresses import AddressPolicy, networks
from services.chassis.errors import (
    AddressDenied,
    AnswerTooLarge,
    AnswerUnusable,
    ClusterFailed,
    MeshbusError,
    ObjectInvalid,
)
from services.chassis.http.answers import Bounds
from services.chassis.kube.client import APPLY_PATCH, KubeClient
from services.chassis.kube.kubeconfigs import parse_kubeconfig
from services.chassis.kube.watching import Change, listed, watched
from tests.testbed import loopback
from tests.testbed.strangers import Peak, Stranger, answer, endless

_PATH = "/api/v1/namespaces/x/configmaps"
_MIB = 1024 * 1024
_JSON = {"Content_Type": "application/json"}
_MOST_GROWTH_BYTES = 200 * _MIB
_SECRET = "db_password=hunter2"


def client_of(stranger: Stranger, *, bounds: Bounds | None = None) -> KubeClient:
    return KubeClient(parse_kubeconfig(stranger.kubeconfig()), bounds=bounds)


@pytest.mark.parametrize("code", ["307 Temporary", "308 Permanent", "301 Moved", "302 Found"])
async def test_a_redirect_sends_nothing_elsewhere(code: str) -> None:
    def inner(_: str) -> Iterator[bytes]:
        yield answer(_SECRET.encode())

    with Stranger(inner, plain=True) as internal:

        def outer(_: str) -> Iterator[bytes]:
            location = f"http://{loopback.HOST}:{internal.port}/internal/admin"
            yield answer(b"", status=code, Location=location)

        with Stranger(outer) as stranger:
            async with client_of(stranger) as client:
                with pytest.raises(AnswerUnusable, match="sends elsewhere") as refused:
                    await client.request(
                        "PATCH", f"{_PATH}/a", body=b"{}", content_type=APPLY_PATCH
                    )
                with pytest.raises(AnswerUnusable):
                    async with client.stream(_PATH, query={}, read_timeout_s=5.0):
                        pass
    assert internal.asked == []
    assert refused.value.code == "MB-3012"


@pytest.mark.parametrize(
    ("code", "body"),
    [
        ("422 X", f"<html>{_SECRET}</html>".encode()),
        ("400 X", _SECRET.encode()),
        ("409 X", orjson.dumps({"message": _SECRET})),
        ("404 X", orjson.dumps({"kind": "Page", "message": _SECRET})),
        ("404 X", orjson.dumps([_SECRET])),
        ("422 X", b"\xff" + _SECRET.encode()),
    ],
    ids=["html", "text", "JSON", "another kind", "array", "no text"],
)
async def test_a_page_that_is_no_status_is_not_repeated(code: str, body: bytes) -> None:
    with Stranger(lambda _: iter([answer(body, status=code)])) as stranger:
        async with client_of(stranger) as client:
            with pytest.raises(MeshbusError) as refused:
                await client.request("DELETE", f"{_PATH}/a")
    assert "hunter2" not in f"{refused.value} {refused.value!r}"


async def test_the_message_of_a_status_is_told() -> None:
    status = {"kind": "Status", "apiVersion": "v1", "message": "spec.hosts is required"}
    body = answer(orjson.dumps(status), status="422 Unprocessable", **_JSON)
    with Stranger(lambda _: iter([body])) as stranger:
        async with client_of(stranger) as client:
            with pytest.raises(ObjectInvalid, match=r"spec\.hosts is required"):
                await client.get(_PATH)


_NO_API_SERVER = {
    "a page": answer(b"<html>please log in</html>", Content_Type="text/html"),
    "a page that says JSON": answer(b"<html>", **_JSON),
    "an array": answer(b"[]", **_JSON),
    "no gzip": answer(b"\x1f\x8bno gzip", Content_Encoding="gzip", **_JSON),
    "more than gzip": answer(gzip.compress(b"{}") + b"more", Content_Encoding="gzip", **_JSON),
    "half of gzip": answer(gzip.compress(b'{"a": 1}')[:-9], Content_Encoding="gzip", **_JSON),
    "brotli": answer(b"{}", Content_Encoding="br", **_JSON),
    "no list": answer(b'{"metadata": [], "items": 3}', **_JSON),
    "a list of texts": answer(b'{"items": ["text"]}', **_JSON),
}


@pytest.mark.parametrize("what", _NO_API_SERVER)
async def test_what_is_no_api_server_is_told_so(what: str) -> None:
    with Stranger(lambda _: iter([_NO_API_SERVER[what]])) as stranger:
        async with client_of(stranger) as client:
            with pytest.raises(AnswerUnusable) as refused:
                await listed(client, _PATH)
    assert "not a Kubernetes API server" in refused.value.cause


async def test_a_page_for_people_is_no_success_of_a_write() -> None:
    page = answer(b"<html>please log in</html>", Content_Type="text/html; charset=utf-8")
    with Stranger(lambda _: iter([page])) as stranger:
        async with client_of(stranger) as client:
            with pytest.raises(AnswerUnusable, match="text/html"):
                await client.request("DELETE", f"{_PATH}/a")


class TestMemory:
    async def test_a_megabyte_that_unpacks_to_a_gigabyte(self) -> None:
        bomb = gzip.compress(b'{"items": [' + b"[],[]," * (200 * _MIB // 6), 9)
        assert len(bomb) < 1.2 * _MIB
        with Stranger(lambda _: iter([answer(bomb, Content_Encoding="gzip")])) as stranger:
            async with client_of(stranger) as client:
                peak = Peak()
                with pytest.raises(AnswerUnusable, match="packed far better"):
                    await client.get(_PATH)
                assert peak.growth_bytes < _MOST_GROWTH_BYTES

    async def test_a_plain_answer_without_an_end(self) -> None:
        with Stranger(lambda _: endless(b'"', b"x" * _MIB)) as stranger:
            async with client_of(stranger) as client:
                peak = Peak()
                with pytest.raises(AnswerTooLarge) as refused:
                    await client.get(_PATH)
                assert peak.growth_bytes < _MOST_GROWTH_BYTES
        assert refused.value.code == "MB-3013"

    async def test_an_error_without_an_end(self) -> None:
        endings = endless(b'"', b"x" * _MIB, status="500 Internal")
        with Stranger(lambda _: endings) as stranger:
            async with client_of(stranger) as client:
                with pytest.raises(AnswerTooLarge):
                    await client.get(_PATH)
            assert stranger.sent < 32 * _MIB

    async def test_a_length_that_is_too_long_is_not_waited_for(self) -> None:
        def claims(_: str) -> Iterator[bytes]:
            yield b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n"

        with Stranger(claims) as stranger:
            async with client_of(stranger) as client:
                with pytest.raises(AnswerTooLarge):
                    await client.get(_PATH)

    async def test_millions_of_small_values(self) -> None:
        body = b'{"items": [' + b"[]," * (16 * _MIB // 3) + b"0]}"
        with Stranger(lambda _: iter([answer(body, **_JSON)])) as stranger:
            async with client_of(stranger) as client:
                peak = Peak()
                with pytest.raises(AnswerTooLarge, match="values"):
                    await client.get(_PATH)
                assert peak.growth_bytes < _MOST_GROWTH_BYTES

    async def test_a_line_of_a_watch_without_an_end(self) -> None:
        def reply(line: str) -> Iterator[bytes]:
            if "watch=true" in line:
                return endless(b'{"type": "ADDED", "object": "', b"x" * _MIB)
            return iter([answer(b'{"kind": "L", "items": [], "metadata": {}}', **_JSON)])

        told: asyncio.Queue[MeshbusError] = asyncio.Queue()

        def trouble(error: MeshbusError | None) -> None:
            if error is not None:
                told.put_nowait(error)

        with Stranger(reply) as stranger:
            async with (
                client_of(stranger) as client,
                aclosing(watched(client, _PATH, trouble=trouble)) as changes,
            ):
                assert (await anext(changes)).items == ()
                peak = Peak()
                going_on: asyncio.Task[Change] = asyncio.ensure_future(anext(changes))
                error = await asyncio.wait_for(told.get(), 60.0)
                going_on.cancel()
                await asyncio.wait([going_on])
                assert isinstance(error, ClusterFailed)
                assert peak.growth_bytes < _MOST_GROWTH_BYTES


async def test_pages_without_an_end_end() -> None:
    page = {
        "kind": "PodList",
        "metadata": {"continue": "more"},
        "items": [{"metadata": {"name": "x" * 100_000}}] * 20,
    }
    with Stranger(lambda _: iter([answer(orjson.dumps(page), **_JSON)])) as stranger:
        async with client_of(stranger, bounds=Bounds(list_bytes=16 * _MIB)) as client:
            with pytest.raises(AnswerTooLarge, match="the list has more"):
                await listed(client, _PATH)
        assert len(stranger.asked) == 9


async def test_first_objects_of_a_watch_without_an_end_end() -> None:
    def reply(line: str) -> Iterator[bytes]:
        if "watch=true" in line:
            event = {"type": "ADDED", "object": {"metadata": {"uid": "a", "name": "x" * 100_000}}}
            return endless(b"\n", orjson.dumps(event) + b"\n")
        page = {"metadata": {"continue": "more"}, "items": [{"metadata": {"name": "a"}}]}
        return iter([answer(orjson.dumps(page), **_JSON)])

    with Stranger(reply) as stranger:
        bounds = Bounds(list_bytes=16 * _MIB)
        async with (
            client_of(stranger, bounds=bounds) as client,
            aclosing(watched(client, _PATH)) as changes,
        ):
            with pytest.raises(AnswerTooLarge, match="the list has more"):
                await anext(changes)


async def test_many_long_answers_at_a_time_do_not_add_up() -> None:
    """A cluster that is watched is listed over as many connections as it has kinds."""

    def reply(line: str) -> Iterator[bytes]:
        if "limit=1 " in line or "limit=1&" in line:
            return iter([answer(b'{"metadata": {}, "items": [{}]}', **_JSON)])
        return endless(b'"', b"x" * _MIB)

    with Stranger(reply) as stranger:
        async with client_of(stranger) as client:
            await client.get(_PATH, query={"limit": "1"})
            peak = Peak()
            found = await asyncio.gather(
                *(listed(client, f"{_PATH}{number}") for number in range(12))
            )
            assert peak.growth_bytes < 2 * _MOST_GROWTH_BYTES
    assert [len(each.items) for each in found] == [1] * 12


async def test_a_list_that_is_too_long_is_asked_for_in_smaller_pages() -> None:
    asked: list[int] = []

    def reply(line: str) -> Iterator[bytes]:
        limit = int(line.partition("limit=")[2].split("&")[0].split()[0])
        asked.append(limit)
        items = [{"metadata": {"name": "x" * 40_000}} for _ in range(limit)]
        body = {"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items}
        yield answer(orjson.dumps(body), **_JSON)

    with Stranger(reply) as stranger:
        async with client_of(stranger, bounds=Bounds(answer_bytes=5 * _MIB)) as client:
            found = await listed(client, _PATH)
    assert asked == [500, 100]
    assert len(found.items) == 100


async def test_packed_answers_are_read() -> None:
    items = [{"metadata": {"name": f"n{number}"}} for number in range(20_000)]
    body = orjson.dumps({"kind": "PodList", "metadata": {"resourceVersion": "7"}, "items": items})
    packed = answer(gzip.compress(body), Content_Encoding="gzip", **_JSON)
    with Stranger(lambda _: iter([packed])) as stranger:
        async with client_of(stranger) as client:
            found = await listed(client, _PATH)
    assert (len(found.items), found.version) == (20_000, "7")


class TestAddresses:
    @pytest.mark.parametrize(
        "host",
        [
            "169.254.169.254",
            "[fe80::1]",
            "0.0.0.0",
            "[::]",
            "[::ffff:169.254.169.254]",
            "[ff02::1]",
        ],
    )
    async def test_an_address_that_is_no_clusters_is_not_connected_to(self, host: str) -> None:
        with Stranger(lambda _: iter([])) as stranger:
            text = stranger.kubeconfig(f"https://{host}:{stranger.port}")
            async with KubeClient(parse_kubeconfig(text)) as client:
                with pytest.raises(AddressDenied) as refused:
                    await client.get(_PATH)
            assert stranger.asked == []
        assert refused.value.code == "MB-3014"

    @pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
    async def test_a_name_is_judged_by_what_it_resolves_to(self, host: str) -> None:
        with Stranger(lambda _: iter([answer(b"{}")])) as stranger:
            config = parse_kubeconfig(stranger.kubeconfig(f"https://{host}:{stranger.port}"))
            async with KubeClient(config) as client:
                await client.get(_PATH)
            assert len(stranger.asked) == 1
            policy = AddressPolicy(denied=networks(["127.0.0.0/8", "::1/128"]))
            async with KubeClient(config, policy=policy) as client:
                with pytest.raises(AddressDenied, match="MESHBUS_ADDRESSES_DENIED"):
                    await client.get(_PATH)
            assert len(stranger.asked) == 1
