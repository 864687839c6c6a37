"""Reads answers over HTTP of servers that nobody vouches for, within bounds.

Whoever reads an answer whole lets the other side choose how much memory that takes: a megabyte of
gzip is a gigabyte of zeros. So sessions are opened without aiohttp's own decompression, answers
come in pieces, and reading ends at a bound of bytes or where they were compressed too well.
"""

from __future__ import annotations

import asyncio
import ssl
import zlib
from collections.abc import AsyncGenerator, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import aiohttp

from services.chassis.addresses import AddressPolicy

ANSWER_BYTES = 64 * 1024 * 1024
LINE_BYTES = 8 * 1024 * 1024
LIST_BYTES = 1024 * 1024 * 1024
RATIO = 200
_ACCEPTED = "gzip"
_IDENTITY = frozenset({"", "identity"})
_GZIP = frozenset({"gzip", "x-gzip"})
_PIECE_BYTES = 1024 * 1024
_SLICE_BYTES = 64 * 1024
_RATIO_FREE_BYTES = 8 * 1024 * 1024
"""Below this nobody asks how well an answer was compressed: a list of like objects is so too."""


class AnswerRefused(Exception):
    """An answer that is not read on; the text says why and holds nothing of it."""


class TooLarge(AnswerRefused):
    """It is longer than its bound."""


class Malformed(AnswerRefused):
    """It is not encoded as it says, or much better than real answers are."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much of one answer is read."""

    answer_bytes: int = ANSWER_BYTES
    """Of a whole answer, unpacked: pages of lists are the largest, with 500 objects each."""
    line_bytes: int = LINE_BYTES
    """Of one line of a watch: one object, and etcd takes none above 1.5 MiB."""
    list_bytes: int = LIST_BYTES
    """Of all pages of a list together, or of the objects that a watch begins with: a list has an
    end."""
    ratio: int = RATIO
    """Unpacked bytes for each packed one; lists have 10 to 60, those of like objects more, and a
    bomb has 1000."""


@dataclass(slots=True)
class LongAnswers:
    """How many long answers are being read, over all that share this.

    Each has its bound, but a cluster is read over dozens of connections, and a process reads many
    clusters. Nobody waits for another's long answer, which may drip: a list is asked for in smaller
    pages instead.
    """

    most: int = 4
    long_bytes: int = 4 * 1024 * 1024
    underway: int = 0

    @contextmanager
    def one(self) -> Iterator[None]:
        """Counts one in for the block; raises `TooLarge` when there are enough."""
        if self.underway >= self.most:
            raise TooLarge(f"is longer than {self.long_bytes} bytes, as {self.most} others are")
        self.underway += 1
        try:
            yield
        finally:
            self.underway -= 1


def session(
    policy: AddressPolicy,
    *,
    timeout: aiohttp.ClientTimeout,
    connections: int = 100,
    **options: Any,
) -> aiohttp.ClientSession:
    """A session that connects only to what `policy` allows and leaves unpacking to `pieces`.

    It follows no proxy and no .netrc of the process and keeps no cookies. Callers must say
    `allow_redirects=False`; aiohttp has no such setting for a session, and none at all for a
    WebSocket, whose redirection fails here. `options` go to aiohttp.
    """
    watched = aiohttp.TraceConfig()
    watched.on_request_redirect.append(_refuse_redirect)
    tls = options.pop("ssl") if "ssl" in options else trusting_the_machine()
    connector = aiohttp.TCPConnector(limit=connections, socket_factory=policy.socket, ssl=tls)
    headers = {"Accept-Encoding": _ACCEPTED, **options.pop("headers", {})}
    return aiohttp.ClientSession(
        connector=connector,
        auto_decompress=False,
        trust_env=False,
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=timeout,
        headers=headers,
        trace_configs=[watched],
        **options,
    )


@cache
def trusting_the_machine() -> ssl.SSLContext:
    """TLS that trusts whom the machine does, as all of HTTP has it where nothing else is said."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context


async def _refuse_redirect(*_: object) -> None:
    raise aiohttp.ClientError("redirected")


async def read(
    response: aiohttp.ClientResponse,
    *,
    most_bytes: int,
    ratio: int,
    shared: LongAnswers | None = None,
) -> bytes:
    """The whole body, unpacked; raises `TooLarge` or `Malformed`, and what aiohttp raises."""
    length = response.content_length
    if length is not None and length > most_bytes:
        raise TooLarge(f"is longer than {most_bytes} bytes")
    found: list[bytes] = []
    size = 0
    with ExitStack() as counted:
        async for piece in pieces(response, ratio=ratio):
            size += len(piece)
            if size > most_bytes:
                raise TooLarge(f"is longer than {most_bytes} bytes")
            if shared is not None and size > shared.long_bytes:
                counted.enter_context(shared.one())
                shared = None
            found.append(piece)
        return found[0] if len(found) == 1 else b"".join(found)


async def pieces(response: aiohttp.ClientResponse, *, ratio: int) -> AsyncGenerator[bytes, None]:
    """The body as it comes, unpacked, in pieces of a MiB at most where it is packed."""
    coding = response.headers.get("Content-Encoding", "").strip().lower()
    if coding in _IDENTITY:
        async for chunk in response.content.iter_any():
            yield chunk
        return
    if coding not in _GZIP:
        raise Malformed("is packed in a way that was not asked for")
    inflating = _Inflating(ratio)
    async for chunk in response.content.iter_any():
        for start in range(0, len(chunk), _SLICE_BYTES):
            inflating.feed(chunk[start : start + _SLICE_BYTES])
            while piece := inflating.piece():
                yield piece
                if len(piece) == _PIECE_BYTES:
                    # Unpacking is work between two reads that wait for nothing.
                    await asyncio.sleep(0)
    if not inflating.is_whole:
        raise Malformed("ends before its packed content does")


class _Inflating:
    """One gzip stream, unpacked piece by piece."""

    def __init__(self, ratio: int) -> None:
        self._inflater = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
        self._ratio = ratio
        self._rest = b""
        self._packed = 0
        self._unpacked = 0

    @property
    def is_whole(self) -> bool:
        return self._inflater.eof or not self._packed

    def feed(self, data: bytes) -> None:
        """Takes what came; everything before it has been unpacked."""
        if self._inflater.eof:
            raise Malformed("goes on after its packed content")
        self._packed += len(data)
        self._rest = data

    def piece(self) -> bytes:
        """What can be unpacked now, a MiB at most; b"" when more must come first."""
        try:
            found = self._inflater.decompress(self._rest, _PIECE_BYTES)
        except zlib.error:
            raise Malformed("is not packed as it says") from None
        self._rest = self._inflater.unconsumed_tail
        self._unpacked += len(found)
        if self._unpacked > _RATIO_FREE_BYTES + self._packed * self._ratio:
            raise Malformed("is packed far better than real answers are")
        if self._inflater.unused_data:
            raise Malformed("goes on after its packed content")
        return found
