"""Runs over HTTP, on the port of health and metrics: `/runs/ID`, with `.png`, `.json` and others.

What is shown holds no secret, and the port is the machine's own unless a setting opens it. Pages
are drawn when they are asked for, one at a time: each takes a process and a second or two.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import orjson
from aiohttp import web

from services.chassis.bus.subjects import token
from services.chassis.errors import MeshbusError
from services.perf.adapters.drawing import drawn
from services.perf.comparison.comparing import compare
from services.perf.measurements.measurements import Measurement
from services.perf.results.exports import hdr_log
from services.perf.results.fortio import fortio_result
from services.perf.results.smp import smp_result
from services.perf.results.templates import template
from services.perf.runs.store import RunStore

_MOST_RUNS = 200
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    )
}
"""A run's page is one file that people pass on: its styles are inside, and nothing else is."""


@dataclass(slots=True)
class Pages:
    """Answers requests for pages."""

    store: RunStore
    _drawing: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """One page; 404 for what is not there."""
        parts = request.path.strip("/").split("/")
        try:
            match parts:
                case [""] | ["runs"]:
                    return await self._list()
                case ["runs", name]:
                    return await self._run(name, request.query.get("before", ""))
        except MeshbusError as error:
            raise web.HTTPServiceUnavailable(text=f"{error}\n") from None
        raise web.HTTPNotFound(text="there is no such page\n")

    async def _list(self) -> web.Response:
        runs = (await self.store.runs())[:_MOST_RUNS]
        text = template("runs.html").render(runs=runs)
        return web.Response(text=text, content_type="text/html", headers=_HEADERS)

    async def _run(self, name: str, before: str) -> web.Response:
        run, _, form = name.partition(".")
        measurement = await self._measurement(run)
        write = _FORMS.get(form)
        if write is not None:
            return await write(measurement)
        if form not in ("", "html", "png"):
            raise web.HTTPNotFound(text=f"a run has no form {form[:32]!r}\n")
        comparison = None
        if before:
            earlier = await self._measurement(before)
            comparison = await asyncio.to_thread(compare, [earlier], [measurement])
        async with self._drawing:
            page = await drawn(measurement, "png" if form == "png" else "html", comparison)
        if form == "png":
            return web.Response(body=page, content_type="image/png")
        return web.Response(body=page, content_type="text/html", charset="utf-8", headers=_HEADERS)

    async def _measurement(self, run: str) -> Measurement:
        found = await self.store.measurement(run) if token(run) == run else None
        if found is None:
            raise web.HTTPNotFound(text=f"there is no result of a run {run[:64]!r}\n")
        return found


async def _fortio(measurement: Measurement) -> web.Response:
    return _as_json(fortio_result(measurement))


async def _smp(measurement: Measurement) -> web.Response:
    return _as_json(smp_result(measurement, details_uri=f"/runs/{measurement.run}.json"))


async def _hdr(measurement: Measurement) -> web.Response:
    return web.Response(text=await asyncio.to_thread(hdr_log, measurement))


def _as_json(value: object) -> web.Response:
    body = orjson.dumps(value, option=orjson.OPT_INDENT_2)
    return web.Response(body=body, content_type="application/json")


_FORMS: dict[str, Callable[[Measurement], Awaitable[web.Response]]] = {
    "json": _fortio,
    "smp": _smp,
    "hdr": _hdr,
}
