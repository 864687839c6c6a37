"""Bookinfo behind real sidecars: what the operations promise, counted by who sends requests."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.mesh.settling import applied, settled
from tests.testbed.callers import Answers, Caller
from tests.testbed.meshery import Meshery
from tests.testbed.realclusters import RealCluster

_REQUESTS = 200
REVIEWS = "http://reviews:9080/reviews/0"
RATINGS = "http://ratings:9080/ratings/0"
PAGE = "http://productpage:9080/productpage"


def routing(**spec: Any) -> str:
    return json.dumps({"apiVersion": "meshbus.io/v1", "kind": "RoutingOptions", "spec": spec})


@pytest.fixture(scope="module")
async def shop(meshery: Meshery, injected: str, caller: Caller) -> str:
    """The namespace with Bookinfo in it."""
    installed = await meshery.run("bookinfo", namespace=injected)
    assert not installed.failed, installed.event
    return injected


async def test_pods_have_sidecars_and_speak_mutual_tls(
    mesh: RealCluster, shop: str, caller: Caller
) -> None:
    pods = mesh.api.request("GET", f"/api/v1/namespaces/{shop}/pods")["items"]
    assert len(pods) == 7
    for pod in pods:
        names = [container["name"] for container in pod["spec"]["initContainers"]]
        assert "istio-proxy" in names, pod["metadata"]["name"]

    answers = await asyncio.to_thread(caller.get, PAGE)

    [told] = answers.headers["X-Forwarded-Client-Cert"]
    assert f"URI=spiffe://cluster.local/ns/{shop}/sa/caller" in told
    assert f"By=spiffe://cluster.local/ns/{shop}/sa/bookinfo-productpage" in told
    calls = json.loads(answers.body)["calls"]
    assert set(calls.values()) == {"200 OK"}


async def test_weights_hold_and_move(meshery: Meshery, shop: str, caller: Caller) -> None:
    for v1, v3 in ((90, 10), (25, 75)):
        body = routing(service="reviews", weights={"v1": v1, "v3": v3})
        await applied(meshery, "bookinfo-route-weights", shop, body)
        # The versions that get nothing are the sign that the proxies have the new route; after a
        # change from one share to another only the counts themselves tell.
        await settled(caller, REVIEWS, lambda answers: "200 reviews-v2" not in answers.counts)

        await settled(caller, REVIEWS, _shares(v1=v1, v3=v3), count=_REQUESTS)

    await applied(meshery, "bookinfo-route-weights", shop, body, delete=True)
    await settled(caller, REVIEWS, lambda answers: "200 reviews-v2" in answers.counts, count=30)


def _shares(**wanted: int) -> Callable[[Answers], bool]:
    """Within five standard deviations of what chance makes of the weights."""

    def holds(answers: Answers) -> bool:
        total = sum(answers.counts.values())
        for version, percent in wanted.items():
            share = percent / 100
            spread = 5 * (total * share * (1 - share)) ** 0.5
            if abs(answers.counts.get(f"200 reviews-{version}", 0) - total * share) > spread:
                return False
        return set(answers.counts) <= {f"200 reviews-{version}" for version in wanted}

    return holds


async def test_a_delay_delays_and_an_abort_aborts_whom_it_is_for(
    meshery: Meshery, shop: str, caller: Caller
) -> None:
    jason, delay_s = {"end-user": "jason"}, 1.5
    body = routing(delay=f"{delay_s}s", user="jason")
    await applied(meshery, "bookinfo-delay", shop, body)
    late = delay_s * 1000
    await settled(caller, RATINGS, lambda a: a.milliseconds[0] >= late, count=1, headers=jason)
    others = await asyncio.to_thread(caller.get, RATINGS, count=5)
    assert sorted(others.milliseconds)[2] < late
    assert others.counts == {"200 ratings-v1": 5}
    await applied(meshery, "bookinfo-delay", shop, body, delete=True)

    body = routing(abortStatus=418, user="jason")
    await applied(meshery, "bookinfo-abort", shop, body)
    await settled(caller, RATINGS, lambda a: a.counts == {"418": 10}, headers=jason)
    others = await asyncio.to_thread(caller.get, RATINGS, count=5)
    assert others.counts == {"200 ratings-v1": 5}

    await applied(meshery, "bookinfo-abort", shop, body, delete=True)
    await settled(caller, RATINGS, lambda a: a.counts == {"200 ratings-v1": 10}, headers=jason)
