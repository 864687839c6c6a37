"""Discovery: two requests for all kinds, asked again when something is missing."""

from __future__ import annotations

import asyncio

import pytest

from services.chassis.errors import KindUnknown
from services.chassis.kube.applying import Applier
from services.chassis.kube.client import KubeClient
from services.chassis.kube.kubeconfigs import parse_kubeconfig
from services.chassis.kube.objects import Ref
from services.chassis.kube.resources import Resources
from services.chassis.telemetry.metrics import Metrics
from tests.real.chassis.kube.objects import body, definition, ref
from tests.testbed.clusters import Cluster
from tests.testbed.proxies import FaultProxy
from tests.testbed.waiting import eventually


@pytest.mark.parametrize(
    ("ref", "path"),
    [
        (Ref("v1", "Namespace", "", "n"), "/api/v1/namespaces/n"),
        (Ref("v1", "ConfigMap", "n", "c"), "/api/v1/namespaces/n/configmaps/c"),
        (Ref("apps/v1", "Deployment", "n", "d"), "/apis/apps/v1/namespaces/n/deployments/d"),
        (
            Ref("rbac.authorization.k8s.io/v1", "ClusterRole", "", "r"),
            "/apis/rbac.authorization.k8s.io/v1/clusterroles/r",
        ),
    ],
    ids=str,
)
async def test_kinds_have_their_paths(resources: Resources, ref: Ref, path: str) -> None:
    resource = await resources.find(ref.api_version, ref.kind)

    assert resource.path(ref) == path
    assert {"list", "watch", "patch", "delete"} <= resource.verbs


async def test_collection_of_a_namespace_or_of_all(resources: Resources) -> None:
    deployments = await resources.find("apps/v1", "Deployment")

    assert deployments.collection("n") == "/apis/apps/v1/namespaces/n/deployments"
    assert deployments.collection() == "/apis/apps/v1/deployments"


async def test_unknown_kind_is_told(resources: Resources) -> None:
    with pytest.raises(KindUnknown, match=r"serves no Thing in nowhere\.example/v1") as told:
        await resources.find("nowhere.example/v1", "Thing")

    assert told.value.code == "MB-3009"


async def test_unknown_version_of_a_known_kind_is_told(resources: Resources) -> None:
    with pytest.raises(KindUnknown):
        await resources.find("apps/v1beta1", "Deployment")


async def test_preferred_version_and_kind_of_a_plural(resources: Resources) -> None:
    found = await resources.preferred("autoscaling", "HorizontalPodAutoscaler")

    assert found is not None
    assert found.api_version == "autoscaling/v2"
    assert await resources.kind_of("apps", "daemonsets") == "DaemonSet"
    assert await resources.preferred("nowhere.example", "Thing") is None
    assert await resources.kind_of("nowhere.example", "things") is None


async def test_kind_that_came_later_is_found(
    resources: Resources, applier: Applier, name: str
) -> None:
    group = f"{name}.example"
    await resources.refresh()
    defined = definition(group, "Widget")
    await applier.apply(ref(defined), body(defined))

    async def is_served() -> bool:
        try:
            return bool(await resources.find(f"{group}/v1", "Widget"))
        except KindUnknown:
            return False

    await eventually(is_served, what="the kind to be discovered")
    assert await resources.kind_of(group, "widgets") == "Widget"
    await applier.delete(ref(defined))


async def test_many_askers_share_one_reading(cluster: Cluster) -> None:
    counted = Metrics()
    async with KubeClient(parse_kubeconfig(cluster.kubeconfig_text), counted=counted) as client:
        resources = Resources(client)

        await asyncio.gather(*(resources.find("apps/v1", "Deployment") for _ in range(50)))

        # /api, /apis, and the question whether the server is ready.
        assert _requests(counted) == 3
        await resources.find("v1", "Service")
        assert _requests(counted) == 3


def _requests(counted: Metrics) -> int:
    lines = counted.exposition().decode().splitlines()
    samples = [line for line in lines if line.startswith("meshbus_kube_requests_total{")]
    return sum(int(float(line.rpartition(" ")[2])) for line in samples)


async def test_discovery_outlives_a_cut(proxied: KubeClient, proxy: FaultProxy) -> None:
    proxy.delay(0.05)
    reading = asyncio.create_task(Resources(proxied).find("apps/v1", "Deployment"))
    await eventually(lambda: proxy.accepted_connections, what="a connection")

    proxy.cut()

    assert (await reading).plural == "deployments"
