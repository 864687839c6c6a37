"""A real gateway process on a real NATS, with a test in the place of the workers."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import orjson
import pytest

from deploy.local.servers import NatsServer
from deploy.nats.permissions import User
from services.chassis.bus import envelopes, subjects
from services.chassis.bus.connection import Bus, connect
from services.chassis.bus.publishing import Published, Publisher
from services.chassis.bus.records import Bucket, Records
from services.chassis.bus.streams import call_api
from services.chassis.kube.kubeconfigs import parse_kubeconfig
from services.chassis.messages import (
    AdvertisedOperation,
    Category,
    Command,
    Event,
    OperationRecord,
    OperationState,
    Phase,
    ServiceCatalog,
    SlotKind,
)
from tests.testbed import loopback
from tests.testbed.generations import Generation, GenerationClient, MessageStream
from tests.testbed.stack import Stack

PATIENCE_S = 60.0

CATALOG = ServiceCatalog(
    service="lifecycle",
    operations=[
        AdvertisedOperation(
            name="istio",
            description="Istio Service Mesh",
            category=Category.INSTALL,
            slot=SlotKind.MESH,
        ),
        AdvertisedOperation(
            name="custom",
            description="Custom YAML",
            category=Category.CUSTOM,
            slot=SlotKind.APPLY,
        ),
        AdvertisedOperation(
            name="bookinfo",
            description="Istio Book Info Application",
            category=Category.SAMPLE_APPLICATION,
            slot=SlotKind.APPLY,
            stays_in_namespace=True,
        ),
    ],
    versions=["1.31.0", "1.30.2"],
)


def pem(label: str, text: str) -> str:
    """Base64 of something that has the form of PEM."""
    body = base64.b64encode(text.encode()).decode()
    return base64.b64encode(
        f"-----BEGIN {label}-----\n{body}\n-----END {label}-----\n".encode()
    ).decode()


def kubeconfig(name: str, *, token: str = "a-token-of-no-use", labels: str = "{}") -> str:
    """A kubeconfig of a cluster that nobody needs to reach."""
    return f"""\
apiVersion: v1
kind: Config
current-context: {name}
contexts:
- name: {name}
  context:
    cluster: {name}
    user: {name}
    extensions: [{{name: meshbus.io/labels, extension: {labels}}}]
clusters:
- name: {name}
  cluster:
    server: https://{name}.example.invalid:6443
    certificate-authority-data: {pem("CERTIFICATE", name)}
users:
- name: {name}
  user: {{token: {token}}}
"""


def cluster_of(name: str) -> str:
    """The token of `kubeconfig(name)`'s cluster."""
    return parse_kubeconfig(kubeconfig(name)).cluster


@dataclass(slots=True)
class Rig:
    """What a test drives."""

    stack: Stack
    bus: Bus

    @property
    def publisher(self) -> Publisher:
        return Publisher(self.bus)

    @property
    def gateway_pid(self) -> int:
        return self.stack.processes["gateway"].pid

    def bucket(self, name: str) -> Bucket:
        return Bucket(self.bus, name)

    def client(self, generation: str = "F", *, address: str = "") -> GenerationClient:
        return GenerationClient(Generation(generation), address or self.stack.gateway_address)

    def start_gateway(self, settings: Mapping[str, str] | None = None) -> None:
        self.stack.add("gateway", settings=settings)
        self.stack.wait_ready("gateway")

    def restart_gateway(self) -> None:
        self.stack.processes["gateway"].start()
        self.stack.wait_ready("gateway")

    def metric(self, name: str) -> float:
        """A metric of the gateway without labels."""
        text = loopback.fetch(f"{self.stack.health_url('gateway')}/metrics").decode()
        values = [line.split()[1] for line in text.splitlines() if line.startswith(f"{name} ")]
        return float(values[0])

    async def advertise(self, catalog: ServiceCatalog = CATALOG) -> None:
        await Records(self.bucket("catalog"), ServiceCatalog).put(catalog.service, catalog)

    async def tell(self, operation: str, number: int, summary: str = "") -> Published:
        """An event as a worker would publish it."""
        return await self.publisher.event(event(operation, number, summary))

    async def tell_many(self, operation: str, numbers: range, *, details: str = "") -> None:
        """Events in order, without waiting for each to be stored."""
        for number in numbers:
            told = event(operation, number).model_copy(update={"details": details})
            await self.bus.client.publish(
                subjects.event(service="lifecycle", cluster=told.cluster, operation=operation),
                told.model_dump_json().encode(),
            )
        await self.bus.client.flush()

    async def end_part(self, operation: str, cluster: str, *, summary: str = "") -> None:
        """What a worker does when it has run a command: the record, and the message is gone.

        With `summary` the record holds a final event, as workers' records do.
        """
        final = None
        if summary:
            done = event(operation, 99, summary)
            final = done.model_copy(update={"phase": Phase.DONE, "cluster": cluster})
        record = OperationRecord(
            operation=operation,
            kind="custom",
            cluster=cluster,
            state=OperationState.SUCCEEDED,
            worker="test",
            final=final,
        )
        await Records(self.bucket("ops"), OperationRecord).put(
            subjects.operation_key(operation, cluster), record
        )
        for subject in await self.commands():
            if cluster in subject:
                await call_api(self.bus.client, "STREAM.PURGE.CMD", {"filter": subject})

    async def commands(self) -> list[str]:
        """Subjects of the commands that are queued."""
        answer = await call_api(self.bus.client, "STREAM.INFO.CMD", {"subjects_filter": ">"})
        return sorted((answer.get("state") or {}).get("subjects") or {})

    async def stored_command(self, subject: str) -> Command:
        """The command that is queued there."""
        message = await self.bus.client.jetstream().get_last_msg("CMD", subject)
        body, headers = message.data or b"", message.headers
        return envelopes.decode(Command, body, headers, keys=self.stack.keys)

    async def published(self) -> int:
        """How many commands were ever stored."""
        answer = await call_api(self.bus.client, "STREAM.INFO.CMD", {})
        return int(answer["state"]["last_seq"])

    async def events_of(self, operation: str) -> list[Event]:
        """The stored events of an operation, in order."""
        answer = await call_api(
            self.bus.client,
            "STREAM.INFO.EVT",
            {"subjects_filter": f"evt.*.*.{subjects.token(operation)}"},
        )
        context = self.bus.client.jetstream()
        found: dict[int, Event] = {}
        for subject in answer["state"].get("subjects") or {}:
            sequence = 1
            while True:
                body = {"seq": sequence, "next_by_subj": subject}
                stored = await call_api(self.bus.client, "STREAM.MSG.GET.EVT", body)
                if "error" in stored:
                    break
                sequence = int(stored["message"]["seq"])
                message = await context.get_msg("EVT", sequence)
                found[sequence] = Event.model_validate(orjson.loads(message.data or b""))
                sequence += 1
        return [found[sequence] for sequence in sorted(found)]

    async def ask(self, verb: str, question: dict[str, Any]) -> Any:
        """Asks the gateway over the service API."""
        reply = await self.bus.client.request(
            f"mesh.gateway.{verb}", orjson.dumps(question), timeout=PATIENCE_S
        )
        code = (reply.headers or {}).get("Nats-Service-Error-Code")
        return {"code": code} if code else orjson.loads(reply.data)


def event(operation: str, number: int, summary: str = "") -> Event:
    return Event(
        operation=operation,
        kind="custom",
        service="lifecycle",
        cluster="acluster",
        sequence=number,
        phase=Phase.NOTE,
        summary=summary or f"step {number}",
    )


async def eventually(check: Any, *, what: str) -> Any:
    """The first true answer of the coroutine function `check`."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            answer = await check()
            if answer:
                return answer
            await asyncio.sleep(0.02)
    raise AssertionError(what)


async def opened(client: GenerationClient) -> MessageStream:
    """A stream that the gateway is serving: its headers have come."""
    stream = client.stream("StreamEvents")
    async with asyncio.timeout(PATIENCE_S):
        await stream.call.initial_metadata()
    return stream


async def heard(stream: MessageStream, count: int) -> list[Any]:
    """The next `count` events of a stream."""
    async with asyncio.timeout(PATIENCE_S):
        return [await anext(stream) for _ in range(count)]


async def ending(stream: MessageStream) -> grpc.aio.AioRpcError:
    """The error that a stream ends with, after whatever it still holds."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await remaining(stream, [])
    return caught.value


async def remaining(stream: MessageStream, found: list[str]) -> None:
    """Collects the summaries of what is left of a stream, until it ends with its error."""
    async with asyncio.timeout(PATIENCE_S):
        async for told in stream:
            found.append(told.summary)


@asynccontextmanager
async def rigged(
    folder: Path,
    settings: Mapping[str, str] | None = None,
    *,
    nats: Callable[[NatsServer], NatsServer] = lambda usual: usual,
    people: Sequence[User] = (),
) -> AsyncIterator[Rig]:
    """NATS with its streams, and a gateway that is ready.

    `nats` may put a server of another kind, with the same configuration, in the usual one's place.
    """
    stack = Stack(folder, people=people, warm=True)
    stack.nats = nats(stack.nats)
    stack.nats.start()
    try:
        stack.apply_streams()
        bus = await connect(stack.settings("admin"), service="admin")
        rig = Rig(stack, bus)
        try:
            await rig.advertise()
            rig.start_gateway(settings)
            yield rig
        finally:
            await bus.close()
    finally:
        stack.stop()
    assert stack.refusals("gateway") == [], "NATS refused what the gateway needs"
