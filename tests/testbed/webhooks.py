"""An admission webhook that a real API server asks: a small HTTPS server on loopback."""

from __future__ import annotations

import base64
import json
import ssl
import tempfile
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.testbed import loopback
from tests.testbed.pki import Authority

Verdict = Callable[[dict[str, Any]], dict[str, Any]]
"""Makes an AdmissionResponse of an AdmissionRequest."""


class Webhook:
    """Answers `AdmissionReview`s for as long as it is open, at an address that it has before."""

    def __init__(self, verdict: Verdict) -> None:
        self._port = loopback.take_port()
        self._verdict = verdict
        self._authority = Authority("webhook authority")

    def __enter__(self) -> Webhook:
        verdict = self._verdict

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                review = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                request = review.pop("request")
                review["response"] = {"uid": request["uid"], **verdict(request)}
                content = json.dumps(review).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                """Says nothing."""

        self._server = ThreadingHTTPServer((loopback.HOST, self._port), Handler)
        self._server.socket = self._tls().wrap_socket(self._server.socket, server_side=True)
        threading.Thread(target=self._server.serve_forever, name="webhook", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def client_config(self) -> dict[str, str]:
        """What a webhook configuration says of it."""
        bundle = base64.b64encode(self._authority.certificate_pem).decode()
        return {"url": f"https://{loopback.HOST}:{self._port}/review", "caBundle": bundle}

    def _tls(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        with tempfile.TemporaryDirectory() as folder:
            self._authority.issue_server("webhook", [loopback.HOST]).write(Path(folder), "webhook")
            context.load_cert_chain(Path(folder, "webhook.crt"), Path(folder, "webhook.key"))
        return context
