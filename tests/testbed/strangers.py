"""An HTTPS server that is whatever a test wants it to be, behind a kubeconfig that trusts it.

It stands in for what a stranger puts behind a kubeconfig: it answers with raw bytes, so that it can
lie about lengths, never end, or send elsewhere. Each connection has a thread of its own: what is
tested may be busy reading.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import socket
import ssl
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import yaml

from tests.testbed import loopback, pki

Reply = Callable[[str], Iterator[bytes]]
"""Makes the raw bytes of an answer, piece by piece, from the request's first line."""


def answer(body: bytes, *, status: str = "200 OK", **headers: str) -> bytes:
    """A whole answer; underscores in names of headers become dashes."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def endless(head: bytes, piece: bytes, *, status: str = "200 OK") -> Iterator[bytes]:
    """An answer in chunks without an end."""
    yield f"HTTP/1.1 {status}\r\nTransfer-Encoding: chunked\r\n".encode()
    yield b"Content-Type: application/json\r\n\r\n"
    yield b"%x\r\n%b\r\n" % (len(head), head)
    chunk = b"%x\r\n%b\r\n" % (len(piece), piece)
    while True:
        yield chunk


def upgraded(key: str, protocol: str) -> bytes:
    """The head by which a server takes up a WebSocket (RFC 6455)."""
    guid = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
    accept = base64.b64encode(hashlib.sha1(f"{key}{guid}".encode()).digest()).decode()
    lines = ["HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade"]
    lines += [f"Sec-WebSocket-Accept: {accept}", f"Sec-WebSocket-Protocol: {protocol}"]
    return "\r\n".join([*lines, "", ""]).encode()


def frame(content: bytes, *, opcode: int = 2) -> bytes:
    """A whole message of a WebSocket from a server, binary where nothing else is said."""
    size = len(content)
    head = bytes([0x80 | opcode])
    if size < 126:
        return head + bytes([size]) + content
    return (
        head
        + (b"\x7e" + size.to_bytes(2, "big") if size < 65536 else b"\x7f" + size.to_bytes(8, "big"))
        + content
    )


class Stranger:
    """Listens within its context; `asked` has the first line of every request."""

    def __init__(self, reply: Reply, *, plain: bool = False) -> None:
        """`plain` is http without TLS."""
        self.port = loopback.take_port()
        self.asked: list[str] = []
        self.sent = 0
        self.socket_key = ""
        """Of the last request for a WebSocket; its connection ends with its answer."""
        self._reply = reply
        self._authority = pki.Authority("stranger")
        self._tls = None if plain else self._context()
        self._listener = socket.create_server((loopback.HOST, self.port))
        self._connections: set[socket.socket] = set()
        self._threads = [threading.Thread(target=self._accept, daemon=True)]

    def __enter__(self) -> Stranger:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        # Who waits in `accept` or in a send is woken by this, and by a close alone is not.
        for each in (self._listener, *tuple(self._connections)):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        for thread in tuple(self._threads):
            thread.join(10.0)
        self._listener.close()

    def kubeconfig(self, server: str = "") -> str:
        """Leads here, or to `server`; with a made-up token."""
        authority = base64.b64encode(self._authority.certificate_pem).decode()
        cluster = {
            "server": server or f"https://{loopback.HOST}:{self.port}",
            "certificate-authority-data": authority,
        }
        document = {
            "current-context": "stranger",
            "contexts": [{"name": "stranger", "context": {"cluster": "c", "user": "u"}}],
            "clusters": [{"name": "c", "cluster": cluster}],
            "users": [{"name": "u", "user": {"token": "made-up"}}],
        }
        return yaml.safe_dump(document)

    def _context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        pair = self._authority.issue_server("api", [loopback.HOST, "localhost"])
        with tempfile.TemporaryDirectory() as folder:
            pair.write(Path(folder), "server")
            context.load_cert_chain(f"{folder}/server.crt", f"{folder}/server.key")
        return context

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self._connections.add(connection)
                thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
                self._threads.append(thread)
                thread.start()

    def _serve(self, connection: socket.socket) -> None:
        plain = connection
        try:
            if self._tls is not None:
                connection = self._tls.wrap_socket(connection, server_side=True)
                self._connections.add(connection)
            self._answer(connection)
        except OSError:
            pass  # the client has seen enough
        finally:
            self._connections -= {plain, connection}
            connection.close()
            plain.close()

    def _answer(self, connection: socket.socket) -> None:
        with connection.makefile("rb") as lines:
            while first := lines.readline().strip().decode("latin-1"):
                length = 0
                while told := lines.readline().strip():
                    line = told.lower()
                    if line.startswith(b"content-length:"):
                        length = int(line.partition(b":")[2])
                    if line.startswith(b"sec-websocket-key:"):
                        self.socket_key = told.partition(b":")[2].strip().decode()
                lines.read(length)
                self.asked.append(first)
                for piece in self._reply(first):
                    connection.sendall(piece)
                    self.sent += len(piece)
                if self.socket_key:
                    return


class Peak:
    """The highest resident size of a process since this was made, above what it was then."""

    def __init__(self, pid: int | str = "self") -> None:
        self._folder = Path(f"/proc/{pid}")
        # Resets the high-water mark (proc_pid_clear_refs(5)).
        (self._folder / "clear_refs").write_text("5")
        self._before = self._resident("VmRSS")

    @property
    def growth_bytes(self) -> int:
        return self._resident("VmHWM") - self._before

    def _resident(self, name: str) -> int:
        lines = (self._folder / "status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))
