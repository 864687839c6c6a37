"""A rollout on a real mesh: sidecars and the gateway move to the new revision, and back again."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.testbed.bodies import options
from tests.testbed.callers import DRAINED, RETRIED, Caller, lost, retrying
from tests.testbed.meshery import Meshery
from tests.testbed.realclusters import RealCluster
from tests.testbed.recipe import ISTIO_VERSION, STAND_IN_IMAGE
from tests.testbed.stack import Stack
from tests.testbed.waiting import eventually

_NEXT, _DEFAULT = "rolled", "default"
_STATUS = "sidecar.istio.io/status"
_WITHIN_S = 300.0
_PORT = 9080


@pytest.fixture
def outside(mesh: RealCluster) -> Iterator[Caller]:
    """It has no sidecar: nobody moves it, and it goes on asking."""
    caller = Caller(mesh, namespace="default", name="outside")
    caller.start()
    caller.wait_ready()
    yield caller
    _removed(mesh, caller)


@pytest.fixture
def staying(mesh: RealCluster) -> Iterator[Caller]:
    """It has a sidecar by its own label, in a namespace that nobody moves."""
    labels = {"sidecar.istio.io/inject": "true"}
    caller = Caller(mesh, namespace="default", name="staying", labels=labels)
    caller.start()
    caller.wait_ready()
    yield caller
    _removed(mesh, caller)


async def test_sidecars_and_gateway_move_and_come_back(
    stack: Stack,
    meshery: Meshery,
    mesh: RealCluster,
    injected: str,
    caller: Caller,
    outside: Caller,
    staying: Caller,
) -> None:
    assert _revisions(mesh, injected) == {_DEFAULT}
    await asyncio.to_thread(_served, mesh, injected)
    spec = {"version": ISTIO_VERSION, "gate": {"proxiesInSync": 1.0, "windowSeconds": 5}}
    rolling = {"apiVersion": "meshbus.io/v1", "kind": "RolloutOptions"}
    body = json.dumps({**rolling, "spec": {**spec, "soakSeconds": 3600}})
    rollout = await meshery.apply("istio-rollout", body=f"{body}\n---\n{options(revision=_NEXT)}\n")

    async def stands(**wanted: Any) -> dict[str, Any]:
        told: dict[str, Any] = {}

        async def says() -> bool:
            nonlocal told
            told = await _asked(stack, "rollout", rollout)
            if "state" not in told:
                return False  # its first part is not written down yet
            assert wanted.get("stage") == "over" or told["state"] != "stopped", told
            return all(told[name] == value for name, value in wanted.items())

        await eventually(says, what=f"the rollout to say {wanted}", within_s=_WITHIN_S)
        return told

    try:
        # The gate has held by the proxies' own word: all are in sync with the new control plane.
        async with _asking(outside, injected, on="the way there"):
            await _moved(staying, mesh, injected)
            # The rollout waits for whoever has a sidecar of the old revision.
            await asyncio.to_thread(_removed, mesh, staying)
            await stands(stage="soak")
        assert _revisions(mesh, injected) == {_NEXT}
        assert _of_gateway(mesh) == {_NEXT}
    finally:
        # Whatever came of it: the mesh is the next test's.
        async with _asking(outside, injected, on="the way back"):
            await _asked(stack, "rolloutabort", rollout)
            told = await stands(stage="over")
    assert [one["state"] for one in told["clusters"]] == ["rolled back"]
    await eventually(
        lambda: _revisions(mesh, injected) | _of_gateway(mesh) == {_DEFAULT},
        what="all sidecars to be the old revision's",
        within_s=_WITHIN_S,
    )
    assert f"istiod-{_NEXT}" not in mesh.kubectl("get", "pods", "--namespace=istio-system")
    # What is there is what the install made: nothing is left to be mended.
    again = await meshery.run("istio", version=ISTIO_VERSION)
    assert not again.failed, again.event
    assert " 0 pruned" in again.event.details


def _served(mesh: RealCluster, namespace: str) -> None:
    """A service of two pods."""
    labels = {"app": "echo"}
    told = {"STAND_IN": "serve", "NAME": "echo", "PORTS": str(_PORT)}
    container = {
        "name": "echo",
        "image": STAND_IN_IMAGE,
        "env": [{"name": name, "value": value} for name, value in told.items()],
        "lifecycle": DRAINED,
    }
    place = {"name": "echo", "namespace": namespace}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
    spec = {"replicas": 2, "selector": {"matchLabels": labels}, "template": template}
    ports = [{"name": "http", "port": _PORT}]
    items = [
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": place, "spec": spec},
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": place,
            "spec": {"selector": labels, "ports": ports},
        },
        retrying("echo", namespace),
    ]
    listing = json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
    mesh.kubectl("apply", "--filename=-", stdin=listing)
    status = ("rollout", "status", "deployment/echo", f"--namespace={namespace}")
    mesh.kubectl(*status, "--timeout=120s", timeout_s=130.0)


@asynccontextmanager
async def _asking(caller: Caller, namespace: str, *, on: str) -> AsyncIterator[None]:
    """Requests for the block, each sent once, and tells what came of them: a figure, for how many a
    restart loses is the machine's load. The service is never gone."""
    async with caller.flowing(_url(namespace)) as counted:
        yield
    _tell(counted, f"on {on}, without a proxy")


async def _moved(caller: Caller, mesh: RealCluster, namespace: str) -> None:
    """Requests until the workloads have moved, sent once, and with retries: of the latter
    none is lost."""
    url = _url(namespace)
    async with caller.flowing(url) as once, caller.flowing(url, headers=RETRIED) as again:
        await eventually(
            lambda: _revisions(mesh, namespace) == {_NEXT},
            what="the workloads to move",
            within_s=_WITHIN_S,
        )
    _tell(once, "while they moved, sent once")
    _tell(again, "while they moved, with retries")
    assert lost(again) == 0, again


def _tell(counted: Counter[str], what: str) -> None:
    print(f"{what}: {lost(counted)} of {counted.total()} lost: {dict(counted)}")
    assert lost(counted) < 0.5 * counted.total(), counted


def _url(namespace: str) -> str:
    return f"http://echo.{namespace}.svc.cluster.local:{_PORT}/"


def _removed(mesh: RealCluster, caller: Caller) -> None:
    what = ("deployment,serviceaccount", caller.name, f"--namespace={caller.namespace}")
    mesh.kubectl("delete", *what, "--ignore-not-found")


async def _asked(stack: Stack, verb: str, rollout: str) -> dict[str, Any]:
    question = json.dumps({"rollout": rollout})
    text = await asyncio.to_thread(
        stack.nats_cli, "req", "--raw", f"mesh.lifecycle.{verb}", question
    )
    answer: dict[str, Any] = json.loads(text)
    return answer


def _revisions(mesh: RealCluster, namespace: str) -> set[str]:
    """The revisions whose istiods injected the sidecars of a namespace."""
    found = mesh.api.request("GET", f"/api/v1/namespaces/{namespace}/pods")["items"]
    return {
        json.loads(pod["metadata"]["annotations"][_STATUS])["revision"]
        for pod in found
        if "deletionTimestamp" not in pod["metadata"]
        and _STATUS in (pod["metadata"].get("annotations") or {})
    }


def _of_gateway(mesh: RealCluster) -> set[str]:
    """The revisions of the gateway's pods, which have their proxy from the install itself."""
    selector = "labelSelector=app%3Distio-ingressgateway"
    found = mesh.api.request("GET", f"/api/v1/namespaces/istio-system/pods?{selector}")["items"]
    return {
        pod["metadata"]["labels"]["istio.io/rev"]
        for pod in found
        if "deletionTimestamp" not in pod["metadata"]
    }
