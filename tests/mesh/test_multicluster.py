"""One mesh of two real clusters: the other one answers when the pods here are gone."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.testbed.bodies import both, namespace, operator, options
from tests.testbed.callers import DRAINED, RETRIED, Answers, Caller, lost, retrying
from tests.testbed.clusters import start_side_by_side
from tests.testbed.meshery import Meshery
from tests.testbed.multiclusters import multicluster
from tests.testbed.nodes import link
from tests.testbed.realclusters import RealCluster
from tests.testbed.recipe import ISTIO_VERSION, STAND_IN_IMAGE
from tests.testbed.stack import Stack
from tests.testbed.waiting import eventually

pytestmark = [pytest.mark.full, pytest.mark.timeout(900)]

_SHOP, _PORT = "shop", 8080
_URL = f"http://echo.{_SHOP}:{_PORT}/"
_WITHIN_S = 300.0
_REQUESTS = 200


@dataclass(slots=True)
class Pair:
    """Two clusters whose nodes reach each other, and a caller in the first."""

    clusters: tuple[RealCluster, RealCluster]
    meshery: Meshery
    caller: Caller

    async def made(self, *networks: str, sampling: float = 1.0, **spec: Any) -> None:
        """Makes the mesh; another share of sampled traces is another Deployment of istiod."""
        named: list[dict[str, Any]] = [{"name": cluster.name} for cluster in self.clusters]
        for one, network in zip(named, networks, strict=False):
            one["network"] = network
        # Istio's gateway names its image as `auto`, which Kubernetes would always pull.
        values = {
            "global": {"imagePullPolicy": "IfNotPresent"},
            "pilot": {"traceSampling": sampling},
        }
        pulls = both(operator(values=values), options(profile="minimal"))
        body = both(multicluster(*named, **spec), pulls)
        operation = await self.meshery.apply("istio-multicluster", version=ISTIO_VERSION, body=body)
        ends = await self.meshery.finals(operation, count=2, within_s=_WITHIN_S)
        assert not any(end.failed for end in ends), [end.event for end in ends]
        for end in ends:
            print(end.event.summary, end.event.details)

    async def get(self, count: int = 20, **more: Any) -> Answers:
        return await asyncio.to_thread(self.caller.get, _URL, count=count, **more)

    async def scaled(self, replicas: int) -> None:
        """So many pods of the service in the caller's own cluster."""
        place = (f"--namespace={_SHOP}", "deployment/echo")
        kubectl = self.clusters[0].kubectl
        await asyncio.to_thread(kubectl, "scale", f"--replicas={replicas}", *place)
        await asyncio.to_thread(kubectl, "rollout", "status", *place, "--timeout=120s")

    async def answered_by(self, *names: str) -> None:
        """Waits until just these answer."""

        async def do() -> bool:
            return set((await self.get()).counts) == {f"200 echo-{name}" for name in names}

        await eventually(do, what=f"{names} to answer", within_s=_WITHIN_S)


@pytest.fixture(scope="module")
async def pair(
    nodes_built: None, stack: Stack, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Pair]:
    folder = tmp_path_factory.mktemp("pair")
    one, two = (RealCluster(folder / name, name=name) for name in ("one", "two"))
    await asyncio.to_thread(start_side_by_side, [one, two])
    try:
        await asyncio.to_thread(link, one.node, two.node)
        texts = [cluster.kubeconfig_text for cluster in (one, two)]
        async with Meshery(stack.gateway_address, texts).connected() as meshery:
            caller = Caller(one, namespace=_SHOP)
            pair = Pair((one, two), meshery, caller)
            await pair.made()
            for cluster in pair.clusters:
                await asyncio.to_thread(_served, cluster)
            await asyncio.to_thread(caller.start)
            await asyncio.to_thread(caller.wait_ready)
            yield pair
    finally:
        for cluster in (one, two):
            await asyncio.to_thread(cluster.stop)


async def test_the_other_cluster_answers_on_one_network(pair: Pair) -> None:
    await _one_for_the_other(pair)


async def test_the_other_cluster_answers_through_gateways_on_two_networks(pair: Pair) -> None:
    await pair.made("east", "west")
    for cluster in pair.clusters:
        await asyncio.to_thread(_balanced, cluster)
        restart = ("rollout", "restart", "deployment", f"--namespace={_SHOP}")
        await asyncio.to_thread(cluster.kubectl, *restart)
        for name in ("echo", *(["caller"] if cluster is pair.clusters[0] else [])):
            place = (f"deployment/{name}", f"--namespace={_SHOP}", "--timeout=120s")
            await asyncio.to_thread(cluster.kubectl, "rollout", "status", *place)
    await _one_for_the_other(pair)
    # It came through the gateway: the caller's proxy knows no pod of the other network.
    [other] = pair.clusters[1:]
    pods = other.api.request("GET", f"/api/v1/namespaces/{_SHOP}/pods")["items"]
    known = await asyncio.to_thread(
        pair.clusters[0].kubectl,
        "exec",
        "deployment/caller",
        f"--namespace={_SHOP}",
        "--container=istio-proxy",
        "--",
        "pilot-agent",
        "request",
        "GET",
        "clusters",
    )
    assert f"{other.node.address}:15443" in known
    assert not any(pod["status"].get("podIP", "none") in known for pod in pods)


async def test_nothing_is_lost_with_retries_while_both_control_planes_are_replaced(
    pair: Pair,
) -> None:
    """The local pods go before it and come after it: the other cluster answers all through."""
    await pair.answered_by("one", "two")
    route = json.dumps(retrying("echo", _SHOP))
    await asyncio.to_thread(pair.clusters[0].kubectl, "apply", "--filename=-", stdin=route)
    before = [_planes(cluster) for cluster in pair.clusters]
    async with (
        pair.caller.flowing(_URL) as once,
        pair.caller.flowing(_URL, headers=RETRIED) as again,
    ):
        await pair.scaled(0)
        await pair.answered_by("two")
        await pair.made("east", "west", sampling=2.0)
        await pair.answered_by("two")
        await pair.scaled(1)
        await pair.answered_by("one", "two")
    after = [_planes(cluster) for cluster in pair.clusters]
    assert all(old and new and not old & new for old, new in zip(before, after, strict=True))
    for what, counted in (("sent once", once), ("with retries", again)):
        print(f"{what}: {lost(counted)} of {counted.total()} lost: {dict(counted)}")
    assert lost(again) == 0, again
    assert lost(once) < 0.1 * once.total(), once


async def test_secrets_are_rotated_and_a_cluster_leaves_while_requests_flow(pair: Pair) -> None:
    await pair.answered_by("one", "two")
    flow = asyncio.create_task(pair.get(3000, every_s=0.02))
    await pair.made("east", "west", action="rotate")
    answers = await flow
    good = sum(n for name, n in answers.counts.items() if name.startswith("200 "))
    print(f"rotation: {good} of {sum(answers.counts.values())} answered: {dict(answers.counts)}")
    assert good > 0.9 * sum(answers.counts.values())
    await pair.answered_by("one", "two")
    await pair.made("east", "west", action="leave", leaving=["two"])
    await pair.answered_by("one")


async def _one_for_the_other(pair: Pair) -> None:
    """The local pods go while requests flow, and come again."""
    await pair.answered_by("one", "two")
    flow = asyncio.create_task(pair.get(_REQUESTS * 6, every_s=0.02))
    # By then the others are under way: they began sooner, the same way.
    await pair.answered_by("one", "two")
    await pair.scaled(0)
    await pair.answered_by("two")
    answers = await flow
    told = dict(answers.counts)
    print(f"while the local pods went: {told}")
    lost = {name: count for name, count in told.items() if not name.startswith("200 ")}
    assert sum(lost.values()) < 0.1 * sum(told.values()), told
    settled = await pair.get(_REQUESTS)
    assert dict(settled.counts) == {"200 echo-two": _REQUESTS}
    await pair.scaled(1)
    await pair.answered_by("one", "two")


def _planes(cluster: RealCluster) -> set[str]:
    """The pods of istiod that stay."""
    path = "/api/v1/namespaces/istio-system/pods?labelSelector=app%3Distiod"
    metadata = [pod["metadata"] for pod in cluster.api.request("GET", path)["items"]]
    return {one["uid"] for one in metadata if "deletionTimestamp" not in one}


def _served(cluster: RealCluster) -> None:
    """The same service in each cluster, whose pods say where they are."""
    labels = {"app": "echo"}
    told = {"STAND_IN": "serve", "NAME": f"echo-{cluster.name}", "PORTS": str(_PORT)}
    metadata = {"name": "echo", "namespace": _SHOP}
    container = {
        "name": "echo",
        "image": STAND_IN_IMAGE,
        "env": [{"name": name, "value": value} for name, value in told.items()],
        "lifecycle": DRAINED,
    }
    template = {
        "metadata": {"labels": labels},
        "spec": {"terminationGracePeriodSeconds": 10, "containers": [container]},
    }
    port = {"name": "http", "port": _PORT}
    items = [
        namespace(_SHOP, **{"istio-injection": "enabled"}),
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": metadata,
            "spec": {"selector": labels, "ports": [port]},
        },
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": metadata,
            "spec": {"selector": {"matchLabels": labels}, "template": template},
        },
    ]
    listing = json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
    cluster.kubectl("apply", "--filename=-", stdin=listing)
    place = ("deployment/echo", f"--namespace={_SHOP}", "--timeout=120s")
    cluster.kubectl("rollout", "status", *place, timeout_s=130.0)


def _balanced(cluster: RealCluster) -> None:
    """Gives the gateway the node's address, as a cloud's load balancer would."""
    status = {"status": {"loadBalancer": {"ingress": [{"ip": cluster.node.address}]}}}
    cluster.kubectl(
        "patch",
        "service",
        "istio-eastwestgateway",
        "--namespace=istio-system",
        "--subresource=status",
        "--type=merge",
        f"--patch={json.dumps(status)}",
    )
