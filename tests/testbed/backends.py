"""Servers behind the bed's Envoys: they say who they are and count what reaches them.

They run in a thread with an event loop of its own, so that a test may block in a client, and a
client in a test's event loop may wait for them.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from tests.testbed import loopback


@dataclass(slots=True)
class Backend:
    """One server on loopback. HTTP answers and TCP answers begin with its name."""

    name: str
    port: int
    requests: Counter[tuple[str, str]] = field(default_factory=Counter)
    """How often each method and path was asked for; a TCP message counts as ("TCP", "")."""
    delay_s: float = 0.0
    """How long an HTTP answer takes; may be changed at any time."""
    fails_every: int = 0
    """With n, every n-th HTTP answer is a 503."""
    freezes: tuple[float, float] = (0.0, 0.0)
    """Every so many seconds it answers no HTTP request for so many seconds."""

    @property
    def wait_s(self) -> float:
        """How long a request that comes now waits for its answer."""
        every_s, frozen_s = self.freezes
        gone_s = time.monotonic() % every_s if every_s else frozen_s
        return self.delay_s + max(0.0, frozen_s - gone_s)


class Backends:
    """All backends of a test run, ended together."""

    def __init__(self) -> None:
        """Opens nothing before the block: a loop has sockets, and who fails earlier closes none."""
        self._runners: list[web.ServerRunner] = []
        self._servers: list[asyncio.Server] = []

    def __enter__(self) -> Backends:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="bed-backends")
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._run(self._close())
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    def add(self, name: str, *, delay_s: float = 0.0, fails_every: int = 0) -> Backend:
        """An HTTP server that answers every request with its name."""
        backend = Backend(name, loopback.take_port(), delay_s=delay_s, fails_every=fails_every)
        self._run(self._serve_http(backend))
        return backend

    def add_tcp(self, name: str) -> Backend:
        """A TCP server that sends each line back behind its name and a colon."""
        backend = Backend(name, loopback.take_port())
        self._run(self._serve_tcp(backend))
        return backend

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=30.0)

    async def _serve_http(self, backend: Backend) -> None:
        async def answer(request: web.BaseRequest) -> web.Response:
            backend.requests[request.method, request.path] += 1
            number = backend.requests.total()
            if wait_s := backend.wait_s:
                await asyncio.sleep(wait_s)
            is_failing = backend.fails_every and number % backend.fails_every == 0
            return web.Response(status=503 if is_failing else 200, text=backend.name)

        runner = web.ServerRunner(web.Server(answer), shutdown_timeout=0.0)
        await runner.setup()
        await web.TCPSite(runner, loopback.HOST, backend.port).start()
        self._runners.append(runner)

    async def _serve_tcp(self, backend: Backend) -> None:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                while line := await reader.readline():
                    backend.requests["TCP", ""] += 1
                    writer.write(f"{backend.name}:".encode() + line)
                    await writer.drain()
            except ConnectionError:
                pass  # the client left in the middle of it
            finally:
                writer.close()

        server = await asyncio.start_server(answer, loopback.HOST, backend.port)
        self._servers.append(server)

    async def _close(self) -> None:
        for server in self._servers:
            server.close()
        for runner in self._runners:
            await runner.cleanup()
        open_connections = [
            task for task in asyncio.all_tasks() if task is not asyncio.current_task()
        ]
        for task in open_connections:
            task.cancel()
        await asyncio.gather(*open_connections, return_exceptions=True)
