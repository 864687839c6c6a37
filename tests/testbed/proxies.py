"""A TCP proxy that can break: it stands in front of what must fail in a test.

It forwards bytes and understands none, so TLS passes through untouched. It has an event loop and a
thread of its own: a test may block, or block its own loop, and the proxy still moves.

A blackhole *holds* the bytes and lets them through when it is healed, as TCP does after a
partition: the peers retransmit what the network lost.

It works on plain sockets, not on asyncio's servers and streams: those accept in several steps, so
a connection that a client has just made could slip through a `cut` or get lost in a `refuse`.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any

from tests.testbed import loopback

_CHUNK_BYTES = 65_536
_MAX_CHUNKS_UNDERWAY = 256
# Linger on, zero seconds: close sends RST instead of FIN and forgets what is unsent.
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class FaultProxy:
    """Listens on `port` and forwards to the upstream until told otherwise.

    Every control may be called from any thread and has taken effect when it returns.
    """

    def __init__(
        self, upstream_port: int, *others: int, upstream_host: str = loopback.HOST
    ) -> None:
        """Nothing listens before `start`. With `others` it balances: each connection goes to the
        next upstream in turn that takes it."""
        self.port = loopback.take_port()
        self._upstreams = deque((upstream_host, port) for port in (upstream_port, *others))
        self._listener: socket.socket | None = None
        self._connections: set[_Connection] = set()
        self._weather = _Weather()
        self._accepted = 0

    def __enter__(self) -> FaultProxy:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def address(self) -> str:
        """`127.0.0.1:port`, what clients connect to."""
        return f"{loopback.HOST}:{self.port}"

    @property
    def open_connections(self) -> int:
        """Connections that are open now."""
        return len(self._connections)

    @property
    def accepted_connections(self) -> int:
        """Connections accepted since the start; grows by one with each reconnect of a client."""
        return self._accepted

    def start(self) -> None:
        """Starts to listen."""
        # Not before: a loop has sockets, and a proxy that was never started is never closed.
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="fault-proxy", daemon=True
        )
        self._thread.start()
        self._call(self._listen())

    def close(self) -> None:
        """Resets everything and ends the proxy's thread. May be called twice."""
        if self._loop.is_closed():
            return
        self._call(self._stop_listening())
        self._call(self._cut())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def cut(self) -> None:
        """Resets every open connection (RST). New ones are accepted as before."""
        self._call(self._cut())

    def refuse(self) -> None:
        """New connections are refused (ECONNREFUSED); open ones stay until `cut`."""
        self._call(self._stop_listening())

    def delay(self, seconds: float) -> None:
        """Every byte arrives this much later, in both directions; throughput stays."""
        self._call(self._change(delay_s=seconds))

    def blackhole(self) -> None:
        """Nothing passes and nothing ends: connections are made and stay open, but silent."""
        self._call(self._change(passes=False))

    def heal(self) -> None:
        """Listens, passes, no delay. What a blackhole held arrives now."""
        self._call(self._change(delay_s=0.0, passes=True))
        self._call(self._listen())

    def _call(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=10.0)

    async def _listen(self) -> None:
        if self._listener is None:
            self._listener = socket.create_server((loopback.HOST, self.port), backlog=1024)
            self._listener.setblocking(False)
            self._loop.add_reader(self._listener, self._accept_waiting)

    async def _stop_listening(self) -> None:
        if self._listener is not None:
            # Who connected before the call is connected; the kernel only queued them for us.
            self._accept_waiting()
            self._loop.remove_reader(self._listener)
            self._listener.close()
            self._listener = None

    async def _change(self, *, delay_s: float | None = None, passes: bool | None = None) -> None:
        if delay_s is not None:
            self._weather.delay_s = delay_s
        if passes is True:
            self._weather.passes.set()
        elif passes is False:
            self._weather.passes.clear()

    async def _cut(self) -> None:
        self._accept_waiting()
        await asyncio.gather(*(connection.cut() for connection in tuple(self._connections)))

    def _accept_waiting(self) -> None:
        if self._listener is None:
            return
        with suppress(BlockingIOError):
            while True:
                client, _ = self._listener.accept()
                connection = _Connection(
                    client, upstreams=tuple(self._upstreams), weather=self._weather
                )
                self._upstreams.rotate(-1)
                self._connections.add(connection)
                self._accepted += 1
                connection.when_ended(self._connections.discard)


class _Weather:
    """What happens to bytes at the moment; shared by all connections of a proxy."""

    def __init__(self) -> None:
        self.delay_s = 0.0
        self.passes = asyncio.Event()
        self.passes.set()


class _Connection:
    """One forwarded connection: two sockets and the task that moves bytes between them."""

    def __init__(
        self, client: socket.socket, *, upstreams: Sequence[tuple[str, int]], weather: _Weather
    ) -> None:
        self._client = client
        self._server = socket.socket()
        self._upstreams = upstreams
        self._weather = weather
        _prepare(client)
        self._task = asyncio.get_running_loop().create_task(self._run())
        # Not a `finally` in the task: a task that is cut before its first step runs no code at all.
        self._task.add_done_callback(self._close)

    def when_ended(self, tell: Callable[[_Connection], None]) -> None:
        """Calls `tell` with this connection once its sockets are closed."""
        self._task.add_done_callback(lambda _: tell(self))

    async def cut(self) -> None:
        """Ends both sides with RST, whatever a blackhole may be holding."""
        self._reset_on_close()
        self._task.cancel()
        await asyncio.wait([self._task])

    async def _run(self) -> None:
        try:
            await self._connect()
            async with asyncio.TaskGroup() as directions:
                directions.create_task(_forward(self._client, self._server, self._weather))
                directions.create_task(_forward(self._server, self._client, self._weather))
        except* OSError:
            # One side broke, or the upstream refuses: the other side learns it as a reset.
            self._reset_on_close()

    async def _connect(self) -> None:
        """To the first upstream that takes the connection."""
        for upstream in self._upstreams:
            self._server.close()
            self._server = socket.socket()
            _prepare(self._server)
            with suppress(OSError):
                await asyncio.get_running_loop().sock_connect(self._server, upstream)
                return
        raise ConnectionRefusedError(f"none of {self._upstreams} takes connections")

    def _reset_on_close(self) -> None:
        for side in (self._client, self._server):
            with suppress(OSError):
                side.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)

    def _close(self, _: asyncio.Task[None]) -> None:
        self._client.close()
        self._server.close()


def _prepare(side: socket.socket) -> None:
    side.setblocking(False)
    side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


async def _forward(source: socket.socket, sink: socket.socket, weather: _Weather) -> None:
    """Moves one direction; reading runs ahead of writing, so that a delay costs no throughput."""
    underway: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_MAX_CHUNKS_UNDERWAY)
    async with asyncio.TaskGroup() as halves:
        halves.create_task(_take_in(source, underway, weather))
        halves.create_task(_give_out(underway, sink, weather))


async def _take_in(
    source: socket.socket, underway: asyncio.Queue[tuple[float, bytes]], weather: _Weather
) -> None:
    loop = asyncio.get_running_loop()
    while True:
        try:
            data = await loop.sock_recv(source, _CHUNK_BYTES)
        except OSError:
            # A peer's reset does not get through a blackhole either.
            await weather.passes.wait()
            raise
        await underway.put((time.monotonic() + weather.delay_s, data))
        if not data:
            return


async def _give_out(
    underway: asyncio.Queue[tuple[float, bytes]], sink: socket.socket, weather: _Weather
) -> None:
    loop = asyncio.get_running_loop()
    while True:
        due, data = await underway.get()
        if (wait_s := due - time.monotonic()) > 0:
            await asyncio.sleep(wait_s)
        await weather.passes.wait()
        if not data:
            _end_of_stream(sink)
            return
        await loop.sock_sendall(sink, data)


def _end_of_stream(sink: socket.socket) -> None:
    try:
        sink.shutdown(socket.SHUT_WR)
    except OSError as error:
        if error.errno != errno.ENOTCONN:  # the peer is gone already and needs no farewell
            raise
