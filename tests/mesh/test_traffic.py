"""Bookinfo behind real sidecars: what the operations promise, counted by who sends requests."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

from tests.mesh.settling import applied, only, settled
from tests.testbed.bodies import routing
from tests.testbed.callers import Answers, Caller
from tests.testbed.meshery import Meshery
from tests.testbed.realclusters import RealCluster
from tests.testbed.waiting import eventually

_REQUESTS = 200
REVIEWS = "http://reviews:9080/reviews/0"
RATINGS = "http://ratings:9080/ratings/0"
PAGE = "http://productpage:9080/productpage"


async def test_pods_have_sidecars_and_speak_mutual_tls(mesh: RealCluster, shop: Caller) -> None:
    space = shop.namespace
    pods = mesh.api.request("GET", f"/api/v1/namespaces/{space}/pods")["items"]
    assert len(pods) == 7
    for pod in pods:
        names = [container["name"] for container in pod["spec"]["initContainers"]]
        assert "istio-proxy" in names, pod["metadata"]["name"]

    answers = await asyncio.to_thread(shop.get, PAGE)

    [told] = answers.headers["X-Forwarded-Client-Cert"]
    assert f"URI=spiffe://cluster.local/ns/{space}/sa/caller" in told
    assert f"By=spiffe://cluster.local/ns/{space}/sa/bookinfo-productpage" in told
    calls = json.loads(answers.body)["calls"]
    assert set(calls.values()) == {"200 OK"}


async def test_weights_hold_and_move(meshery: Meshery, shop: Caller) -> None:
    for v1, v3 in ((90, 10), (25, 75)):
        body = routing(service="reviews", weights={"v1": v1, "v3": v3})
        await applied(meshery, "bookinfo-route-weights", shop.namespace, body)
        # The versions that get nothing are the sign that the proxies have the new route; after a
        # change from one share to another only the counts themselves tell.
        await settled(shop, REVIEWS, lambda answers: "200 reviews-v2" not in answers.counts)

        await settled(shop, REVIEWS, _shares(v1=v1, v3=v3), count=_REQUESTS)

    await applied(meshery, "bookinfo-route-weights", shop.namespace, body, delete=True)
    await settled(shop, REVIEWS, lambda answers: "200 reviews-v2" in answers.counts, count=30)


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
    meshery: Meshery, shop: Caller
) -> None:
    jason, delay_s = {"end-user": "jason"}, 1.5
    body = routing(delay=f"{delay_s}s", user="jason")
    await applied(meshery, "bookinfo-delay", shop.namespace, body)
    late = delay_s * 1000
    await settled(shop, RATINGS, lambda a: a.milliseconds[0] >= late, count=1, headers=jason)
    others = await asyncio.to_thread(shop.get, RATINGS, count=5)
    assert sorted(others.milliseconds)[2] < late
    assert others.counts == {"200 ratings-v1": 5}
    await applied(meshery, "bookinfo-delay", shop.namespace, body, delete=True)

    body = routing(abortStatus=418, user="jason")
    await applied(meshery, "bookinfo-abort", shop.namespace, body)
    await settled(shop, RATINGS, lambda a: a.counts == {"418": 10}, headers=jason)
    others = await asyncio.to_thread(shop.get, RATINGS, count=5)
    assert others.counts == {"200 ratings-v1": 5}

    await applied(meshery, "bookinfo-abort", shop.namespace, body, delete=True)
    await settled(shop, RATINGS, lambda a: a.counts == {"200 ratings-v1": 10}, headers=jason)


async def test_a_mirror_gets_copies_and_answers_nobody(
    meshery: Meshery, mesh: RealCluster, shop: Caller
) -> None:
    space = shop.namespace
    for percentage in (100.0, 40.0):
        body = routing(service="reviews", mirrorTo="v3", percentage=percentage)
        await applied(meshery, "bookinfo-mirror", space, body)
        await settled(shop, REVIEWS, only("200 reviews-v1"))

        share, path = percentage / 100, f"/copied/{percentage:g}"
        spread = 5 * (_REQUESTS * share * (1 - share)) ** 0.5
        answers = await asyncio.to_thread(shop.get, f"http://reviews:9080{path}", count=_REQUESTS)

        assert answers.counts == {"200 reviews-v1": _REQUESTS}
        least = _REQUESTS * share - spread

        async def has_copies(path: str = path, least: float = least) -> bool:
            return await _received(mesh, space, "reviews-v3", path) >= least

        await eventually(has_copies, what=f"{percentage:g} % of the requests as copies")
        assert await _received(mesh, space, "reviews-v3", path) <= _REQUESTS * share + spread
        assert await _received(mesh, space, "reviews-v2", path) == 0

        await applied(meshery, "bookinfo-mirror", space, body, delete=True)
        await settled(shop, REVIEWS, lambda answers: "200 reviews-v2" in answers.counts, count=30)


async def _received(mesh: RealCluster, namespace: str, name: str, path: str) -> int:
    """How many requests for a path a stand-in has got, by its log."""
    place = (f"deployment/{name}", f"--namespace={namespace}", f"--container={name[:-3]}")
    told = await asyncio.to_thread(mesh.kubectl, "logs", *place)
    return sum(line.endswith(f" {path}") for line in told.splitlines())
