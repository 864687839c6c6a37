"""The graph's traffic beside what was counted by who sent the requests, edge by edge."""

from __future__ import annotations

import asyncio
import json
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Mapping
from datetime import datetime, timedelta, timezone
from typing import Any, TypeAlias

import pytest

from services.chassis.kube.kubeconfigs import parse_kubeconfig
from tests.mesh import metering, prometheuses
from tests.testbed.callers import Answers, Caller
from tests.testbed.realclusters import RealCluster
from tests.testbed.seeing import Follower, Seeing, seeing
from tests.testbed.stack import Stack
from tests.testbed.waiting import eventually

PAGE = "http://productpage:9080/productpage"
RATINGS = "http://ratings:9080/ratings/0"
BROKEN = "http://ratings:9080/status/500"
WINDOW_S = 10
EVERY_S = 0.05
_FARTHEST = 0.03
"""A scrape comes once a second of twenty-five, and Prometheus guesses what lies beyond the first
and the last one: of the edge with the fewest requests, some 160, that is three or four."""
_STEP = timedelta(seconds=0.5)
_WITHIN_S = 60.0

Ends: TypeAlias = tuple[str, str]
"""Of an edge: names of workloads, and of Services with a dot behind."""


@pytest.fixture(scope="module")
def token(mesh: RealCluster) -> str:
    return parse_kubeconfig(mesh.kubeconfig_text).cluster


@pytest.fixture(scope="module")
def quick(stack: Stack) -> Iterator[Stack]:
    """The stack, with a topology that renews the traffic each second."""
    every = {
        "MESHBUS_TOPOLOGY_TELEMETRY_EVERY": "1s",
        "MESHBUS_TOPOLOGY_TELEMETRY_WINDOW": f"{WINDOW_S}s",
    }
    stack.replace("topology", settings=every)
    yield stack
    stack.replace("topology")


@pytest.fixture(scope="module")
async def seen(quick: Stack, mesh: RealCluster, shop: Caller, token: str) -> AsyncIterator[Seeing]:
    """Topology, as soon as it has rates of all edges from a Prometheus that scrapes the shop."""
    rule = json.dumps(metering.counting(shop.namespace))
    await asyncio.to_thread(mesh.kubectl, "apply", "--filename=-", stdin=rule)
    pods = metering.proxied(mesh, shop.namespace)
    with prometheuses.running(mesh, metering.scraping(pods)):
        async with seeing(quick) as found:
            await found.watched(token)

            async def has_all() -> bool:
                # What has never counted anything has no rate when it begins to.
                answers = await asyncio.to_thread(shop.get, PAGE, count=30)
                return set(await _rates(found, token, shop.namespace)) >= set(_expected(answers))

            await eventually(has_all, what="rates of all edges", within_s=_WITHIN_S)
            await _fallen_silent(found, token, shop.namespace)
            yield found
    await asyncio.to_thread(
        mesh.kubectl, "delete", "envoyfilter", "requests-total", f"--namespace={shop.namespace}"
    )


@pytest.mark.full
async def test_each_edge_has_as_many_requests_as_were_counted(
    seen: Seeing, token: str, shop: Caller, record_property: Any
) -> None:
    """A request is in the rates for as long as the window is: summed up over time they give the
    count, however the requests are spread."""
    began = datetime.now(timezone.utc)
    answers = await asyncio.to_thread(shop.get, PAGE, count=500, every_s=EVERY_S)
    edges = await _edges(seen, token, shop.namespace)
    assert {edge.get("isMTLS") for edge in edges} == {"100"}
    await _fallen_silent(seen, token, shop.namespace)

    told: dict[Ends, float] = defaultdict(float)
    moment, ended = began, datetime.now(timezone.utc)
    while moment < ended:
        for ends, rate in (await _rates(seen, token, shop.namespace, at=moment)).items():
            told[ends] += rate * _STEP.total_seconds()
        moment += _STEP

    expected = _expected(answers)
    assert set(told) == set(expected)
    far = max(abs(told[ends] / count - 1) for ends, count in expected.items())
    record_property("largest difference of an edge, in percent", round(100 * far, 2))
    print(f"{len(expected)} edges, the farthest {100 * far:.2f} % from what was counted")
    assert far <= _FARTHEST, (dict(told), expected)


@pytest.mark.full
async def test_an_edge_is_red_soon_after_requests_fail(
    seen: Seeing, token: str, shop: Caller, record_property: Any
) -> None:
    """Twenty requests a second succeed, and from some moment on twenty others fail."""
    async with seen.following(token, view="workload") as follower:
        good = asyncio.create_task(asyncio.to_thread(shop.get, RATINGS, count=400, every_s=EVERY_S))
        await follower.until(lambda f: _health(f, "ratings-v1") == "Healthy", within_s=_WITHIN_S)
        bad = asyncio.create_task(asyncio.to_thread(shop.get, BROKEN, count=100, every_s=EVERY_S))
        await follower.until(lambda f: _health(f, "ratings-v1") == "Failure", within_s=_WITHIN_S)
        red_at = time.time()
        failed = (await bad).first["500 ratings-v1"]
        assert (await good).counts == {"200 ratings-v1": 400}
    took_s = red_at - failed
    record_property("seconds from the first failure to a red edge", round(took_s, 2))
    print(f"a red edge {took_s:.2f} s after the first failure")
    assert 0 < took_s < WINDOW_S
    await _fallen_silent(seen, token, shop.namespace)


def _expected(answers: Answers) -> dict[Ends, int]:
    """What the client has counted, by edges of the graph: a call goes by way of its Service."""
    found: dict[Ends, int] = defaultdict(int)
    for (source, destination), count in answers.edges.items():
        service = f"{destination.rpartition('-v')[0]}."
        found[source or "caller", service] += count
        found[service, destination] += count
    return dict(found)


async def _rates(
    seen: Seeing, token: str, namespace: str, *, at: datetime | None = None
) -> dict[Ends, float]:
    """Requests per second by edge, now or at a moment of the past."""
    edges = await _edges(seen, token, namespace, at=at)
    return {edge["ends"]: edge["rate"] for edge in edges}


async def _edges(
    seen: Seeing, token: str, namespace: str, *, at: datetime | None = None
) -> list[dict[str, Any]]:
    """Those with traffic, each with its `ends` and its `rate`."""
    moment = {"at": at.isoformat()} if at is not None else {}
    graph = await seen.ask(
        "graph", cluster=token, graphType="workload", namespaces=[namespace], **moment
    )
    elements = graph["elements"]
    names = {node["data"]["id"]: _name(node["data"]) for node in elements["nodes"]}
    return [
        {
            **edge,
            "ends": (names[edge["source"]], names[edge["target"]]),
            "rate": float(edge["traffic"]["rates"]["http"]),
        }
        for edge in (one["data"] for one in elements["edges"])
        if (edge.get("traffic") or {}).get("rates")
    ]


def _name(node: Mapping[str, Any]) -> str:
    if node["nodeType"] == "service":
        return f"{node['service']}."
    return str(node.get("workload") or node["id"])


async def _fallen_silent(seen: Seeing, token: str, namespace: str) -> None:
    left: dict[Ends, float] = {}

    async def is_silent() -> bool:
        left.clear()
        left.update(await _rates(seen, token, namespace))
        return not left

    try:
        await eventually(is_silent, what="all rates to be over", within_s=_WITHIN_S)
    except AssertionError as error:
        raise AssertionError(f"{error}; left are {left}") from None


def _health(follower: Follower, workload: str) -> str:
    """Of the edge from the Service to the workload."""
    targets = {node["id"] for node in follower.named(workload=workload)}
    found = (
        edge.get("healthStatus")
        for edge in follower.edges.values()
        if edge["target"] in targets and edge.get("traffic")
    )
    return str(next(found, ""))
