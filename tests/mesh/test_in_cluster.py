"""Meshbus in the cluster that it manages: the chart, the images, their pods, rights and ends.

Two nodes, so that one can be drained; NetworkPolicies hold on both.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Mapping
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from services.chassis.bus.queries import ask
from services.chassis.messages import OperationState, Phase
from tests.real.deploy.charts import lag, of_kind
from tests.testbed import shipped
from tests.testbed.bodies import both, operator, options
from tests.testbed.callers import Caller
from tests.testbed.charted import NAMESPACE, PARTS, Charted
from tests.testbed.meshery import Meshery, Received
from tests.testbed.perfrigs import ENDED, smp
from tests.testbed.processes import wait_until
from tests.testbed.realclusters import RealCluster
from tests.testbed.recipe import ISTIO_VERSION
from tests.testbed.waiting import eventually

pytestmark = pytest.mark.full
"""The images are built anew after each change of a service, which takes minutes."""

_WITHIN = timedelta(seconds=20)
_DONE_WITHIN_S = 240.0
_HELD = "meshbus.test/held"
"""A label that no node has until a test gives it: what asks for it waits that long."""
_CONNECT = """
import socket, sys
try:
    socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=5).close()
    print("connected")
except OSError as error:
    print(error)
"""


@pytest.fixture(scope="module")
def images_built(nodes_built: None) -> None:
    """The images of Meshbus itself; building takes a minute or two, after each change of them."""
    shipped.archives()


@pytest.fixture(scope="module")
def home(images_built: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Charted]:
    """An installation, whose removal leaves no pod."""
    folder = tmp_path_factory.mktemp("home")
    with RealCluster(folder / "cluster", nodes=2) as cluster:
        charted = Charted(cluster, folder)
        charted.prepare()
        charted.install()
        yield charted
        charted.uninstall()
        wait_until(
            lambda: not any(map(charted.pods, PARTS)),
            timeout_s=60.0,
            what="all pods to be gone",
            processes=[cluster.apiserver],
        )


@pytest.fixture(scope="module")
async def meshery(home: Charted) -> AsyncIterator[Meshery]:
    """A Meshery that has the cluster selected, by the address that it has for its own pods."""
    async with Meshery(home.gateway_address, [home.kubeconfig_text]).connected() as connected:
        yield connected


@pytest.fixture(scope="module")
async def home_mesh(home: Charted) -> str:
    """The token of the cluster, in which Istio was installed by the account of the chart."""
    [record] = (await asked(home, "gateway", "clusters"))["clusters"]
    cluster = str(record["cluster"])
    await done_by_chart(home, cluster, "istio", version=ISTIO_VERSION)
    return cluster


async def asked(home: Charted, service: str, verb: str, **question: Any) -> Any:
    """What a service answers the operator."""
    async with home.operator() as bus:
        return await ask(bus, question, service=service, verb=verb, within=_WITHIN)


async def done_by_chart(home: Charted, cluster: str, kind: str, **question: Any) -> None:
    """An operation on the registered cluster, by its registered accounts, to its success."""
    async with home.operator() as bus:
        wanted = {"kind": kind, "clusters": [cluster], **question}
        accepted = await ask(bus, wanted, service="gateway", verb="apply", within=_WITHIN)
        sought = {"operation": accepted["operation"]}
        part: dict[str, Any] = {}

        async def has_ended() -> bool:
            nonlocal part
            told = await ask(bus, sought, service="gateway", verb="operations", within=_WITHIN)
            part = told["parts"][cluster] or {"state": OperationState.RUNNING}
            return bool(part["state"] != OperationState.RUNNING)

        await eventually(has_ended, what=f"{kind} to end", within_s=_DONE_WITHIN_S)
    assert part["state"] == OperationState.SUCCEEDED, part


async def test_every_part_is_ready_and_the_cluster_is_registered(home: Charted) -> None:
    assert home.are_ready()
    restarts = {
        pod["metadata"]["name"]: status["restartCount"]
        for part in PARTS
        for pod in home.pods(part)
        for status in pod["status"]["containerStatuses"]
    }
    assert not any(restarts.values()), restarts
    [record] = (await asked(home, "gateway", "clusters"))["clusters"]
    assert (record["name"], record["has_reader"]) == ("home", True)

    async def is_watched() -> bool:
        watched = (await asked(home, "topology", "clusters"))["clusters"]
        return [each["state"] for each in watched] == ["watching"]

    await eventually(is_watched, what="topology to watch the cluster")


@pytest.fixture(scope="module")
async def callers(home: Charted) -> dict[str, Caller]:
    """Pods in namespaces whose names the chart's values know, and in one that they do not."""
    operated = {"app.kubernetes.io/name": "keda-operator"}
    callers = {
        name: Caller(home.cluster, namespace=name, labels=operated if name == "keda" else {})
        for name in ("keda", "monitoring", "elsewhere")
    }
    for name, caller in callers.items():
        home.cluster.kubectl("create", "namespace", name)
        await asyncio.to_thread(caller.start)
    for caller in callers.values():
        await asyncio.to_thread(caller.wait_ready)
    return callers


async def test_policies_let_in_and_out_whom_the_reference_names(
    home: Charted, callers: Mapping[str, Caller]
) -> None:
    def reaches(caller: Caller, url: str) -> bool:
        # A refusal by the name in the request is an answer as well.
        return next(iter(caller.get(url, timeout_s=5.0).counts)).isdecimal()

    def goes_out(part: str) -> bool:
        pod = home.pods(part)[0]["metadata"]["name"]
        connect = ("--", "python3", "-c", _CONNECT, "kubernetes.default.svc", "443")
        told = home.cluster.kubectl("exec", pod, f"--namespace={NAMESPACE}", *connect)
        return told.strip() == "connected"

    queue = f"http://meshbus-nats.{NAMESPACE}.svc:8222/healthz"
    metrics = f"http://meshbus-topology.{NAMESPACE}.svc:9114/livez"
    for url, inside in ((queue, "keda"), (metrics, "monitoring")):
        # Policies come to the nodes a moment later than the pods.
        reached = partial(asyncio.to_thread, reaches, callers[inside], url)
        await eventually(reached, what=f"{inside} to reach {url}")
        for name in callers.keys() - {inside}:
            assert not await asyncio.to_thread(reaches, callers[name], url), (name, url)
    assert await asyncio.to_thread(goes_out, "lifecycle")
    for part in ("gateway", "translator"):

        async def stays_in(part: str = part) -> bool:
            return not await asyncio.to_thread(goes_out, part)

        await eventually(stays_in, what=f"{part} to be kept in by its policy")


async def test_istio_is_installed_by_the_account_of_the_chart(
    home: Charted, home_mesh: str
) -> None:
    home.cluster.kubectl("create", "namespace", "shop")
    await done_by_chart(home, home_mesh, "label-namespace", namespace="shop")
    caller = Caller(home.cluster, namespace="shop")
    await asyncio.to_thread(caller.start)
    await asyncio.to_thread(caller.wait_ready)
    pods = home.cluster.kubectl("get", "pods", "--namespace=shop", "--output=json")
    [pod] = json.loads(pods)["items"]
    assert "sidecar.istio.io/status" in pod["metadata"]["annotations"]


async def test_an_operation_ends_once_whoever_is_killed(
    home: Charted, home_mesh: str, meshery: Meshery
) -> None:
    """Everything that has to do with it dies while it runs, one part after the other."""
    operation = await held(meshery, "killed")
    for part in ("lifecycle", "gateway", "nats"):
        await asyncio.to_thread(home.kill, part)
        await eventually(home.are_ready, what=f"{part} to be back", within_s=_DONE_WITHIN_S)
    await let_go(home, meshery, operation, "killed")


async def test_workers_that_the_queue_asks_for_share_a_load(
    home: Charted, callers: Mapping[str, Caller]
) -> None:
    """KEDA's own question, from its place; the answer is followed here as KEDA would."""
    rendering = home.rendered({"perf": {"scaling": {"by": "keda"}}})
    scaled = of_kind(rendering, "ScaledObject")["meshbus-perf"]
    [trigger] = scaled["spec"]["triggers"]
    named = trigger["metadata"]
    query = f"acc={named['account']}&consumers=true&config=true"
    url = f"http://meshbus-nats.{NAMESPACE}.svc.cluster.local:8222/jsz?{query}"

    def seen() -> int:
        return lag(json.loads(callers["keda"].get(url).body), named)

    assert await asyncio.to_thread(seen) == 0
    kubectl = home.cluster.kubectl
    kubectl("create", "deployment", "web", "--image=docker.io/mccutchen/go-httpbin:v2.15.0")
    kubectl("expose", "deployment", "web", "--port=80", "--target-port=8080")
    kubectl("rollout", "status", "deployment/web", "--timeout=60s", timeout_s=70.0)
    test = smp("http://web.default.svc.cluster.local/status/204", workers=3)
    run = (await asked(home, "perf", "run", test=test))["run"]

    async def all_wait() -> bool:
        return await asyncio.to_thread(seen) == 3

    await eventually(all_wait, what="the queue to ask for three workers")
    scale = ("scale", "deployment/meshbus-perf", f"--namespace={NAMESPACE}")
    kubectl(*scale, f"--replicas={await asyncio.to_thread(seen)}")
    record: dict[str, Any] = {}

    async def has_ended() -> bool:
        nonlocal record
        record = await asked(home, "perf", "status", run=run)
        return record["state"] in ENDED

    await eventually(has_ended, what="the run to end", within_s=_DONE_WITHIN_S)
    assert record["state"] == "done", record
    assert len(set(record["workers"])) == 3
    assert not record["missing"]
    kubectl(*scale, "--replicas=1")


async def test_an_operation_ends_once_over_the_drain_of_every_node(
    home: Charted, home_mesh: str, meshery: Meshery
) -> None:
    operation = await held(meshery, "drained")
    for node in home.cluster.nodes:
        drain = ("drain", node.name, "--delete-emptydir-data", "--timeout=240s", "--force")
        await asyncio.to_thread(home.cluster.kubectl, *drain, timeout_s=250.0)
        for part in PARTS:
            assert node.name not in {pod["spec"].get("nodeName") for pod in home.pods(part)}
        await asyncio.to_thread(home.cluster.kubectl, "uncordon", node.name)
        await eventually(home.are_ready, what="all to be ready elsewhere", within_s=_DONE_WITHIN_S)
    await let_go(home, meshery, operation, "drained")


async def held(meshery: Meshery, revision: str) -> str:
    """An install whose istiod waits for a node with a label; the id of the operation, once it
    waits as well."""
    overlay = operator(values={"pilot": {"nodeSelector": {_HELD: revision}}})
    body = both(overlay, options(profile="minimal", revision=revision))
    operation = await meshery.accepted("istio", body=body, version=ISTIO_VERSION)
    await meshery.until(
        lambda: any(_waits(received) for received in meshery.of(operation)),
        within_s=_DONE_WITHIN_S,
    )
    return operation


def _waits(received: Received) -> bool:
    return str(received.event.summary).startswith("Wave 3")


async def let_go(home: Charted, meshery: Meshery, operation: str, revision: str) -> None:
    """Gives a node the label; the operation succeeds, and that is told once and kept once."""
    assert not [received for received in meshery.of(operation) if received.is_final]
    home.cluster.kubectl("label", "node", home.cluster.node.name, f"{_HELD}={revision}")
    finals = await meshery.finals(operation, within_s=_DONE_WITHIN_S)
    assert [final.failed for final in finals] == [False], finals[0].event
    kept = (await asked(home, "gateway", "events", operation=operation))["events"]
    assert [event["phase"] for event in kept].count(Phase.DONE) == 1
    home.cluster.kubectl("label", "node", home.cluster.node.name, f"{_HELD}-")
