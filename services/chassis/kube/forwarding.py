"""Reads a page of what listens within a pod, on its loopback, as `kubectl port-forward` reaches it.

The API server's pod proxy knocks from outside, and takes the Authorization header for itself: what
a program tells to its own machine alone is only had this way. It needs the rights `get` and
`create` on `pods/portforward`, since a WebSocket begins as a GET and newer servers ask for both.
Frames are those of `v4.channel.k8s.io`, which every kubelet since 1.7 speaks: a byte that names the
channel (0 data, 1 errors), and on each channel first the port's number in two bytes. Rejected: the
SPDY tunnel, a second framing and compression for a single request.
"""

from __future__ import annotations

import asyncio
import contextlib
from datetime import timedelta

import aiohttp

from services.chassis.errors import (
    AnswerTooLarge,
    ClusterFailed,
    ClusterUnreachable,
    MeshbusError,
    shortened,
)
from services.chassis.kube.client import KubeClient
from services.chassis.kube.refusals import unusable

_PROTOCOL = "v4.channel.k8s.io"
_DATA, _ERRORS = 0, 1
_MOST_HEAD_BYTES = 64 * 1024
_END_OF_HEAD = b"\r\n\r\n"
_LENGTH = b"content-length:"


async def page_of(
    client: KubeClient,
    *,
    namespace: str,
    pod: str,
    port: int,
    path: str,
    most_bytes: int,
    within: timedelta,
) -> bytes:
    """The body of a GET that the pod answers with 200, in one try.

    Raises `AnswerTooLarge` beyond `most_bytes`, and a `ClusterError` for what refuses, fails or
    takes longer than `within`.
    """
    subject = f"port {port} of pod {namespace}/{pod}"
    # Without keep-alive the end of the connection is the end of the answer, and nothing is chunked.
    request = f"GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode("ascii")
    try:
        async with (
            asyncio.timeout(within.total_seconds()),
            client.socket(
                f"/api/v1/namespaces/{namespace}/pods/{pod}/portforward",
                query={"ports": str(port)},
                protocol=_PROTOCOL,
                subject=subject,
            ) as socket,
        ):
            # One that closes at once has said why, or says nothing.
            with contextlib.suppress(aiohttp.ClientConnectionError, ConnectionError):
                await socket.send_bytes(bytes([_DATA]) + request)
            answer = await _answer(socket, most_bytes + _MOST_HEAD_BYTES, subject)
    except TimeoutError:
        raise ClusterUnreachable(f"{subject} does not answer in time", subject=subject) from None
    return _body(answer, most_bytes, subject)


async def _answer(
    socket: aiohttp.ClientWebSocketResponse, most_bytes: int, subject: str
) -> bytearray:
    """All that comes on the data channel, up to its end or to the length that it tells."""
    answer, has_port = bytearray(), {_DATA: False, _ERRORS: False}
    whole: int | None = None
    async for message in socket:
        if message.type is not aiohttp.WSMsgType.BINARY or not message.data:
            continue
        channel, content = message.data[0], message.data[1:]
        if not has_port.get(channel, True):
            has_port[channel] = True
        elif channel == _ERRORS:
            told = shortened(content.decode("utf-8", "replace"))
            raise ClusterUnreachable(f"{subject} cannot be reached: {told}", subject=subject)
        elif channel == _DATA:
            answer += content
            if len(answer) > most_bytes:
                raise _too_large(subject, most_bytes - _MOST_HEAD_BYTES)
            whole = whole or _whole(answer)
            if whole is not None and len(answer) >= whole:
                break
    return answer


def _whole(answer: bytearray) -> int | None:
    """How long the answer is in all, where its head has come and tells the body's length."""
    end = answer.find(_END_OF_HEAD, 0, _MOST_HEAD_BYTES)
    if end < 0:
        return None
    for line in bytes(answer[:end]).lower().splitlines():
        if line.startswith(_LENGTH) and (length := line[len(_LENGTH) :].strip()).isdigit():
            return end + len(_END_OF_HEAD) + int(length)
    return None


def _body(answer: bytearray, most_bytes: int, subject: str) -> bytes:
    head, is_there, body = bytes(answer).partition(_END_OF_HEAD)
    words = head.split(b"\r\n", 1)[0].split()
    if not is_there or len(words) < 2 or not words[0].startswith(b"HTTP/1."):
        raise _not_http(subject, bool(answer))
    if (whole := _whole(answer)) is not None and len(answer) < whole:
        raise unusable(subject, "ends before its length")
    if words[1] != b"200":
        code = words[1].decode("ascii", "replace")
        raise ClusterFailed(f"{subject} answers with HTTP {shortened(code)}", subject=subject)
    if len(body) > most_bytes:
        raise _too_large(subject, most_bytes)
    return body


def _not_http(subject: str, has_answered: bool) -> MeshbusError:
    if has_answered:
        return unusable(subject, "is not HTTP")
    return ClusterUnreachable(f"{subject} closes without an answer", subject=subject)


def _too_large(subject: str, most_bytes: int) -> AnswerTooLarge:
    why = f"{subject}: the answer is longer than {most_bytes} bytes"
    return AnswerTooLarge(why, subject=subject)
