"""Whom the HTTP ports answer: health, metrics and pages are not for foreign sites."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator

import aiohttp
import orjson
import pytest
from aiohttp import web

from services.chassis.health import Health
from services.chassis.telemetry.metrics import Metrics
from tests.testbed import loopback

_PATHS = ["/livez", "/readyz", "/metrics", "/version", "/runs", "/nothing"]


@pytest.fixture
async def url() -> AsyncIterator[str]:
    """A service's port, with a page that sets no header."""

    async def page(request: web.Request) -> web.StreamResponse:
        if request.path == "/runs":
            return web.Response(text="<p>runs</p>", content_type="text/html")
        raise web.HTTPNotFound

    health = Health(service="perf", metrics=Metrics(), is_starting=False)
    health.pages = page
    port = loopback.take_port()
    names = frozenset({"perf.example"})
    runner = await health.serve(host=loopback.HOST, port=port, names=names)
    yield f"http://{loopback.HOST}:{port}"
    await runner.cleanup()


@pytest.mark.parametrize("path", _PATHS)
@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "attacker.example"},
        {"Host": "attacker.example:9113"},
        {"Host": "127.0.0.1.attacker.example"},
        {"Host": "localhost.attacker.example"},
        {"Host": ""},
        {"Host": "[::1"},
        {"Origin": "https://attacker.example"},
    ],
    ids=str,
)
async def test_foreign_names_are_refused(url: str, path: str, headers: dict[str, str]) -> None:
    async with aiohttp.ClientSession() as client, client.get(url + path, headers=headers) as told:
        assert told.status in (400, 403)
        if told.status == 403:
            assert "MESHBUS_HTTP_HOSTS" in (await told.text()) or "Origin" in headers


@pytest.mark.parametrize(
    "host", ["localhost:9113", "a.localhost", "10.1.2.3:9113", "[fd00::1]", "PERF.example"]
)
async def test_own_names_are_answered(url: str, host: str) -> None:
    async with aiohttp.ClientSession() as client:
        for name in (host, socket.gethostname()):
            async with client.get(url + "/livez", headers={"Host": name}) as told:
                assert told.status == 200


@pytest.mark.parametrize("path", _PATHS)
async def test_every_answer_has_the_headers(url: str, path: str) -> None:
    async with aiohttp.ClientSession() as client, client.get(url + path) as told:
        assert "frame-ancestors 'none'" in told.headers["Content-Security-Policy"]
        assert told.headers["X-Content-Type-Options"] == "nosniff"
        assert told.headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert told.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"])
async def test_nothing_is_changed_here(url: str, method: str) -> None:
    async with aiohttp.ClientSession() as client, client.request(method, url + "/metrics") as told:
        assert told.status == 405
        assert orjson.loads(await told.read())["code"] == "MB-1001"
