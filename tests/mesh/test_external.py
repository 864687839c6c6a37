"""An external control plane: istiod of one real cluster serves the proxies of another one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.mesh import pairs
from tests.mesh.pairs import SHOP, URL
from tests.testbed.bodies import both, operator, options
from tests.testbed.callers import RETRIED, Caller, lost, retrying
from tests.testbed.meshery import Meshery, Received
from tests.testbed.multiclusters import multicluster, secrets_of, texts_of
from tests.testbed.realclusters import RealCluster
from tests.testbed.recipe import ISTIO_VERSION
from tests.testbed.stack import Stack
from tests.testbed.waiting import eventually

pytestmark = [pytest.mark.full, pytest.mark.timeout(900)]

_PLACE = "external-istiod"
_WITHIN_S = 300.0


@dataclass(slots=True)
class Served:
    """A cluster of workloads, and the one that runs their control plane."""

    host: RealCluster
    cluster: RealCluster
    meshery: Meshery
    caller: Caller

    async def run(
        self, *, sampling: float = 1.0, delete: bool = False, purge: bool = False, **spec: Any
    ) -> list[Received]:
        """The operation's last events; another share of sampled traces is another istiod."""
        named = [{"name": "one"}, {"name": "two", "network": "west", "role": "remote"}]
        values = {"pilot": {"traceSampling": sampling}}
        body = both(
            multicluster(*named, model="external", **spec),
            both(operator(values=values), options(purge=purge)),
        )
        operation = await self.meshery.apply(
            "istio-multicluster", version=ISTIO_VERSION, body=body, delete=delete
        )
        return await self.meshery.finals(operation, count=2, within_s=_WITHIN_S)

    async def done(self, **asked: Any) -> None:
        ends = await self.run(**asked)
        assert not any(end.failed for end in ends), [end.event for end in ends]
        for end in ends:
            print(end.event.summary, end.event.details)

    async def scaled(self, replicas: int) -> None:
        """So many pods of the service, each with a proxy that runs."""
        await asyncio.to_thread(
            self.cluster.kubectl,
            *("scale", f"--replicas={replicas}", f"--namespace={SHOP}", "deployment/echo"),
        )
        await asyncio.to_thread(pairs.wait_ready, self.cluster, "echo")

    def pods(self, app: str) -> list[dict[str, Any]]:
        """Those of a workload that stay."""
        path = f"/api/v1/namespaces/{SHOP}/pods?labelSelector=app%3D{app}"
        items: list[dict[str, Any]] = self.cluster.api.request("GET", path)["items"]
        return [pod for pod in items if "deletionTimestamp" not in pod["metadata"]]


@pytest.fixture(scope="module")
async def served(
    nodes_built: None, stack: Stack, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Served]:
    async with pairs.running(tmp_path_factory.mktemp("external")) as (host, cluster):
        texts = [one.kubeconfig_text for one in (host, cluster)]
        async with Meshery(stack.gateway_address, texts).connected() as meshery:
            found = Served(host, cluster, meshery, Caller(cluster, namespace=SHOP))
            door = asyncio.create_task(pairs.balance(host, "istiod-external", namespace=_PLACE))
            await found.done()
            await door
            await asyncio.to_thread(pairs.serve, cluster)
            await asyncio.to_thread(found.caller.start)
            await asyncio.to_thread(found.caller.wait_ready)
            yield found


async def test_workloads_get_their_certificates_and_their_routes_from_the_other_cluster(
    served: Served,
) -> None:
    assert pairs.planes(served.host, _PLACE)
    assert not pairs.planes(served.cluster, _PLACE)
    for app in ("echo", "caller"):
        [pod] = served.pods(app)
        ready = {one["name"]: one["ready"] for one in pod["status"]["initContainerStatuses"]}
        assert ready["istio-proxy"], pod["status"]
    # The root is the one that the host signs under, and both ends tell who they are.
    path = f"/api/v1/namespaces/{SHOP}/configmaps/istio-ca-root-cert"
    trusted = served.cluster.api.request("GET", path)["data"]["root-cert.pem"]
    held = texts_of(secrets_of(served.host, _PLACE)["cacerts"])
    assert trusted.strip() == held["root-cert.pem"].strip()
    answers = await asyncio.to_thread(served.caller.get, URL, count=100)
    assert dict(answers.counts) == {"200 echo-two": 100}
    [told] = answers.headers["X-Forwarded-Client-Cert"]
    assert f"URI=spiffe://cluster.local/ns/{SHOP}/sa/caller" in told
    assert f"By=spiffe://cluster.local/ns/{SHOP}/sa/default" in told
    # A route that is written here is read there, and comes back to the proxy.
    route = retrying("echo", SHOP)
    route["spec"]["http"].insert(
        0,
        {
            "match": [{"headers": {"x-refused": {"exact": "yes"}}}],
            "directResponse": {"status": 418},
        },
    )
    await asyncio.to_thread(
        served.cluster.kubectl, "apply", "--filename=-", stdin=json.dumps(route)
    )

    async def is_refused() -> bool:
        refused = await asyncio.to_thread(served.caller.get, URL, headers={"x-refused": "yes"})
        return all(answer.startswith("418") for answer in refused.counts)

    await eventually(is_refused, what="the route to hold", within_s=60.0)


async def test_nothing_is_lost_with_retries_while_the_control_plane_is_replaced(
    served: Served,
) -> None:
    await asyncio.to_thread(
        served.cluster.kubectl, "apply", "--filename=-", stdin=json.dumps(retrying("echo", SHOP))
    )
    before = pairs.planes(served.host, _PLACE)
    async with (
        served.caller.flowing(URL) as once,
        served.caller.flowing(URL, headers=RETRIED) as again,
    ):
        await served.done(sampling=2.0)
        await eventually(
            lambda: len(pairs.planes(served.host, _PLACE)) == 1, what="one istiod", within_s=60.0
        )
        # What comes now has its proxy's configuration and certificate from the new one.
        await served.scaled(2)
        await served.scaled(1)
    after = pairs.planes(served.host, _PLACE)
    assert before
    assert after
    assert not before & after
    for what, counted in (("sent once", once), ("with retries", again)):
        print(f"{what}: {lost(counted)} of {counted.total()} lost: {dict(counted)}")
    assert lost(again) == 0, again
    assert lost(once) < 0.1 * once.total(), once


async def test_a_rotation_gives_it_another_key_while_requests_flow(served: Served) -> None:
    before = pairs.planes(served.host, _PLACE)
    async with served.caller.flowing(URL, headers=RETRIED) as counted:
        await served.done(sampling=2.0, action="rotate")
        await served.scaled(2)
        await served.scaled(1)
    assert not before & pairs.planes(served.host, _PLACE)
    print(f"rotation: {lost(counted)} of {counted.total()} lost: {dict(counted)}")
    assert lost(counted) == 0, counted


async def test_it_leaves_when_its_workloads_have_left(served: Served) -> None:
    ends = await served.run(sampling=2.0, delete=True, purge=True)
    assert all(end.failed for end in ends), [end.event for end in ends]
    assert pairs.planes(served.host, _PLACE)
    await asyncio.to_thread(served.cluster.kubectl, "delete", "namespace", SHOP)
    await served.done(sampling=2.0, delete=True, purge=True)
    await eventually(
        lambda: not pairs.planes(served.host, _PLACE), what="istiod to go", within_s=60.0
    )
    webhooks = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations"
    assert served.cluster.api.request("GET", webhooks)["items"] == []
