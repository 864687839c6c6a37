"""Clients that prove who they are, and clients that hold connections without a word."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from proto import meshops_pb2 as pb
from services.gateway.door import tokens
from tests.testbed import loopback

SERVICE = "/meshes.MeshService"


@dataclass(frozen=True, slots=True)
class TokenFile:
    """The gateway's file of tokens, and the tokens themselves."""

    path: Path
    of: dict[str, str]

    @classmethod
    def written(cls, path: Path, **groups: list[str]) -> TokenFile:
        """One token for each name."""
        found = {name: tokens.fresh() for name in groups}
        path.write_text("".join(tokens.entry(n, groups[n], found[n]) for n in found))
        return cls(path, found)


@dataclass(slots=True)
class Caller:
    """A client with a token, or without one."""

    channel: grpc.aio.Channel
    token: str = ""

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        return (("authorization", f"Bearer {self.token}"),) if self.token else ()

    async def apply(self, **fields: Any) -> str:
        """ApplyOperation; returns the id."""
        call = self.channel.unary_unary(
            f"{SERVICE}/ApplyOperation",
            request_serializer=pb.ApplyRuleRequest.SerializeToString,
            response_deserializer=pb.ApplyRuleResponse.FromString,
        )
        answer = await call(pb.ApplyRuleRequest(**fields), metadata=self.metadata, timeout=30)
        return str(answer.operation_id)

    async def name(self, *, timeout_s: float = 30, wait: bool = False) -> str:
        """MeshName."""
        call = self.channel.unary_unary(
            f"{SERVICE}/MeshName",
            request_serializer=pb.MeshNameRequest.SerializeToString,
            response_deserializer=pb.MeshNameResponse.FromString,
        )
        answer = await call(
            pb.MeshNameRequest(), metadata=self.metadata, timeout=timeout_s, wait_for_ready=wait
        )
        return str(answer.name)

    async def offered(self) -> list[str]:
        """SupportedOperations."""
        call = self.channel.unary_unary(
            f"{SERVICE}/SupportedOperations",
            request_serializer=pb.SupportedOperationsRequest.SerializeToString,
            response_deserializer=pb.SupportedOperationsResponse.FromString,
        )
        answer = await call(pb.SupportedOperationsRequest(), metadata=self.metadata, timeout=30)
        return [operation.key for operation in answer.ops]

    async def stream(self) -> grpc.aio.UnaryStreamCall[Any, Any]:
        """StreamEvents, when it stands."""
        call = self.channel.unary_stream(
            f"{SERVICE}/StreamEvents",
            request_serializer=pb.EventsRequest.SerializeToString,
            response_deserializer=pb.EventsResponse.FromString,
        )(pb.EventsRequest(), metadata=self.metadata)
        async with asyncio.timeout(30):
            await call.initial_metadata()
            if call.done():
                await call.read()  # raises what the call ended with
        return call


@asynccontextmanager
async def calling(
    address: str, token: str = "", credentials: grpc.ChannelCredentials | None = None
) -> AsyncIterator[Caller]:
    """A client on a connection of its own."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    channel = (
        grpc.aio.insecure_channel(address, options=options)
        if credentials is None
        else grpc.aio.secure_channel(address, credentials, options=options)
    )
    async with channel:
        yield Caller(channel, token)


@dataclass(slots=True)
class Relay:
    """A TCP relay that always leaves from one source port, as a NAT that runs out of ports does."""

    target: tuple[str, int]
    source_port: int
    port: int = 0
    _server: asyncio.Server | None = None
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        self._server = await asyncio.start_server(self._relayed, loopback.HOST, 0)
        self.port = self._server.sockets[0].getsockname()[1]
        try:
            yield f"{loopback.HOST}:{self.port}"
        finally:
            self._server.close()

    async def _relayed(self, near: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        """One at a time: there is one port."""
        async with self._turn:
            await self._carried(near, back)

    async def _carried(self, near: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        outside = socket.socket()
        outside.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # The end is a reset, so that the port is free again at once.
        outside.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        outside.bind((loopback.HOST, self.source_port))
        outside.setblocking(False)
        await asyncio.get_running_loop().sock_connect(outside, self.target)
        far, onward = await asyncio.open_connection(sock=outside)
        pumps = {asyncio.create_task(_pump(near, onward)), asyncio.create_task(_pump(far, back))}
        await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        for pump in pumps:
            pump.cancel()
        for end in (onward, back):
            end.transport.abort()
            with contextlib.suppress(OSError):
                await end.wait_closed()


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await source.read(65536):
            sink.write(data)
            await sink.drain()


def silent(port: int, count: int, *, source: str, greeting: bytes = b"") -> list[socket.socket]:
    """Connections that say nothing, or a greeting and then nothing."""
    held = []
    for _ in range(count):
        connection = socket.create_connection((loopback.HOST, port), 10, source_address=(source, 0))
        if greeting:
            with contextlib.suppress(OSError):
                connection.sendall(greeting)
        held.append(connection)
    return held
