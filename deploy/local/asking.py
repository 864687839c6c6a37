"""`make apply`: one operation over gRPC, as Meshery would send it, and its events as they come.

For a first try, for scripts, and for whoever wants to know whether it is Meshery or Meshbus that is
wrong. A connection that breaks is made again: the operation goes on meanwhile, and what was told
while nobody listened comes with the next stream.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import grpc
import grpc.aio

from deploy.local.clusters import Candidate
from deploy.local.processes import LaunchError
from proto import meshops_pb2 as pb
from services.chassis.bus.connection import Bus, connect
from services.chassis.bus.queries import ask
from services.chassis.errors import MeshbusError
from services.chassis.settings import ChassisSettings

_SERVICE = "/meshes.MeshService"
_WITHIN = timedelta(seconds=10)
_AGAIN_S = 0.3
_LAST_S = 2.0
_MARKS = {pb.INFO: " ", pb.WARN: "!", pb.ERROR: "✘"}
_SUCCEEDED = "succeeded"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is asked for."""

    operation: str
    """Name of the operation."""
    clusters: Sequence[Candidate]
    version: str = ""
    namespace: str = ""
    body: str = ""
    is_deletion: bool = False


@dataclass(slots=True, kw_only=True)
class Asking:
    """One operation from the call to its end on every cluster."""

    gateway: str
    """host:port."""
    operator: ChassisSettings
    """How NATS is reached as the operator, whom the gateway tells what became of operations."""
    say: Callable[[str], None]
    _began: float = field(default_factory=time.monotonic)
    _heard: list[str] = field(default_factory=list)

    async def run(self, wanted: Wanted) -> bool:
        """Whether it succeeded everywhere; raises `LaunchError` when it was not accepted."""
        ident = str(uuid.uuid4())
        async with self._listening() as events:
            await self._send(wanted, ident)
            self.say(f"{wanted.operation} is accepted as operation {ident}")
            bus = await connect(self.operator, service="operator")
            try:
                async for event in events:
                    if event is not None:
                        self._tell(event, ident)
                    parts = await self._ended(bus, ident)
                    if parts is not None:
                        await self._hear_the_last(events, ident, parts)
                        return self._told(parts)
            finally:
                await bus.close()
        raise AssertionError("the events have no end")

    async def _hear_the_last(
        self, events: AsyncIterator[Any], ident: str, parts: Mapping[str, Any]
    ) -> None:
        """A record ends just before the last event comes, unless that has gone to somebody else."""
        ends = {part["summary"] for part in parts.values()}
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LAST_S):
                while not all(any(told.startswith(end) for told in self._heard) for end in ends):
                    event = await anext(events)
                    if event is not None:
                        self._tell(event, ident)

    async def _send(self, wanted: Wanted, ident: str) -> None:
        request = pb.ApplyRuleRequest(
            opName=wanted.operation,
            namespace=wanted.namespace,
            custom_body=wanted.body,
            delete_op=wanted.is_deletion,
            operation_id=ident,
            version=wanted.version,
            kube_configs=[cluster.text for cluster in wanted.clusters],
        )
        async with grpc.aio.insecure_channel(self.gateway) as channel:
            call: Any = channel.unary_unary(
                f"{_SERVICE}/ApplyOperation",
                request_serializer=pb.ApplyRuleRequest.SerializeToString,
                response_deserializer=pb.ApplyRuleResponse.FromString,
            )
            try:
                answer = await call(request, timeout=_WITHIN.total_seconds())
            except grpc.aio.AioRpcError as error:
                raise LaunchError(error.details() or error.code().name) from None
        if answer.error:
            raise LaunchError(answer.error)

    @asynccontextmanager
    async def _listening(self) -> AsyncIterator[AsyncIterator[Any]]:
        """Events of all operations from now on, and None after each time of silence."""
        queue: asyncio.Queue[Any] = asyncio.Queue()
        opened = asyncio.Event()
        reading = asyncio.create_task(self._read(queue, opened), name="events")

        async def events() -> AsyncIterator[Any]:
            while True:
                yield await queue.get()

        try:
            await asyncio.wait_for(opened.wait(), _WITHIN.total_seconds())
            yield events()
        except TimeoutError:
            raise LaunchError(
                f"no gateway answers at {self.gateway}: is `make up` running?"
            ) from None
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    async def _read(self, queue: asyncio.Queue[Any], opened: asyncio.Event) -> None:
        while True:
            try:
                async with grpc.aio.insecure_channel(self.gateway) as channel:
                    call: Any = channel.unary_stream(
                        f"{_SERVICE}/StreamEvents",
                        request_serializer=pb.EventsRequest.SerializeToString,
                        response_deserializer=pb.EventsResponse.FromString,
                    )
                    stream = call(pb.EventsRequest())
                    await stream.initial_metadata()
                    if opened.is_set():
                        self.say("the gateway is back")
                        # The end may have been told to nobody, and long ago.
                        queue.put_nowait(None)
                    opened.set()
                    async for event in stream:
                        queue.put_nowait(event)
            except grpc.aio.AioRpcError as error:
                if opened.is_set() and error.code() is not grpc.StatusCode.UNAVAILABLE:
                    raise
            if opened.is_set():
                await self._wait_for_gateway()
            await asyncio.sleep(_AGAIN_S)

    async def _wait_for_gateway(self) -> None:
        self.say("the gateway is away; the operation goes on when it is back")
        async with grpc.aio.insecure_channel(self.gateway) as channel:
            await channel.channel_ready()

    async def _ended(self, bus: Bus, ident: str) -> dict[str, Any] | None:
        """What became of it on each cluster; None while one of them is not done."""
        asked = {"operation": ident}
        while True:
            try:
                told = await ask(bus, asked, service="gateway", verb="operations", within=_WITHIN)
            except MeshbusError:
                # NATS or the gateway is being started again.
                await asyncio.sleep(_AGAIN_S)
                continue
            parts: dict[str, Any] = told["parts"]
            is_running = any(part is None or part["state"] == "running" for part in parts.values())
            return None if is_running else parts

    def _tell(self, event: Any, ident: str) -> None:
        if event.operation_id != ident:
            return
        self._heard.append(event.summary)
        seconds = time.monotonic() - self._began
        self.say(f"{seconds:8.3f} s {_MARKS.get(event.event_type, ' ')} {event.summary}")
        if event.event_type != pb.INFO and event.details:
            self.say(f"             {event.details}")

    def _told(self, parts: dict[str, Any]) -> bool:
        for part in parts.values():
            name = part["cluster_name"] or part["cluster"]
            error = part.get("error") or {}
            words = f"{part['kind']} on {name}: {part['state']}: {part['summary']}"
            self.say(words)
            if error:
                self.say(f"  {error['code']}: {error['cause']}. What to do: {error['remedy']}")
        return all(part["state"] == _SUCCEEDED for part in parts.values())
