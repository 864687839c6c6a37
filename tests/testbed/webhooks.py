"""An admission webhook that a real API server asks: a small HTTPS server behind the bed's egress.

The bed sends the API server's calls to webhooks through a proxy's socket where nobody listens
(`clusters.py`). Whoever listens there for a while is asked instead, whatever address is written in
the configuration of the webhook.
"""

from __future__ import annotations

import base64
import contextlib
import json
import socket
import ssl
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.testbed.clusters import Cluster
from tests.testbed.pki import Authority

HOST = "webhook.meshbus.test"
_END_OF_HEAD = b"\r\n\r\n"

Verdict = Callable[[dict[str, Any]], dict[str, Any]]
"""Makes an AdmissionResponse of an AdmissionRequest."""


class Webhook:
    """Answers `AdmissionReview`s for as long as it is open."""

    def __init__(self, cluster: Cluster, verdict: Verdict) -> None:
        self._socket = cluster.folder / "egress.sock"
        self._verdict = verdict
        self._authority = Authority("webhook authority")
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        with tempfile.TemporaryDirectory() as folder:
            self._authority.issue_server("webhook", [HOST]).write(Path(folder), "webhook")
            self._tls.load_cert_chain(Path(folder, "webhook.crt"), Path(folder, "webhook.key"))

    def __enter__(self) -> Webhook:
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self._socket))
        self._listener.listen()
        threading.Thread(target=self._accept, name="webhook", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        # Closing alone would leave the accepting thread where it is.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._socket.unlink()

    @property
    def client_config(self) -> dict[str, str]:
        """What a webhook configuration says of it."""
        bundle = base64.b64encode(self._authority.certificate_pem).decode()
        return {"url": f"https://{HOST}/review", "caBundle": bundle}

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            _read_head(connection)  # CONNECT, from the API server to what it takes for a proxy
            connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            with self._tls.wrap_socket(connection, server_side=True) as secured:
                while True:
                    head, body = _read_head(secured)
                    length = next(
                        int(line.split(b":")[1])
                        for line in head.split(b"\r\n")
                        if line.lower().startswith(b"content-length:")
                    )
                    while len(body) < length:
                        body += secured.recv(65_536)
                    secured.sendall(self._answer(body))

    def _answer(self, body: bytes) -> bytes:
        review = json.loads(body)
        review["response"] = {
            "uid": review["request"]["uid"],
            **self._verdict(review.pop("request")),
        }
        content = json.dumps(review).encode()
        head = (
            f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(content)}"
        )
        return head.encode() + _END_OF_HEAD + content


def _read_head(connection: socket.socket) -> tuple[bytes, bytes]:
    """The head of a request, and what of its body came along."""
    read = b""
    while _END_OF_HEAD not in read:
        chunk = connection.recv(65_536)
        if not chunk:
            raise OSError("the client is gone")
        read += chunk
    head, _, body = read.partition(_END_OF_HEAD)
    return head, body
