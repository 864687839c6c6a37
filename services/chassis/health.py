"""Health over HTTP: `/livez`, `/readyz`, `/metrics`, `/version`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Set
from dataclasses import dataclass, field

from aiohttp import web

from services.chassis.bus.connection import Bus
from services.chassis.errors import MeshbusError
from services.chassis.http.serving import guarded
from services.chassis.messages.models import VERSION
from services.chassis.telemetry.metrics import Metrics

_LAG_PERIOD_S = 1.0
_LONGEST_LAG_S = 15.0

Page = Callable[[web.Request], Awaitable[web.StreamResponse]]
Check = Callable[[], Awaitable[str]]
"""Returns "" when all is well, else what is wrong."""


@dataclass(slots=True)
class Health:
    """The health, metrics and pages of one service."""

    service: str
    metrics: Metrics
    checks: dict[str, Check] = field(default_factory=dict)
    notes: dict[str, Check] = field(default_factory=dict)
    """What is wrong without keeping the service from its work; `/readyz` tells it."""
    is_starting: bool = True
    """Until the service's own parts are up: what listens for health alone takes no work."""
    is_draining: bool = False
    pages: Page | None = None
    """Answers all other addresses, once the service's own parts are up."""
    posts: Set[str] = frozenset()
    """Those of them that something may be posted to."""
    _lag_s: float = 0.0

    def check_bus(self, bus: Bus) -> None:
        async def answers() -> str:
            try:
                await bus.rtt_s()
            except MeshbusError as error:
                return error.summary
            return ""

        self.checks["nats"] = answers

    async def problems(self) -> dict[str, str]:
        """The reasons why the service takes no work, by the check's name."""
        found = {name: await check() for name, check in self.checks.items()}
        if self.is_starting:
            found["start"] = "the service is starting"
        if self.is_draining:
            found["drain"] = "the service is shutting down"
        return {name: text for name, text in found.items() if text}

    async def watch_loop(self) -> None:
        """Measures how late the event loop runs its timers."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + _LAG_PERIOD_S
            await asyncio.sleep(_LAG_PERIOD_S)
            self._lag_s = max(0.0, loop.time() - due)

    async def _livez(self, _request: web.Request) -> web.Response:
        if self._lag_s > _LONGEST_LAG_S:
            return web.Response(status=503, text=f"the event loop is {self._lag_s:.0f} s late\n")
        return web.Response(text="ok\n")

    async def _readyz(self, _request: web.Request) -> web.Response:
        problems = await self.problems()
        text = "".join(f"{name}: {problem}\n" for name, problem in problems.items()) or "ok\n"
        told = {name: await note() for name, note in self.notes.items()}
        text += "".join(f"{name}: {note}\n" for name, note in told.items() if note)
        return web.Response(status=503 if problems else 200, text=text)

    async def _metrics(self, _request: web.Request) -> web.Response:
        return web.Response(
            body=self.metrics.exposition(),
            headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"},
        )

    async def _version(self, _request: web.Request) -> web.Response:
        return web.json_response({"service": self.service, "version": VERSION})

    async def _other(self, request: web.Request) -> web.StreamResponse:
        if self.pages is None or self.is_draining:
            raise web.HTTPNotFound(text="there is no such page\n")
        return await self.pages(request)

    async def serve(self, *, host: str, port: int, names: Set[str] = frozenset()) -> web.AppRunner:
        """Starts listening, also for requests to `names`; the caller cleans the runner up."""
        application = guarded(names, lambda path: path in self.posts)
        application.add_routes(
            [
                web.get("/livez", self._livez),
                web.get("/readyz", self._readyz),
                web.get("/metrics", self._metrics),
                web.get("/version", self._version),
                web.get("/{page:.*}", self._other),
                web.post("/{page:.*}", self._other),
            ]
        )
        runner = web.AppRunner(application, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, host, port).start()
        return runner
