"""Performance tests and gates through a real gateway and a sidecar that takes mutual TLS alone."""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest

from tests.mesh.settling import applied
from tests.testbed.entrances import entrance, url_of_entrance
from tests.testbed.entries import istio_object
from tests.testbed.meshery import Meshery
from tests.testbed.perfrigs import smp
from tests.testbed.realclusters import RealCluster
from tests.testbed.shops import listed
from tests.testbed.waiting import eventually

_NAME, _HOST = "front", "front.example"
_DELAY_S = 1.0


@dataclass(frozen=True, slots=True)
class Front:
    """The gateway, and what leads from it to httpbin."""

    cluster: RealCluster
    namespace: str
    url: str

    def route(self, **more: Any) -> dict[str, Any]:
        """The VirtualService; `more` is in its rule."""
        destination = {"host": "httpbin", "port": {"number": 8000}}
        rule = {"route": [{"destination": destination}], **more}
        spec = {"hosts": [_HOST], "gateways": [_NAME], "http": [rule]}
        return istio_object("VirtualService", name=_NAME, namespace=self.namespace, spec=spec)

    async def stored(self) -> dict[str, Any]:
        """Its rule, as the cluster has it now."""
        text = await asyncio.to_thread(
            self.cluster.kubectl,
            "get",
            "virtualservice",
            _NAME,
            f"--namespace={self.namespace}",
            "--output=jsonpath={.spec.http[0]}",
        )
        found: dict[str, Any] = json.loads(text)
        return found

    def test(self, *, seconds: int, **options: Any) -> str:
        """The body of a test of it."""
        client = {"headers": {"Host": _HOST}}
        return smp(self.url, rps=20, duration=f"{seconds}s", client=client, **options)


@pytest.fixture(scope="module")
async def front(meshery: Meshery, mesh: RealCluster, injected: str) -> Front:
    """The way to httpbin, which nobody reaches in plaintext."""
    await applied(meshery, "httpbin", injected)
    await applied(meshery, "strict-mtls-policy-operation", injected)
    url = f"{await asyncio.to_thread(url_of_entrance, mesh)}/status/200"
    front = Front(mesh, injected, url)
    objects = listed(entrance(_NAME, namespace=injected), front.route())
    await asyncio.to_thread(mesh.kubectl, "apply", "--filename=-", stdin=objects)
    async with aiohttp.ClientSession() as session:

        async def answers() -> bool:
            async with session.get(url, headers={"Host": _HOST}) as answer:
                return answer.status == 200

        await eventually(answers, what="the gateway to lead to httpbin")
    return front


@pytest.mark.full
async def test_a_test_counts_what_the_sidecar_let_in(meshery: Meshery, front: Front) -> None:
    final = await meshery.run("performance-test", body=front.test(seconds=3))
    assert not final.failed, final.event
    assert re.search(r"p50 [\d.]+, p99 [\d.]+ ms, 0\.00% failed$", final.event.summary)


@pytest.mark.full
async def test_a_gate_takes_back_a_route_that_is_slow(meshery: Meshery, front: Front) -> None:
    before = await front.stored()
    delay = {"fixedDelay": f"{_DELAY_S:g}s", "percentage": {"value": 100}}
    body = front.test(
        seconds=2,
        change=json.dumps(front.route(fault={"delay": delay})),
        settleSeconds=1,
        objective={"p50Ms": _DELAY_S * 900, "errorRatio": None, "rateRatio": 0},
    )
    final = await meshery.run("performance-gate", body=body)
    assert final.failed
    assert final.event.error_code == "MB-6015", final.event
    assert await front.stored() == before


@pytest.mark.full
async def test_a_gate_keeps_a_route_that_is_not(meshery: Meshery, front: Front) -> None:
    """Told with a threshold that the noise of a busy machine does not reach."""
    change = json.dumps(front.route(retries={"attempts": 1}))
    body = front.test(seconds=3, change=change, settleSeconds=1, threshold=4.0, repeats=3)
    operation = await meshery.apply("performance-gate", body=body)
    [final] = await meshery.finals(operation, within_s=240.0)
    assert not final.failed, final.event
    assert (await front.stored())["retries"] == {"attempts": 1}
