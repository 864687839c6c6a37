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


@dataclass(slots=True)
class Connection:
    """One cluster through one credential."""

    client: KubeClient
    resources: Resources
    users: int = 0
    expiry: asyncio.TimerHandle | None = None
    uid: str = ""

    async def identity(self) -> str:
        """The cluster's own identity, whatever its address: the UID of kube-system."""
        if not self.uid:
            namespace = await self.client.get(
                "/api/v1/namespaces/kube-system", subject="Namespace kube-system"
            )
            self.uid = str(namespace["metadata"]["uid"])
        return self.uid


@dataclass(slots=True)
class Connections:
    """All connections of one worker."""

    metrics: Metrics
    idle: timedelta
    allow_insecure: bool
    _open: dict[str, Connection] = field(default_factory=dict)
    _closing: set[asyncio.Task[None]] = field(default_factory=set)

    @asynccontextmanager
    async def use(self, kubeconfig: str) -> AsyncIterator[Connection]:
        """The connection for a kubeconfig's text; its secrets are masked while it is open."""
        key = hashlib.sha256(kubeconfig.encode()).hexdigest()
        connection = self._open.get(key)
        if connection is None:
            connection = self._connect(kubeconfig)
            self._open[key] = connection
        if connection.expiry is not None:
            connection.expiry.cancel()
        connection.users += 1
        try:
            yield connection
        finally:
            connection.users -= 1
            if connection.users == 0:
                loop = asyncio.get_running_loop()
                connection.expiry = loop.call_later(self.idle.total_seconds(), self._expire, key)

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
        connection = self._open.pop(key)
        redaction.forget(connection.client.config.secrets)
        task = asyncio.create_task(connection.client.close(), name="close-connection")
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
