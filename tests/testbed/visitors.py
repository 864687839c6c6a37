"""Clients of the mesh: they ask one port of loopback, in plain text or with a workload's identity.

Each is plain Python, not a second Envoy: what lets a request through or turns it away is then the
one Envoy under test.
"""

from __future__ import annotations

import http.client
import socket
import ssl
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.testbed import loopback
from tests.testbed.pki import KeyPair

_TIMEOUT_S = 30.0
# By this protocol name a permissive listener tells the mesh's own TLS from that of applications.
_MESH_PROTOCOL = "istio-http/1.1"


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back; status 0 stands for a connection that was closed without an answer."""

    status: int
    text: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One HTTP request; `host` is what the virtual host is chosen by."""

    host: str = ""
    path: str = "/"
    method: str = "GET"
    headers: Mapping[str, str] = field(default_factory=dict)


class Visitor:
    """Sends requests to one port."""

    def __init__(self, port: int, *, tls: ssl.SSLContext | None = None) -> None:
        self.port = port
        self._tls = tls

    def ask(self, request: Request) -> Answer:
        """One request on a connection of its own, as a new peer would send it."""
        connection = self._connect()
        try:
            return _exchange(connection, request)
        except (ConnectionError, ssl.SSLError, http.client.BadStatusLine):
            return Answer(0)
        finally:
            connection.close()

    def ask_often(self, request: Request, count: int) -> Counter[str]:
        """How often each answer came to `count` requests on one connection, as `status text`."""
        connection = self._connect()
        try:
            answers = (_exchange(connection, request) for _ in range(count))
            return Counter(f"{answer.status} {answer.text}" for answer in answers)
        finally:
            connection.close()

    def say(self, line: str) -> Answer:
        """One line over TCP; what came back is the text, with status 0 when nothing did.

        The line needs more than four letters: a permissive listener waits for as much before it
        takes a connection for plain text.
        """
        try:
            with socket.create_connection((loopback.HOST, self.port), _TIMEOUT_S) as plain:
                wrapped = self._tls.wrap_socket(plain) if self._tls else plain
                with wrapped, wrapped.makefile("rw", encoding="utf-8") as stream:
                    stream.write(f"{line}\n")
                    stream.flush()
                    text = stream.readline().strip()
        except (ConnectionError, ssl.SSLError):
            return Answer(0)
        return Answer(200 if text else 0, text)

    def _connect(self) -> http.client.HTTPConnection:
        if self._tls is None:
            return http.client.HTTPConnection(loopback.HOST, self.port, timeout=_TIMEOUT_S)
        return http.client.HTTPSConnection(
            loopback.HOST, self.port, timeout=_TIMEOUT_S, context=self._tls
        )


def mesh_tls(identity: KeyPair, *, trusted_pem: bytes, folder: Path) -> ssl.SSLContext:
    """TLS as a sidecar speaks it: a client certificate, and a server known by its authority.

    Names are not compared: a workload has a SPIFFE id, not a host name. Python reads the pair from
    files only; they are written to `folder`.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(cadata=trusted_pem.decode())
    identity.write(folder, "identity")
    context.load_cert_chain(folder / "identity.crt", folder / "identity.key")
    context.set_alpn_protocols([_MESH_PROTOCOL])
    return context


def _exchange(connection: http.client.HTTPConnection, request: Request) -> Answer:
    headers = {**request.headers, **({"Host": request.host} if request.host else {})}
    connection.request(request.method, request.path, headers=headers)
    response = connection.getresponse()
    return Answer(response.status, response.read().decode(errors="replace"))
