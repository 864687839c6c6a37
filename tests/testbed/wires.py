"""Wires that understand what passes through them: NATS' protocol, and an API server's HTTPS.

A fault proxy (`proxies.py`) breaks a connection at a time; a wire breaks it at a *message*. So a
test can kill a worker before the server has seen the write of a record, or after it has stored it
and before the worker knows, without a line of test code in the worker: what a handler does is seen
from outside, by what it says to the bus and to the cluster.

Each wire has an event loop and a thread of its own, so that a test may block.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import fnmatch
import json
import ssl
import tempfile
import threading
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import aiohttp
import yaml
from aiohttp import web

from tests.testbed import loopback
from tests.testbed.clusters import Cluster
from tests.testbed.pki import Authority

_LONGEST_LINE_BYTES = 1 << 20


class _Threaded:
    """A loop in a thread, for the life of a wire."""

    def __init__(self) -> None:
        self.port = loopback.take_port()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="wire", daemon=True)

    def start(self) -> None:
        self._thread.start()
        self._call(self._open())

    def close(self) -> None:
        self._call(self._close())
        self._call(asyncio.sleep(0.05))  # transports close their sockets one turn later
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _call(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=30.0)

    async def _open(self) -> None:
        raise NotImplementedError

    async def _close(self) -> None:
        raise NotImplementedError


# --- NATS -----------------------------------------------------------------------------------------


@dataclass(slots=True)
class Snare:
    """What happens when a client publishes for the `nth` time to a subject like `pattern`."""

    pattern: str
    nth: int
    after: bool
    """Whether the server gets the message, or the client is gone before that."""
    then: Callable[[], object]
    seen: int = 0
    sprung: threading.Event = field(default_factory=threading.Event)


class BusWire(_Threaded):
    """Between one service and NATS. It tells what the service publishes and can end it there.

    What is published to a command's reply subject counts as `ack <word>`: `ack +WPI` is a
    heartbeat, `ack ` or `ack +ACK` the end.
    """

    def __init__(self, upstream_port: int) -> None:
        """Nothing listens before `start`."""
        super().__init__()
        self.published: list[str] = []
        """Subjects in the order in which the service published to them."""
        self._upstream_port = upstream_port
        self._snares: list[Snare] = []
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def __enter__(self) -> BusWire:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def url(self) -> str:
        return f"nats://{loopback.HOST}:{self.port}"

    def arm(
        self, pattern: str, *, then: Callable[[], object], nth: int = 1, after: bool = False
    ) -> Snare:
        """Calls `then` at the message and ends the connection; forgets what was published."""
        snare = Snare(pattern, nth, after, then)
        self.published.clear()
        self._snares = [snare]
        return snare

    async def _open(self) -> None:
        self._server = await asyncio.start_server(
            self._accept, loopback.HOST, self.port, limit=_LONGEST_LINE_BYTES
        )

    async def _close(self) -> None:
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            up_reader, up_writer = await asyncio.open_connection(
                loopback.HOST, self._upstream_port, limit=_LONGEST_LINE_BYTES
            )
            answers = asyncio.create_task(_copy(up_reader, writer))
            try:
                await self._pass_on(reader, up_writer)
            finally:
                answers.cancel()
                await _closed(up_writer)
        await _closed(writer)

    async def _pass_on(self, reader: asyncio.StreamReader, server: asyncio.StreamWriter) -> None:
        """The client's messages, one at a time: https://docs.nats.io/reference/protocols."""
        while line := await reader.readline():
            verb, *words = line.decode().split()
            data = line
            if verb in ("PUB", "HPUB"):
                payload = await reader.readexactly(int(words[-1]) + 2)
                data += payload
                head = int(words[-2]) if verb == "HPUB" else 0
                step = _step(words[0], payload[head:-2])
                self.published.append(step)
                snare = self._caught(step)
                if snare is not None:
                    if snare.after:
                        server.write(data)
                        await server.drain()
                    snare.then()
                    snare.sprung.set()
                    return
            server.write(data)
            await server.drain()

    def _caught(self, step: str) -> Snare | None:
        for snare in self._snares:
            if not snare.sprung.is_set() and fnmatch.fnmatchcase(step, snare.pattern):
                snare.seen += 1
                if snare.seen == snare.nth:
                    return snare
        return None


def _step(subject: str, payload: bytes) -> str:
    return f"ack {payload[:4].decode()}" if subject.startswith("$JS.ACK.CMD.") else subject


async def _closed(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError):
        await writer.drain()
        await writer.wait_closed()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    writer.close()


# --- Kubernetes -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Written:
    """One write as the API server carried it out."""

    method: str
    path: str
    code: int
    version: str
    """The object's resource version after it: a write that changes nothing leaves it."""


Forward: TypeAlias = Callable[[], Awaitable[web.StreamResponse]]
Meddle: TypeAlias = Callable[[web.Request, Forward], Awaitable[web.StreamResponse]]
"""Answers a request, by `forward()` or in the server's place; runs in the wire's loop."""

WRITES = ("PATCH", "POST", "PUT", "DELETE")


class ApiWire(_Threaded):
    """An API server's place: what it answers is the real one's answer, unless a test meddles.

    Clients are what the wire itself is to the server: an administrator.
    """

    def __init__(self, cluster: Cluster) -> None:
        """Nothing listens before `start`."""
        super().__init__()
        self.cluster = cluster
        self.written: list[Written] = []
        self.asked: list[str] = []
        """`<method> <path>` of each request, in order."""
        self.meddle: Meddle | None = None
        self._authority = Authority("wire authority")
        self._to_server = self._client_tls()
        self._runner: web.AppRunner | None = None
        self._session: aiohttp.ClientSession | None = None

    def __enter__(self) -> ApiWire:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def kubeconfig_text(self) -> str:
        """Leads to the wire; its token means nothing to anybody."""
        authority = base64.b64encode(self._authority.certificate_pem).decode()
        server = f"https://{loopback.HOST}:{self.port}"
        name = self.cluster.name
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [
                {
                    "name": name,
                    "cluster": {"server": server, "certificate-authority-data": authority},
                }
            ],
            "users": [{"name": name, "user": {"token": "of-no-meaning-to-anybody"}}],
            "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
            "current-context": name,
        }
        return str(yaml.safe_dump(document))

    async def _open(self) -> None:
        application = web.Application(client_max_size=64 * 1024 * 1024)
        application.add_routes([web.route("*", "/{path:.*}", self._answer)])
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        await web.TCPSite(
            self._runner, loopback.HOST, self.port, ssl_context=self._server_tls()
        ).start()
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=None), auto_decompress=False
        )

    async def _close(self) -> None:
        if self._session is not None:
            await self._session.close()
        if self._runner is not None:
            # A TLS farewell would wait for clients that may be paused or dead.
            await self._cut()
            await self._runner.cleanup()

    def cut(self) -> None:
        """Ends every open connection in the middle of whatever it carries."""
        self._call(self._cut())

    async def _cut(self) -> None:
        if self._runner is not None and self._runner.server is not None:
            for connection in self._runner.server.connections:
                if connection.transport is not None:
                    connection.transport.abort()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(f"{request.method} {request.path}")
        body = await request.read()

        async def forward() -> web.StreamResponse:
            return await self._forward(request, body)

        return await (self.meddle(request, forward) if self.meddle else forward())

    async def _forward(self, request: web.Request, body: bytes) -> web.StreamResponse:
        assert self._session is not None
        kept = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")
        async with self._session.request(
            request.method,
            self.cluster.server_url + request.path_qs,
            data=body or None,
            headers={name: request.headers[name] for name in kept if name in request.headers},
            ssl=self._to_server,
        ) as answer:
            passed = ("Content-Type", "Content-Encoding", "Retry-After")
            headers = {name: answer.headers[name] for name in passed if name in answer.headers}
            if request.query.get("watch") == "true":
                return await _streamed(request, answer, headers)
            content = await answer.read()
            if request.method in WRITES:
                self.written.append(
                    Written(request.method, request.path, answer.status, _version(content))
                )
            return web.Response(status=answer.status, body=content, headers=headers)

    def _server_tls(self) -> ssl.SSLContext:
        pair = self._authority.issue_server("wire", [loopback.HOST])
        with tempfile.TemporaryDirectory() as folder:
            pair.write(Path(folder), "wire")
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(Path(folder, "wire.crt"), Path(folder, "wire.key"))
        return context

    def _client_tls(self) -> ssl.SSLContext:
        keys = self.cluster.folder / "keys"
        context = ssl.create_default_context(cafile=str(keys / "ca.crt"))
        context.load_cert_chain(keys / "admin.crt", keys / "admin.key")
        return context


async def _streamed(
    request: web.Request, answer: aiohttp.ClientResponse, headers: dict[str, str]
) -> web.StreamResponse:
    response = web.StreamResponse(status=answer.status, headers=headers)
    await response.prepare(request)
    with contextlib.suppress(OSError, aiohttp.ClientError):
        async for chunk in answer.content.iter_any():
            await response.write(chunk)
    return response


def _version(content: bytes) -> str:
    with contextlib.suppress(ValueError, AttributeError):
        return str((json.loads(content).get("metadata") or {}).get("resourceVersion", ""))
    return ""
