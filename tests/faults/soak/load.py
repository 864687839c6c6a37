"""The steady load of a soak: operations of all kinds, each until its end, on one cluster each.

Every operation keeps its id until the gateway has answered, however often it is asked: what counts
as accepted is what a client was told. Some are asked for twice with one id, as a double click does.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import secrets
import time
import uuid
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import grpc

from services.chassis.kube.kubeconfigs import parse_kubeconfig
from tests.testbed.bodies import config_map
from tests.testbed.meshery import Meshery, Received

CANARY = f"canary-{secrets.token_hex(12)}"
"""Stands in every Secret that the load applies, and may be found nowhere but in the cluster."""

_PAUSE_S = 0.5
_ANSWER_WITHIN_S = 120.0
_END_WITHIN_S = 600.0
_TWICE_EVERY = 7
# What a client that is not answered tries again; anything else is the gateway's word.
_AWAY = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """An operation that a client was told is accepted."""

    operation: str
    kind: str
    cluster: str
    seconds: float
    """From the first call to the answer, faults included."""


@dataclass(slots=True, kw_only=True)
class Ledger:
    """What the clients asked for and were told."""

    accepted: list[Accepted] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)
    """Refusals by their code: the cluster's mesh was busy, the request was wrong."""
    heard: Counter[str] = field(default_factory=Counter)
    """Final events that came over the client's stream, by operation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One ApplyOperation."""

    name: str
    body: str = ""
    namespace: str = "default"
    delete: bool = False


def requests_of(
    chance: random.Random, *, namespace: str, target: str
) -> Mapping[str, Callable[[str], Sequence[Request]]]:
    """The kinds of work by name: what one round of it asks for, for an object's name that is free.

    All is done in `namespace`; load tests are sent to the URL `target`.
    """

    def there_and_back(name: str, body: str = "") -> Sequence[Request]:
        asked = Request(name=name, namespace=namespace, body=body)
        return asked, replace(asked, delete=True)

    def objects(name: str) -> Sequence[Request]:
        return there_and_back("custom", config_map(name, value=str(chance.random())))

    def secret(name: str) -> Sequence[Request]:
        body = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": name},
            "stringData": {"password": CANARY},
        }
        return there_and_back("custom", json.dumps(body))

    def split(name: str) -> Sequence[Request]:
        return there_and_back("custom", _split(name, first=chance.randrange(1, 100)))

    def labels(_name: str) -> Sequence[Request]:
        return there_and_back("label-namespace")

    def sample(_name: str) -> Sequence[Request]:
        return there_and_back("httpbin")

    def mesh(_name: str) -> Sequence[Request]:
        return (Request(name="istio"),)

    def load(name: str) -> Sequence[Request]:
        client = {
            "load_generator": "fortio",
            "protocol": 1,
            "connections": 2,
            "rps": 20,
            "endpoint_urls": [target],
        }
        body = {"test": {"name": name, "duration": "3s", "clients": [client]}}
        return (Request(name="performance-test", body=json.dumps(body)),)

    def nonsense(_name: str) -> Sequence[Request]:
        return (
            Request(name="custom", body="kind: [broken"),
            Request(name="no-such-operation"),
        )

    return {
        "objects": objects,
        "secret": secret,
        "split": split,
        "labels": labels,
        "sample": sample,
        "mesh": mesh,
        "load": load,
        "nonsense": nonsense,
    }


@dataclass(slots=True, kw_only=True)
class Load:
    """Asks for one kind after the other, in lanes side by side, until it is told to end."""

    meshery: Meshery
    kubeconfigs: Sequence[str]
    chance: random.Random
    target: str
    ledger: Ledger = field(default_factory=Ledger)
    is_ending: asyncio.Event = field(default_factory=asyncio.Event)
    _ends: dict[str, asyncio.Event] = field(default_factory=dict)

    async def run(self, *, namespaces: Sequence[str]) -> None:
        """One lane for each namespace, until `is_ending` is set and each has ended its round."""
        self.meshery.listeners.append(self._hear)
        async with asyncio.TaskGroup() as group:
            for namespace in namespaces:
                group.create_task(self._lane(namespace, random.Random(self.chance.random())))

    async def _lane(self, namespace: str, chance: random.Random) -> None:
        kinds = requests_of(chance, namespace=namespace, target=self.target)
        while not self.is_ending.is_set():
            kind = chance.choice(sorted(kinds))
            kubeconfig = chance.choice(self.kubeconfigs)
            for request in kinds[kind](f"soak-{secrets.token_hex(5)}"):
                await self._ask(request, kind, kubeconfig)
            await asyncio.sleep(_PAUSE_S)

    async def _ask(self, request: Request, kind: str, kubeconfig: str) -> None:
        """One operation from its first call to its end."""
        operation = str(uuid.uuid4())
        ended = self._ends[operation] = asyncio.Event()
        began = time.monotonic()
        try:
            await self._answered(request, operation, kubeconfig)
        except grpc.aio.AioRpcError as error:
            self.ledger.refused[error.code().name] += 1
            return
        self.ledger.accepted.append(
            Accepted(
                operation=operation,
                kind=kind,
                cluster=parse_kubeconfig(kubeconfig).cluster,
                seconds=time.monotonic() - began,
            )
        )
        if len(self.ledger.accepted) % _TWICE_EVERY == 0:
            with contextlib.suppress(grpc.aio.AioRpcError):  # its twin has an answer
                await self._answered(request, operation, kubeconfig)
        async with asyncio.timeout(_END_WITHIN_S):
            await ended.wait()

    async def _answered(self, request: Request, operation: str, kubeconfig: str) -> None:
        """Asks with one id until there is an answer; raises the gateway's refusal."""
        async with asyncio.timeout(_ANSWER_WITHIN_S):
            while True:
                try:
                    await self.meshery.apply(
                        request.name,
                        body=request.body,
                        namespace=request.namespace,
                        delete=request.delete,
                        operation=operation,
                        kubeconfigs=[kubeconfig],
                    )
                    return
                except grpc.aio.AioRpcError as error:
                    if error.code() not in _AWAY:
                        raise
                await asyncio.sleep(_PAUSE_S)

    def _hear(self, received: Received) -> None:
        """Counts final events, and forgets the others: hours of them would fill the memory."""
        if received.is_final:
            operation = received.event.operation_id
            self.ledger.heard[operation] += 1
            if ended := self._ends.get(operation):
                ended.set()
        self.meshery.events.clear()


def _split(name: str, *, first: int) -> str:
    """An SMI TrafficSplit with the Services that it names, as one manifest."""
    services = [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": service},
            "spec": {"ports": [{"name": "http", "port": 80}], "selector": {"app": service}},
        }
        for service in (name, f"{name}-v1", f"{name}-v2")
    ]
    split = {
        "apiVersion": "split.smi-spec.io/v1alpha4",
        "kind": "TrafficSplit",
        "metadata": {"name": name},
        "spec": {
            "service": name,
            "backends": [
                {"service": f"{name}-v1", "weight": first},
                {"service": f"{name}-v2", "weight": 100 - first},
            ],
        },
    }
    return "\n---\n".join(json.dumps(document) for document in (*services, split))
