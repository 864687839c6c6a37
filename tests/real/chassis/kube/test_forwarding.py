"""Forwarded ports of a server that is not to be believed; `tests/mesh` has those of a real one."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest

from services.chassis.errors import (
    AnswerTooLarge,
    AnswerUnusable,
    ClusterFailed,
    ClusterForbidden,
    ClusterUnreachable,
    MeshbusError,
    ObjectNotFound,
)
from services.chassis.kube.client import KubeClient
from services.chassis.kube.forwarding import page_of
from services.chassis.kube.kubeconfigs import parse_kubeconfig
from tests.testbed import loopback
from tests.testbed.strangers import Stranger, answer, frame, upgraded

_PORTS = [frame(b"\x00\xa6\x3a"), frame(b"\x01\xa6\x3a")]
_SECRET = "db_password=hunter2"
_MOST = 1000
_SECONDS = 3.0


async def read(
    *frames: bytes, endless: bytes = b"", within_s: float = 30.0, most: int = _MOST
) -> bytes:
    """What is read of a port whose forwarding is answered with these frames."""
    found: list[Stranger] = []

    def reply(_: str) -> Iterator[bytes]:
        yield upgraded(found[0].socket_key, "v4.channel.k8s.io")
        yield from frames
        while endless:
            yield endless

    with Stranger(reply) as stranger:
        found.append(stranger)
        return await page(stranger, within_s=within_s, most=most)


async def page(stranger: Stranger, *, within_s: float = 30.0, most: int = _MOST) -> bytes:
    config = parse_kubeconfig(stranger.kubeconfig())
    async with KubeClient(config, is_read_only=True) as client:
        return await page_of(
            client,
            namespace="x",
            pod="p",
            port=15014,
            path="/debug/syncz",
            most_bytes=most,
            within=timedelta(seconds=within_s),
        )


def data(content: bytes) -> bytes:
    return frame(b"\x00" + content)


def http(body: bytes, *, status: str = "200 OK", head: bytes = b"") -> bytes:
    return f"HTTP/1.0 {status}\r\n".encode() + head + b"\r\n" + body


async def test_a_page_is_read_to_the_end_of_its_connection() -> None:
    pieces = [data(http(b"[1,")), data(b"2"), data(b"]")]
    assert await read(*_PORTS, *pieces) == b"[1,2]"


async def test_a_page_that_tells_its_length_ends_there() -> None:
    told = data(http(b"[1]", head=b"Content-Length: 3\r\n"))
    assert await read(*_PORTS, told, endless=frame(b"\x05")) == b"[1]"


async def test_frames_that_are_none_of_a_port_are_passed_over() -> None:
    odd = [frame(b""), frame(b"\x07x"), frame(b"text", opcode=1)]
    assert await read(*_PORTS, *odd, data(http(b"[]"))) == b"[]"


@pytest.mark.parametrize(
    ("frames", "error"),
    [
        ([], ClusterUnreachable),
        (_PORTS, ClusterUnreachable),
        ([*_PORTS, frame(b"\x01connection refused")], ClusterUnreachable),
        ([*_PORTS, data(b"SSH-2.0-OpenSSH\r\n")], AnswerUnusable),
        ([*_PORTS, data(b"\x00\xff" * 100)], AnswerUnusable),
        ([*_PORTS, data(http(b"[1]", head=b"Content-Length: 30\r\n"))], AnswerUnusable),
        ([*_PORTS, data(http(b"", status="302 Found"))], ClusterFailed),
        ([*_PORTS, data(http(_SECRET.encode(), status="500 Oops"))], ClusterFailed),
        ([*_PORTS, data(http(b"x" * (_MOST + 1)))], AnswerTooLarge),
    ],
    ids=[
        "nothing",
        "no data",
        "an error",
        "not HTTP",
        "noise",
        "cut",
        "redirect",
        "a page",
        "long",
    ],
)
async def test_what_is_no_page_is_refused(frames: list[bytes], error: type[MeshbusError]) -> None:
    with pytest.raises(error) as refused:
        await read(*frames)
    assert type(refused.value) is error
    assert _SECRET not in str(refused.value)


async def test_a_page_without_an_end_is_read_to_its_bound() -> None:
    with pytest.raises(AnswerTooLarge):
        await read(*_PORTS, data(http(b"")), endless=data(b"x" * 4096), most=1024 * 1024)


async def test_a_head_without_an_end_is_no_page() -> None:
    with pytest.raises(AnswerTooLarge):
        await read(*_PORTS, endless=data(b"HTTP/1.0 200 OK\r\n" * 200))


async def test_one_that_drips_is_left_when_its_time_is_over() -> None:
    with pytest.raises(ClusterUnreachable, match="in time"):
        # Control frames are answered, and are nobody's data.
        await read(*_PORTS, endless=frame(b"", opcode=9), within_s=_SECONDS)


@pytest.mark.parametrize(
    ("status", "error"),
    [
        ("403 Forbidden", ClusterForbidden),
        ("404 Not Found", ObjectNotFound),
        ("500 Oops", ClusterFailed),
        ("200 OK", MeshbusError),
    ],
)
async def test_a_server_that_takes_up_no_socket_is_told_by_its_status(
    status: str, error: type[MeshbusError]
) -> None:
    def reply(_: str) -> Iterator[bytes]:
        yield answer(_SECRET.encode(), status=status)

    with Stranger(reply) as stranger, pytest.raises(error) as refused:
        await page(stranger)
    assert _SECRET not in str(refused.value)


@pytest.mark.parametrize("code", ["302 Found", "307 Temporary", "308 Permanent"])
async def test_a_redirect_of_a_socket_leads_nowhere(code: str) -> None:
    def inner(_: str) -> Iterator[bytes]:
        yield answer(b"")

    with Stranger(inner, plain=True) as internal:

        def outer(_: str) -> Iterator[bytes]:
            yield answer(b"", status=code, Location=f"http://{loopback.HOST}:{internal.port}/x")

        with Stranger(outer) as stranger, pytest.raises(ClusterUnreachable):
            await page(stranger)
    assert internal.asked == []
