"""Topology as its users see it: questions over the service API, and events over HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import http
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import aiohttp

from services.chassis.bus.connection import Bus, connect
from services.chassis.bus.queries import ask
from services.chassis.errors import MeshbusError
from tests.testbed.stack import Stack
from tests.testbed.waiting import eventually

WITHIN = timedelta(seconds=10)


@dataclass(slots=True)
class Follower:
    """An open event stream of one cluster: what its client knows."""

    nodes: dict[str, Any] = field(default_factory=dict)
    edges: dict[str, Any] = field(default_factory=dict)
    findings: dict[str, Any] = field(default_factory=dict)
    drift: dict[str, Any] = field(default_factory=dict)
    info: dict[str, Any] = field(default_factory=dict)
    events: list[tuple[str, Any]] = field(default_factory=list)
    last_id: str = ""
    on_event: Callable[[str, Any], None] | None = None
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    def take(self, name: str, ident: str, data: Any) -> None:
        self.last_id = ident or self.last_id
        self.events.append((name, data))
        if name == "snapshot":
            self.nodes = {node["id"]: node for node in data["nodes"]}
            self.edges = {edge["id"]: edge for edge in data["edges"]}
            self.findings = _by_id(data["findings"])
            self.drift = _by_id(data["drift"])
            self.info = (data["info"] or {}).get("cluster") or {}
        elif name == "delta":
            for part in ("nodes", "edges", "findings", "drift"):
                known = getattr(self, part)
                for key, item in (data.get(part) or {}).items():
                    if item is None:
                        known.pop(key, None)
                    else:
                        known[key] = item
            self.info = (data.get("info") or {}).get("cluster") or self.info
        if self.on_event is not None:
            self.on_event(name, data)
        self._changed.set()

    async def until(self, what: Callable[[Follower], Any], *, within_s: float = 60.0) -> Any:
        """What `what` says of what is known, as soon as that is true."""
        async with asyncio.timeout(within_s):
            while not (found := what(self)):
                self._changed.clear()
                await self._changed.wait()
        return found

    def named(self, **fields: str) -> list[Any]:
        """Nodes that have these fields."""
        wanted = fields.items()
        return [n for n in self.nodes.values() if all(n.get(k) == v for k, v in wanted)]


def _by_id(found: Any) -> dict[str, Any]:
    return (
        dict(found) if isinstance(found, dict) else {str(i): item for i, item in enumerate(found)}
    )


@dataclass(slots=True)
class Seeing:
    """One topology worker of a stack."""

    stack: Stack
    bus: Bus
    name: str = "topology"

    @property
    def url(self) -> str:
        return self.stack.health_url(self.name)

    async def ask(self, verb: str, **question: Any) -> Any:
        """The answer of `mesh.topology.<verb>`; raises what it answered with."""
        return await ask(self.bus, question, service="topology", verb=verb, within=WITHIN)

    async def watched(self, cluster: str, *, within_s: float = 60.0) -> None:
        """Until the cluster is watched."""
        await eventually(
            lambda: self.is_watched(cluster), what=f"{cluster} to be watched", within_s=within_s
        )

    async def is_watched(self, cluster: str) -> bool:
        with contextlib.suppress(MeshbusError):
            known = (await self.ask("clusters"))["clusters"]
            return any(c["cluster"] == cluster and c["state"] == "watching" for c in known)
        return False

    @contextlib.asynccontextmanager
    async def following(
        self, cluster: str, *, view: str = "versionedApp", after: str = ""
    ) -> AsyncIterator[Follower]:
        """An open event stream for the block, once the replica has the cluster's graph."""
        follower = Follower()
        query = {"cluster": cluster, "graphType": view} | ({"after": after} if after else {})
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None)) as session,
            await self._opened(session, query) as response,
        ):
            assert response.status == 200, await response.text()
            reading = asyncio.create_task(_read(response, follower), name="sse")
            try:
                yield follower
            finally:
                reading.cancel()
                await asyncio.gather(reading, return_exceptions=True)

    async def _opened(
        self, session: aiohttp.ClientSession, query: dict[str, str]
    ) -> aiohttp.ClientResponse:
        answers: list[aiohttp.ClientResponse] = []

        async def is_open() -> bool:
            answer = await session.get(f"{self.url}/api/events", params=query)
            if answer.status == http.HTTPStatus.NOT_FOUND:
                answer.release()
                return False
            answers.append(answer)
            return True

        await eventually(is_open, what="the replica to have the cluster")
        return answers[0]

    async def get(self, path: str) -> tuple[int, str]:
        async with aiohttp.ClientSession() as session, session.get(f"{self.url}{path}") as answer:
            return answer.status, await answer.text()


async def _read(response: aiohttp.ClientResponse, follower: Follower) -> None:
    """Server-Sent Events: https://html.spec.whatwg.org/multipage/server-sent-events.html."""
    name, ident, data = "message", "", ""
    pending = b""
    async for chunk in response.content.iter_any():
        *lines, pending = (pending + chunk).split(b"\n")
        for line in map(bytes.decode, lines):
            field_name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if not line:
                if data:
                    follower.take(name, ident, json.loads(data))
                name, ident, data = "message", "", ""
            elif field_name == "event":
                name = value
            elif field_name == "id":
                ident = value
            elif field_name == "data":
                data += value


@contextlib.asynccontextmanager
async def seeing(stack: Stack, *, name: str = "topology") -> AsyncIterator[Seeing]:
    """As a person with the rights of the operator."""
    bus = await connect(stack.settings("operator"), service="operator")
    try:
        yield Seeing(stack, bus, name)
    finally:
        await bus.close()
