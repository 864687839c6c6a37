"""Connections to clusters, kept warm between operations.

A TLS handshake and a discovery cost more than applying a small manifest, so a connection stays for
a while after its last use. It is keyed by a hash of the kubeconfig: another credential, another
connection.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta

from services.chassis.kube.client import KubeClient
from services.chassis.kube.kubeconfigs import parse_kubeconfig
from services.chassis.kube.resources import Resources
from services.chassis.telemetry import redaction
from services.chassis.telemetry.metrics import Metrics
from services.lifecycle.cluster.connections import Connection


@dataclass(slots=True)
class _Kept:
    """A connection, how many use it, and when it goes."""

    connection: Connection
    users: int = 0
    expiry: asyncio.TimerHandle | None = None


@dataclass(slots=True)
class Connections:
    """All connections of one worker."""

    metrics: Metrics
    idle: timedelta
    allow_insecure: bool
    _open: dict[str, _Kept] = field(default_factory=dict)
    _closing: set[asyncio.Task[None]] = field(default_factory=set)

    @asynccontextmanager
    async def use(self, kubeconfig: str) -> AsyncIterator[Connection]:
        """The connection for a kubeconfig's text; its secrets are masked while it is open."""
        key = hashlib.sha256(kubeconfig.encode()).hexdigest()
        kept = self._open.get(key)
        if kept is None:
            kept = _Kept(self._connect(kubeconfig))
            self._open[key] = kept
        if kept.expiry is not None:
            kept.expiry.cancel()
        kept.users += 1
        try:
            yield kept.connection
        finally:
            kept.users -= 1
            if kept.users == 0:
                loop = asyncio.get_running_loop()
                kept.expiry = loop.call_later(self.idle.total_seconds(), self._expire, key)

    async def close(self) -> None:
        for key in list(self._open):
            self._expire(key)
        await asyncio.gather(*self._closing)

    def _connect(self, kubeconfig: str) -> Connection:
        config = parse_kubeconfig(kubeconfig, allow_insecure=self.allow_insecure)
        redaction.register(config.secrets)
        client = KubeClient(config, counted=self.metrics)
        return Connection(client, Resources(client))

    def _expire(self, key: str) -> None:
        connection = self._open.pop(key).connection
        redaction.forget(connection.client.config.secrets)
        task = asyncio.create_task(connection.client.close(), name="close-connection")
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
