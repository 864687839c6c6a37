"""Meshery's side of the gateway: apply an operation, read the stream, wait for its end.

What counts as the end is what Meshery itself can see: an ERROR event, or the summary of success.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc

from tests.testbed.bodies import PURGE
from tests.testbed.clusters import Cluster
from tests.testbed.generations import Generation, GenerationClient

_ERROR = 2
_SUCCESS_MARKS = ("successfully", "label updated", "label removed")
_RECONNECT_S = 0.2
_REACHED_WITHIN_S = 180.0
_AWAY = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)


@dataclass(frozen=True, slots=True)
class Received:
    """One event and when it came, in seconds of the monotonic clock."""

    event: Any
    at: float

    @property
    def is_final(self) -> bool:
        event = self.event
        return event.event_type == _ERROR or any(m in event.summary.lower() for m in _SUCCESS_MARKS)

    @property
    def failed(self) -> bool:
        return bool(self.event.event_type == _ERROR)


@dataclass(slots=True)
class Meshery:
    """One Meshery server with one open event stream, which it opens again when it breaks."""

    address: str
    kubeconfigs: Sequence[str]
    generation: Generation = Generation.G
    events: list[Received] = field(default_factory=list)
    listeners: list[Callable[[Received], None]] = field(default_factory=list)
    connections: int = 0
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _client: GenerationClient | None = None
    _reader: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[Meshery]:
        """Streams events for the block."""
        self._client = GenerationClient(self.generation, self.address)
        self._reader = asyncio.create_task(self._read(), name="event-stream")
        try:
            yield self
        finally:
            self._reader.cancel()
            await asyncio.gather(self._reader, return_exceptions=True)
            await self._client.close()

    @property
    def client(self) -> GenerationClient:
        assert self._client is not None, "not connected"
        return self._client

    async def apply(
        self,
        name: str,
        *,
        body: str = "",
        version: str = "",
        namespace: str = "",
        delete: bool = False,
        operation: str = "",
        kubeconfigs: Sequence[str] | None = None,
    ) -> str:
        """Sends ApplyOperation; returns the operation's id."""
        operation = operation or str(uuid.uuid4())
        answer = await self.client.call(
            "ApplyOperation",
            {
                "opName": name,
                "namespace": namespace,
                "custom_body": body,
                "delete_op": delete,
                "operation_id": operation,
                "version": version,
                "kube_configs": list(self.kubeconfigs if kubeconfigs is None else kubeconfigs),
            },
            timeout_seconds=30.0,
        )
        assert answer.operation_id == operation
        return operation

    async def accepted(self, name: str, *, within_s: float = 60.0, **options: Any) -> str:
        """The same, sent until the gateway has it: while one process follows another, nobody
        listens. One id is for all tries."""
        options.setdefault("operation", str(uuid.uuid4()))
        async with asyncio.timeout(within_s):
            while True:
                try:
                    return await self.apply(name, **options)
                except grpc.aio.AioRpcError as refused:
                    # A call that is in the hands of a process which ends is cut off as cancelled.
                    if refused.code() not in _AWAY:
                        raise
                    await asyncio.sleep(_RECONNECT_S)

    def of(self, operation: str) -> list[Received]:
        """What has come of an operation so far."""
        return [r for r in self.events if r.event.operation_id == operation]

    async def told(self, operation: str, words: str, *, within_s: float = 60.0) -> None:
        """Until an event of the operation has these words in its summary."""
        await self.until(
            lambda: any(words in one.event.summary for one in self.of(operation)),
            within_s=within_s,
        )

    async def finals(
        self, operation: str, *, count: int = 1, within_s: float = 120.0
    ) -> list[Received]:
        """The final events of an operation, one for each cluster."""
        await self.until(lambda: len(self._ends(operation)) >= count, within_s=within_s)
        return self._ends(operation)

    async def until(self, condition: Callable[[], bool], *, within_s: float = 60.0) -> None:
        """Waits for a condition on the events that have come."""
        async with asyncio.timeout(within_s):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def run(self, name: str, **options: Any) -> Received:
        """Applies and waits for the end on one cluster."""
        operation = await self.apply(name, **options)
        return (await self.finals(operation))[0]

    async def broken_at(
        self, point: str, fault: Callable[[], object], *, name: str, **options: Any
    ) -> str:
        """Applies, and lets `fault` happen when an event that begins with `point` comes; returns
        the operation's id once it is over."""
        reached = asyncio.Event()

        def listen(received: Received) -> None:
            if received.event.summary.startswith(point):
                reached.set()

        self.listeners.append(listen)
        try:
            operation = await self.apply(name, **options)
            async with asyncio.timeout(_REACHED_WITHIN_S):
                await reached.wait()
            await asyncio.to_thread(fault)
        finally:
            self.listeners.remove(listen)
        return operation

    def _ends(self, operation: str) -> list[Received]:
        return [r for r in self.of(operation) if r.is_final]

    async def _read(self) -> None:
        while True:
            try:
                async for event in self.client.stream("StreamEvents"):
                    received = Received(event, time.monotonic())
                    self.events.append(received)
                    for listener in self.listeners:
                        listener(received)
                    self._changed.set()
            except grpc.aio.AioRpcError:
                pass
            self.connections += 1
            await asyncio.sleep(_RECONNECT_S)


async def without_istio(meshery: Meshery, cluster: Cluster) -> None:
    """Removes Istio and its namespace from the cluster, through Meshbus, if any of it is there."""
    if not await asyncio.to_thread(_traces_of_istio, cluster):
        return
    kubeconfigs = [cluster.kubeconfig_text]
    final = await meshery.run("istio", delete=True, body=PURGE, kubeconfigs=kubeconfigs)
    assert not final.failed, final.event
    await asyncio.to_thread(
        cluster.kubectl, "delete", "namespace", "istio-system", "--ignore-not-found"
    )


_WHERE_ISTIO_IS = (
    "/api/v1/namespaces",
    "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
    "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations",
    "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations",
    "/apis/rbac.authorization.k8s.io/v1/clusterroles",
    "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
)


def _traces_of_istio(cluster: Cluster) -> list[str]:
    """Names of what an installation leaves outside of its own namespace, and that namespace."""
    return [
        obj["metadata"]["name"]
        for listing in cluster.api.read_all(_WHERE_ISTIO_IS)
        for obj in listing["items"]
        if "istio" in obj["metadata"]["name"]
    ]
