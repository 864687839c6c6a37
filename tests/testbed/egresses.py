"""The way of a simulated cluster's API server to its pods: a proxy that leads to loopback.

kwok's pods have addresses that lead nowhere, so the API server sends what it calls in the cluster
to a socket in its folder (`clusters.py`). Whoever listens there decides what a pod answers: the
choice of the Service's pod, of its port and the rights before it are the API server's own.
"""

from __future__ import annotations

import socket
import socketserver
import threading
from collections.abc import Mapping
from contextlib import suppress
from typing import Self

from tests.testbed import loopback
from tests.testbed.clusters import Cluster

_CHUNK_BYTES = 65_536


class Egress:
    """Leads to ports on loopback by the ports of pods, for a block; others are refused."""

    def __init__(self, cluster: Cluster, ports: Mapping[int, int]) -> None:
        """`ports` may change meanwhile."""
        self.ports = dict(ports)
        self._socket = cluster.folder / "egress.sock"
        self._open: set[socket.socket] = set()

    def __enter__(self) -> Self:
        self._socket.unlink(missing_ok=True)
        egress = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                egress.connect(self)

        self._server = _Server(str(self._socket), Handler)
        threading.Thread(target=self._server.serve_forever, name="egress", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self.cut()
        self._server.server_close()
        self._socket.unlink(missing_ok=True)

    def cut(self) -> None:
        """Ends every connection: the API server keeps some for its next request."""
        for connection in tuple(self._open):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def connect(self, asked: socketserver.StreamRequestHandler) -> None:
        """One `CONNECT ADDRESS:PORT`, from its request to its end."""
        address = asked.rfile.readline().split()[1].decode()
        while asked.rfile.readline().strip():
            pass
        port = self.ports.get(int(address.rpartition(":")[2]))
        if port is None:
            asked.wfile.write(b"HTTP/1.1 502 Bad Gateway\r\n\r\n")
            return
        with socket.create_connection((loopback.HOST, port)) as upstream:
            both = {asked.connection, upstream}
            self._open |= both
            try:
                asked.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
                back = threading.Thread(target=_copy, args=(upstream, asked.connection))
                back.start()
                _copy(asked.connection, upstream)
                back.join()
            finally:
                self._open -= both


class _Server(socketserver.ThreadingUnixStreamServer):
    """One thread for each connection; all have ended when it is closed."""

    daemon_threads = False
    # A socket with a path refuses whom it has no room for; an API server dials many times at once.
    request_queue_size = 128


def _copy(source: socket.socket, target: socket.socket) -> None:
    """Until one side ends; then the other side ends, too."""
    with suppress(OSError):
        while chunk := source.recv(_CHUNK_BYTES):
            target.sendall(chunk)
    for end in (source, target):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
