"""A tap on the wire: what a gateway had written when it was killed.

gRPC's own client cannot tell: when its connection breaks it throws away what it has received and
nobody has asked for yet (Meshery's client, written in Go, hands that out first). So the bytes are
recorded on their way, and the events taken out of the HTTP/2 DATA frames.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from proto import meshops_pb2 as pb
from tests.testbed import loopback

_FRAME_HEADER = 9
_MESSAGE_HEADER = 5
_DATA = 0


class Tap:
    """Passes connections on to one port, and keeps what came back on the last one."""

    def __init__(self, upstream_port: int) -> None:
        self.address = ""
        self._upstream_port = upstream_port
        self._recorded = bytearray()
        self._ended = asyncio.Event()

    async def written(self) -> list[pb.EventsResponse]:
        """The events of the last connection, once its server is gone."""
        await asyncio.wait_for(self._ended.wait(), timeout=10)
        return _events(bytes(self._recorded))

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._recorded.clear()
        self._ended.clear()
        upstream, downstream = await asyncio.open_connection(loopback.HOST, self._upstream_port)
        sending = asyncio.create_task(_pass_on(reader, downstream))
        with suppress(ConnectionError):
            while data := await upstream.read(65536):
                self._recorded += data
                writer.write(data)
        self._ended.set()
        sending.cancel()
        await asyncio.wait({sending})
        for end in (writer, downstream):
            end.close()
            with suppress(ConnectionError):
                await end.wait_closed()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)


def _events(recorded: bytes) -> list[pb.EventsResponse]:
    """The messages in the DATA frames: one stream for each connection, and no padding."""
    body = bytearray()
    position = 0
    while position + _FRAME_HEADER <= len(recorded):
        length = int.from_bytes(recorded[position : position + 3], "big")
        kind = recorded[position + 3]
        start = position + _FRAME_HEADER
        if kind == _DATA:
            body += recorded[start : start + length]
        position = start + length
    found = []
    position = 0
    while position + _MESSAGE_HEADER <= len(body):
        length = int.from_bytes(body[position + 1 : position + _MESSAGE_HEADER], "big")
        start = position + _MESSAGE_HEADER
        if start + length > len(body):
            break
        found.append(pb.EventsResponse.FromString(bytes(body[start : start + length])))
        position = start + length
    return found


@asynccontextmanager
async def tapped(upstream_port: int) -> AsyncIterator[Tap]:
    """A tap that listens until the block is left."""
    tap = Tap(upstream_port)
    server = await asyncio.start_server(tap.connected, loopback.HOST, loopback.take_port())
    tap.address = f"{loopback.HOST}:{server.sockets[0].getsockname()[1]}"
    try:
        yield tap
    finally:
        server.close()
        await server.wait_closed()
