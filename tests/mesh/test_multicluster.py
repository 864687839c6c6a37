"""One mesh of two real clusters: the other one answers when the pods here are gone."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import pytest

from tests.mesh import metering, pairs, prometheuses
from tests.mesh.pairs import SHOP, URL
from tests.testbed.bodies import both, operator, options
from tests.testbed.callers import RETRIED, Answers, Caller, lost, retrying
from tests.testbed.meshery import Meshery
from tests.testbed.multiclusters import multicluster
from tests.testbed.realclusters import RealCluster
from tests.testbed.recipe import ISTIO_VERSION
from tests.testbed.seeing import seeing
from tests.testbed.stack import Stack
from tests.testbed.waiting import eventually

pytestmark = [pytest.mark.full, pytest.mark.timeout(900)]

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
        # Istio has names of its own for them.
        named: list[dict[str, Any]] = [
            {"name": cluster.name, "clusterName": f"{SHOP}-{cluster.name}"}
            for cluster in self.clusters
        ]
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
        return await asyncio.to_thread(self.caller.get, URL, count=count, **more)

    async def scaled(self, replicas: int) -> None:
        """So many pods of the service in the caller's own cluster."""
        place = (f"--namespace={SHOP}", "deployment/echo")
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
    async with pairs.running(tmp_path_factory.mktemp("pair")) as clusters:
        texts = [cluster.kubeconfig_text for cluster in clusters]
        async with Meshery(stack.gateway_address, texts).connected() as meshery:
            caller = Caller(clusters[0], namespace=SHOP)
            pair = Pair(clusters, meshery, caller)
            await pair.made()
            for cluster in clusters:
                await asyncio.to_thread(pairs.serve, cluster)
            await asyncio.to_thread(caller.start)
            await asyncio.to_thread(caller.wait_ready)
            yield pair


async def test_the_other_cluster_answers_on_one_network(pair: Pair) -> None:
    await _one_for_the_other(pair)


async def test_a_request_to_the_other_cluster_is_an_edge_of_the_joined_graph(
    pair: Pair, stack: Stack
) -> None:
    """Each cluster has a Prometheus that knows its own proxies, and calls the other one by Istio's
    name for it."""
    rule = json.dumps(metering.counting(SHOP))
    for cluster in pair.clusters:
        await asyncio.to_thread(cluster.kubectl, "apply", "--filename=-", stdin=rule)
    here, there = (metering.proxied(cluster, SHOP) for cluster in pair.clusters)
    async with AsyncExitStack() as opened:
        for cluster, pods, others in zip(pair.clusters, (here, there), (there, here), strict=True):
            files = metering.scraping(pods, others=others)
            opened.enter_context(prometheuses.running(cluster, files))
        seen = await opened.enter_async_context(seeing(stack))
        await opened.enter_async_context(pair.caller.flowing(URL))

        async def busy() -> list[dict[str, Any]]:
            """The edges with traffic, each with the nodes at its ends."""
            told = await seen.ask(
                "graph", clusters=["one", "two"], graphType="workload", namespaces=[SHOP]
            )
            elements = told["elements"]
            nodes = {node["data"]["id"]: node["data"] for node in elements["nodes"]}
            return [
                {**edge, "from": nodes[edge["source"]], "to": nodes[edge["target"]]}
                for edge in (one["data"] for one in elements["edges"])
                if (edge.get("traffic") or {}).get("rates")
            ]

        edges: list[dict[str, Any]] = []

        async def is_whole() -> bool:
            edges[:] = await busy()
            return len(edges) == 4 and all("isMTLS" in edge for edge in edges)

        await eventually(is_whole, what="all edges, told by both clusters", within_s=_WITHIN_S)
    # A call goes by way of the Service in the cluster that answers: that cluster's own node.
    assert sorted((_place(edge["from"]), _place(edge["to"])) for edge in edges) == [
        ("one caller", "one echo."),
        ("one caller", "two echo."),
        ("one echo.", "one echo"),
        ("two echo.", "two echo"),
    ]
    for edge in edges:
        print(_place(edge["from"]), "to", _place(edge["to"]), edge["traffic"]["rates"])
        assert not edge["to"].get("isOutside")
        assert edge["isMTLS"] == "100"
        assert float(edge["traffic"]["rates"]["http"]) > 0


def _place(node: dict[str, Any]) -> str:
    """Cluster and name of a node; a Service has a dot behind."""
    name = f"{node['service']}." if node["nodeType"] == "service" else node["workload"]
    return f"{node['cluster']} {name}"


async def test_the_other_cluster_answers_through_gateways_on_two_networks(pair: Pair) -> None:
    await pair.made("east", "west")
    for cluster in pair.clusters:
        await pairs.balance(cluster, "istio-eastwestgateway", namespace="istio-system")
        restart = ("rollout", "restart", "deployment", f"--namespace={SHOP}")
        await asyncio.to_thread(cluster.kubectl, *restart)
        for name in ("echo", *(["caller"] if cluster is pair.clusters[0] else [])):
            await asyncio.to_thread(pairs.wait_ready, cluster, name)
    await _one_for_the_other(pair)
    # It came through the gateway: the caller's proxy knows no pod of the other network.
    [other] = pair.clusters[1:]
    pods = other.api.request("GET", f"/api/v1/namespaces/{SHOP}/pods")["items"]
    known = await asyncio.to_thread(
        pair.clusters[0].kubectl,
        "exec",
        "deployment/caller",
        f"--namespace={SHOP}",
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
    route = json.dumps(retrying("echo", SHOP))
    await asyncio.to_thread(pair.clusters[0].kubectl, "apply", "--filename=-", stdin=route)
    before = [pairs.planes(cluster) for cluster in pair.clusters]
    async with (
        pair.caller.flowing(URL) as once,
        pair.caller.flowing(URL, headers=RETRIED) as again,
    ):
        await pair.scaled(0)
        await pair.answered_by("two")
        await pair.made("east", "west", sampling=2.0)
        await pair.answered_by("two")
        await pair.scaled(1)
        await pair.answered_by("one", "two")
    after = [pairs.planes(cluster) for cluster in pair.clusters]
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
