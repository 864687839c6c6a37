"""Applications, add-ons and policies where pods run: ready means ready, and a policy refuses."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from tests.mesh.settling import applied, only, settled
from tests.testbed.bodies import routing
from tests.testbed.callers import Answers, Caller
from tests.testbed.clusters import has_condition
from tests.testbed.meshery import Meshery
from tests.testbed.realclusters import RealCluster
from tests.testbed.waiting import eventually

_ADDONS = ("prometheus-addon", "grafana-addon", "kiali-addon", "jaeger-addon")
# Kiali's own manifest gives it half a minute before it is asked for the first time.
_ADDONS_WITHIN_S = 200.0
HTTPBIN = "http://httpbin:8000/status/204"
API = "http://api:9091/"


def ready_pods(cluster: RealCluster, namespace: str) -> dict[str, int]:
    """The number of each pod's containers, sidecars included; every pod must be ready."""
    found = cluster.api.request("GET", f"/api/v1/namespaces/{namespace}/pods")["items"]
    lasting = [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]
    late = {p["metadata"]["name"]: p["status"] for p in lasting if not has_condition(p, "Ready")}
    assert not late
    return {
        pod["metadata"]["name"]: len(pod["spec"]["containers"])
        + len(pod["spec"].get("initContainers") or [])
        for pod in lasting
    }


@pytest.fixture(scope="module")
async def outsider(mesh: RealCluster) -> AsyncIterator[Caller]:
    """A workload without a sidecar."""
    mesh.kubectl("create", "namespace", "outside")
    outsider = Caller(mesh, namespace="outside", name="outsider")
    outsider.start()
    await asyncio.to_thread(outsider.wait_ready)
    yield outsider
    await asyncio.to_thread(mesh.kubectl, "delete", "namespace", "outside", "--wait=false")


@pytest.fixture(scope="module")
async def httpbin(meshery: Meshery, injected: str) -> str:
    """The namespace with httpbin in it."""
    await applied(meshery, "httpbin", injected)
    return injected


async def test_applications_are_ready_with_sidecars(
    meshery: Meshery, mesh: RealCluster, caller: Caller, httpbin: str
) -> None:
    for name in ("imagehub", "emojivoto"):
        await applied(meshery, name, httpbin)

    found = ready_pods(mesh, httpbin)
    # The caller, httpbin, Image Hub's two and emojivoto's four.
    assert len(found) == 8
    # A container of the application's, and Istio's two.
    assert set(found.values()) == {3}
    reached = await asyncio.to_thread(caller.get, HTTPBIN)
    assert reached.counts == {"204": 1}


async def test_image_hub_is_limited_by_its_filter(
    meshery: Meshery, httpbin: str, caller: Caller
) -> None:
    await applied(meshery, "imagehub", httpbin)
    await applied(meshery, "envoy-filter-operation", httpbin)

    await settled(caller, API, lambda answers: "429" in answers.counts, count=50)

    await applied(meshery, "envoy-filter-operation", httpbin, delete=True)
    await settled(caller, API, lambda answers: set(answers.counts) == {"200 image-hub-api"})


async def test_policies_refuse_whom_they_are_for(
    meshery: Meshery, httpbin: str, caller: Caller, outsider: Caller
) -> None:
    elsewhere = f"http://httpbin.{httpbin}:8000/status/204"
    inside, outside = (caller, HTTPBIN), (outsider, elsewhere)
    await settled(*outside, only("204"))

    await applied(meshery, "strict-mtls-policy-operation", httpbin)
    await settled(*outside, _none_is("204"))
    await settled(*inside, only("204"))

    await applied(meshery, "mutual-mtls-policy-operation", httpbin)
    await settled(*outside, only("204"))

    await applied(meshery, "disable-mtls-policy-operation", httpbin)
    await settled(*outside, only("204"))
    await settled(*inside, only("204"))
    await applied(meshery, "disable-mtls-policy-operation", httpbin, delete=True)

    await applied(meshery, "deny-all-policy-operation", httpbin)
    await settled(*inside, only("403"))
    await settled(*outside, only("403"))
    await applied(meshery, "deny-all-policy-operation", httpbin, delete=True)
    await settled(*inside, only("204"))


async def test_retries_hide_what_fails_now_and_then(
    meshery: Meshery, httpbin: str, caller: Caller
) -> None:
    unstable = "http://httpbin:8000/unstable?failure_rate=0.5"
    plain = await asyncio.to_thread(caller.get, unstable, count=100)
    # Istio's own retries are for other failures.
    assert 25 <= plain.counts["500"] <= 75

    body = routing(service="httpbin", attempts=9, perTryTimeout="5s")
    await applied(meshery, "bookinfo-retries", httpbin, body)
    # Of a thousand requests one fails ten times.
    await settled(caller, unstable, lambda a: a.counts.get("200", 0) >= 98, count=100)

    await applied(meshery, "bookinfo-retries", httpbin, body, delete=True)
    await settled(caller, unstable, lambda a: a.counts.get("500", 0) >= 25, count=100)


async def test_a_breaker_refuses_what_is_too_much_and_rests_what_fails(
    meshery: Meshery, httpbin: str, caller: Caller
) -> None:
    slow, broken = "http://httpbin:8000/delay/0.2", "http://httpbin:8000/status/500"
    crowd = {"count": 20, "at_once": 10}
    await settled(caller, slow, only("200"), **crowd)

    body = routing(service="httpbin", baseEjectionTime="2s")
    await applied(meshery, "bookinfo-circuit-breaking", httpbin, body)
    # One on its way and one that waits; the others are refused at once.
    await settled(caller, slow, lambda a: 2 <= a.counts.get("200", 0) <= 10, **crowd)
    await settled(caller, HTTPBIN, only("204"))

    async def rests() -> bool:
        failed = await asyncio.to_thread(caller.get, broken)
        after = await asyncio.to_thread(caller.get, HTTPBIN, count=5)
        return set(failed.counts) <= {"500", "503"} and "503" in after.counts

    await eventually(rests, what="the failing server to get no requests")
    await settled(caller, HTTPBIN, only("204"))

    await applied(meshery, "bookinfo-circuit-breaking", httpbin, body, delete=True)
    await settled(caller, slow, only("200"), **crowd)


async def test_checks_find_nothing_wrong_and_leave_nothing(meshery: Meshery, httpbin: str) -> None:
    await applied(meshery, "smi_conformance", httpbin)
    await applied(meshery, "istio-vet", httpbin)


@pytest.mark.full
async def test_addons_are_ready_and_go(meshery: Meshery, mesh: RealCluster) -> None:
    before = set(ready_pods(mesh, "istio-system"))
    operations = [await meshery.apply(name, namespace="istio-system") for name in _ADDONS]
    for operation in operations:
        [final] = await meshery.finals(operation, within_s=_ADDONS_WITHIN_S)
        assert not final.failed, final.event

    found = set(ready_pods(mesh, "istio-system")) - before
    assert len(found) == len(_ADDONS)

    for name in _ADDONS:
        await applied(meshery, name, "istio-system", delete=True)
    # Jaeger and Zipkin have Services of the same names, so one is there at a time.
    await applied(meshery, "zipkin-addon", "istio-system")
    await applied(meshery, "zipkin-addon", "istio-system", delete=True)


def _none_is(status: str) -> Callable[[Answers], bool]:
    def holds(answers: Answers) -> bool:
        return status not in answers.counts

    return holds
