"""An API server that answers wrongly for a while: what is known equals it afterwards.

The faults stand in an API server's place, in front of the real one: bursts of refusals, answers of
something that is no API server, places in a watch that are gone, lines cut in the middle.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass

import pytest
from aiohttp import web

from services.chassis.kube.kubeconfigs import parse_kubeconfig
from tests.testbed.bodies import config_map
from tests.testbed.clusters import Cluster
from tests.testbed.meshery import Meshery
from tests.testbed.seeing import Follower, Seeing, seeing
from tests.testbed.shops import service
from tests.testbed.stack import Stack
from tests.testbed.waiting import eventually
from tests.testbed.wires import ApiWire, Forward

SPACE = "answers"
TIMES = 12
WITHIN_S = 90.0


def status(code: int, reason: str) -> dict[str, object]:
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": f"a fault of the test: {reason}",
        "reason": reason,
        "code": code,
    }


async def _internal(request: web.Request, _: Forward) -> web.StreamResponse:
    return web.json_response(status(500, "InternalError"), status=500)


async def _too_many(request: web.Request, _: Forward) -> web.StreamResponse:
    return web.json_response(
        status(429, "TooManyRequests"), status=429, headers={"Retry-After": "1"}
    )


async def _gone(request: web.Request, _: Forward) -> web.StreamResponse:
    return web.json_response(status(410, "Expired"), status=410)


async def _gone_as_an_event(request: web.Request, _: Forward) -> web.StreamResponse:
    event = {"type": "ERROR", "object": status(410, "Expired")}
    return web.json_response(event, content_type="application/json")


async def _a_page(request: web.Request, _: Forward) -> web.StreamResponse:
    return web.Response(text="<html><body>Please log in</body></html>", content_type="text/html")


async def _a_cut_line(request: web.Request, _: Forward) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    await response.prepare(request)
    await response.write(b'{"type":"ADDED","object":{"kind":"Service","apiVersion":"v1","meta')
    assert request.transport is not None
    request.transport.abort()
    return response


async def _half_an_answer(request: web.Request, forward: Forward) -> web.StreamResponse:
    """The server has carried it out; the client gets the first bytes and then nothing more."""
    whole = await forward()
    assert isinstance(whole, web.Response)
    assert isinstance(whole.body, bytes)
    response = web.StreamResponse(
        status=whole.status,
        headers={"Content-Type": "application/json", "Content-Length": str(len(whole.body))},
    )
    await response.prepare(request)
    await response.write(whole.body[:20])
    assert request.transport is not None
    request.transport.abort()
    return response


def _is_watch(request: web.Request) -> bool:
    return request.query.get("watch") == "true"


def _is_any(request: web.Request) -> bool:
    return request.path not in ("/readyz", "/livez")


def _is_write(request: web.Request) -> bool:
    return request.method == "PATCH"


@dataclass(slots=True)
class Fault:
    """Answers some requests, so many times."""

    answer: Callable[[web.Request, Forward], object]
    concerns: Callable[[web.Request], bool]
    times: int = TIMES
    served: int = 0

    async def __call__(self, request: web.Request, forward: Forward) -> web.StreamResponse:
        if self.served >= self.times or not self.concerns(request):
            return await forward()
        self.served += 1
        return await self.answer(request, forward)  # type: ignore[misc,no-any-return]


@pytest.fixture(scope="module")
def api(cluster: Cluster) -> Iterator[ApiWire]:
    with ApiWire(cluster) as wire:
        cluster.api.create_or_keep("/api/v1/namespaces", {"metadata": {"name": SPACE}})
        yield wire


@pytest.fixture(scope="module")
def watching(built: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    services = ("lifecycle", "translator", "topology", "gateway")
    with Stack(tmp_path_factory.mktemp("answers"), services=services) as stack:
        yield stack


@pytest.fixture
async def client(watching: Stack, api: ApiWire) -> AsyncIterator[Meshery]:
    api.meddle = None
    async with Meshery(watching.gateway_address, [api.kubeconfig_text]).connected() as client:
        yield client
        api.meddle = None


@pytest.fixture
async def seen(watching: Stack, client: Meshery, api: ApiWire) -> AsyncIterator[Seeing]:
    """A topology service that watches the cluster."""
    await client.run("custom", body=config_map("registers", namespace=SPACE))
    await client.run("custom", body=config_map("registers", namespace=SPACE), delete=True)
    async with seeing(watching) as seen:
        await seen.watched(parse_kubeconfig(api.kubeconfig_text).cluster)
        yield seen


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(Fault(_internal, _is_any), id="500"),
        pytest.param(Fault(_too_many, _is_any), id="429", marks=pytest.mark.full),
        pytest.param(Fault(_gone, _is_watch), id="410", marks=pytest.mark.full),
        pytest.param(Fault(_gone_as_an_event, _is_watch), id="410 as an event"),
        pytest.param(Fault(_a_page, _is_any), id="a page for people"),
        pytest.param(Fault(_a_cut_line, _is_watch), id="a cut line"),
    ],
)
async def test_no_object_is_missed(
    fault: Fault, seen: Seeing, api: ApiWire, cluster: Cluster
) -> None:
    token = parse_kubeconfig(api.kubeconfig_text).cluster
    names = [f"missed-{number}" for number in range(6)]
    async with seen.following(token) as follower:
        await _create(cluster, "stays")
        await follower.until(lambda f: _has(f, "stays"))
        fault.served = 0
        api.meddle = fault
        await asyncio.to_thread(api.cut)
        for name in names:
            await _create(cluster, name)
        await _delete(cluster, "stays")
        await eventually(lambda: fault.served >= fault.times, what="the fault", within_s=WITHIN_S)
        await follower.until(
            lambda f: all(_has(f, name) for name in names) and not _has(f, "stays"),
            within_s=WITHIN_S,
        )
        for name in names:
            await _delete(cluster, name)
        await follower.until(lambda f: not any(_has(f, name) for name in names))
        await follower.until(lambda f: f.info["state"] == "watching")


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(Fault(_internal, _is_any, times=4), id="500"),
        pytest.param(Fault(_too_many, _is_write, times=2), id="429"),
        pytest.param(Fault(_half_an_answer, _is_write, times=2), id="half an answer"),
    ],
)
async def test_a_write_outlives_it_and_is_done_once(
    fault: Fault, client: Meshery, api: ApiWire
) -> None:
    fault.served = 0
    api.meddle = fault
    api.written.clear()
    final = await client.run("custom", body=config_map("written", namespace=SPACE))
    assert not final.failed, final.event
    assert fault.served == fault.times
    versions = {w.version for w in api.written if w.path.endswith("/written") and w.code < 300}
    assert len(versions) == 1, api.written
    await client.run("custom", body=config_map("written", namespace=SPACE), delete=True)


async def test_a_page_for_people_in_the_place_of_an_answer_is_told_as_such(
    client: Meshery, api: ApiWire
) -> None:
    api.meddle = Fault(_a_page, _is_write, times=1_000)
    final = await client.run("custom", body=config_map("paged", namespace=SPACE))
    assert final.failed
    assert final.event.error_code.startswith("MB-3"), final.event
    assert "Please log in" not in str(final.event)


def _has(follower: Follower, name: str) -> bool:
    return bool(follower.named(service=name))


async def _create(cluster: Cluster, name: str) -> None:
    path = f"/api/v1/namespaces/{SPACE}/services"
    await asyncio.to_thread(cluster.api.request, "POST", path, service(name, SPACE))


async def _delete(cluster: Cluster, name: str) -> None:
    path = f"/api/v1/namespaces/{SPACE}/services/{name}"
    await asyncio.to_thread(cluster.api.request, "DELETE", path)
