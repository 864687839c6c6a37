"""A real Jaeger on loopback: traces go in by OTLP and are asked for by its query API."""

from __future__ import annotations

import urllib.error
import urllib.parse
from pathlib import Path
from typing import Any

from tests.testbed import building, loopback
from tests.testbed.processes import Process, wait_until


class Jaeger:
    """All of Jaeger in one process that keeps its traces in memory."""

    def __init__(self, folder: Path) -> None:
        """Chooses ports; nothing runs before `start`."""
        self.folder = folder.resolve()
        self._otlp_http, self._query, self._admin = (_address() for _ in range(3))
        self._otlp_grpc = _address()
        self.otlp_http_endpoint = f"http://{self._otlp_http}"
        self.otlp_grpc_endpoint = f"http://{self._otlp_grpc}"
        self.query_url = f"http://{self._query}"
        self.process = Process(
            "jaeger",
            [building.binary("jaeger"), *self._flags()],
            log=self.folder / "jaeger.log",
            environment={"SPAN_STORAGE_TYPE": "memory"},
        )

    def __enter__(self) -> Jaeger:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Starts Jaeger and waits until it takes and answers."""
        self.process.start()
        try:
            wait_until(self._is_healthy, timeout_s=20.0, what="Jaeger", processes=[self.process])
        except BaseException:
            self.process.kill()
            raise

    def stop(self) -> None:
        """Ends Jaeger; its traces are gone."""
        # Nothing is worth an orderly end: the memory is all there is.
        self.process.kill()

    def services(self) -> list[str]:
        """Names of the services that have sent spans."""
        return list(self._ask("/api/services") or [])

    def traces(self, *, service: str, limit: int = 100) -> list[dict[str, Any]]:
        """Newest traces in which this service took part, in Jaeger's JSON."""
        query = urllib.parse.urlencode({"service": service, "limit": limit})
        return list(self._ask(f"/api/traces?{query}") or [])

    def trace(self, trace_id: str) -> dict[str, Any] | None:
        """One trace by its hexadecimal id, or None while Jaeger does not know it."""
        try:
            found = self._ask(f"/api/traces/{trace_id}")
        except urllib.error.HTTPError as error:
            with error:
                if error.code == 404:
                    return None
            raise
        return dict(found[0]) if found else None

    def _ask(self, path: str) -> Any:
        return loopback.fetch_json(self.query_url + path)["data"]

    def _is_healthy(self) -> bool:
        self.services()  # an OSError while the query side does not listen yet
        admin = loopback.fetch_json(f"http://{self._admin}/", timeout_s=2.0)
        return bool(admin["status"] == "Server available")

    def _flags(self) -> list[str]:
        # Every listener is named: each default would be a fixed port on all interfaces.
        return [
            "--collector.otlp.enabled=true",
            f"--collector.otlp.http.host-port={self._otlp_http}",
            f"--collector.otlp.grpc.host-port={self._otlp_grpc}",
            f"--collector.http-server.host-port={_address()}",
            f"--collector.grpc-server.host-port={_address()}",
            "--collector.zipkin.host-port=",
            f"--query.http-server.host-port={self._query}",
            f"--query.grpc-server.host-port={_address()}",
            f"--admin.http.host-port={self._admin}",
            "--memory.max-traces=10000",
        ]


def _address() -> str:
    return f"{loopback.HOST}:{loopback.take_port()}"
