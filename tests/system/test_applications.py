"""Sample applications and add-ons through gRPC on a real API server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from services.lifecycle.applications.samples import BY_NAME
from tests.system.test_rbac import PAGE
from tests.testbed.bodies import PURGE, config_map, no_pods_quota, options
from tests.testbed.clusters import Cluster
from tests.testbed.meshery import Meshery, Received
from tests.testbed.recipe import ISTIO_OLDER_VERSION, ISTIO_VERSION
from tests.testbed.snapshots import differences, snapshot
from tests.testbed.waiting import eventually

SHOP = "shop"
WARN = 1
MINIMAL = options(profile="minimal")
ELSEWHERE = json.dumps(
    {
        "apiVersion": "install.istio.io/v1alpha1",
        "kind": "IstioOperator",
        "metadata": {"namespace": "mesh-system"},
        "spec": {"profile": "minimal", "values": {"global": {"istioNamespace": "mesh-system"}}},
    }
)


def addon_options(**spec: Any) -> str:
    return json.dumps({"apiVersion": "meshbus.io/v1", "kind": "AddonOptions", "spec": spec})


def application_options(**spec: Any) -> str:
    return json.dumps({"apiVersion": "meshbus.io/v1", "kind": "ApplicationOptions", "spec": spec})


async def run(
    meshery: Meshery, name: str, *, namespace: str = SHOP, **wanted: Any
) -> list[Received]:
    """Applies and returns all events up to the last one."""
    operation = await meshery.apply(name, namespace=namespace, **wanted)

    def ended() -> bool:
        return any(
            r.failed or "successfully" in r.event.summary.lower() for r in meshery.of(operation)
        )

    await meshery.until(ended, within_s=120.0)
    return meshery.of(operation)


async def succeed(meshery: Meshery, name: str, **wanted: Any) -> list[Received]:
    events = await run(meshery, name, **wanted)
    assert not events[-1].failed, events[-1].event
    assert "error" not in events[-1].event.details.lower()
    return events


def warnings(events: list[Received]) -> str:
    return "\n".join(r.event.summary for r in events if r.event.event_type == WARN)


def objects(cluster: Cluster, name: str) -> dict[str, dict[str, Any]]:
    """Everything with the application's label, by kind and name."""
    kinds = (
        "serviceaccounts,configmaps,services,deployments,clusterroles,clusterrolebindings,"
        "gateways.networking.istio.io,virtualservices.networking.istio.io"
    )
    text = cluster.kubectl("get", kinds, "-A", "-l", f"meshbus.io/application={name}", "-o", "json")
    return {f"{i['kind']} {i['metadata']['name']}": i for i in json.loads(text)["items"]}


def changes(cluster: Cluster, name: str) -> dict[str, Any]:
    """What moves when somebody writes; a Deployment's own status writes do not count."""
    return {
        key: (
            item["metadata"]["generation"]
            if key.startswith("Deployment")
            else item["metadata"]["resourceVersion"]
        )
        for key, item in objects(cluster, name).items()
    }


async def unchanged(cluster: Cluster, before: dict[str, str]) -> None:
    """Pods and endpoints follow their owners a moment later."""
    await eventually(
        lambda: not differences(before, snapshot(cluster)),
        what="the cluster to be as before",
        within_s=60.0,
    )


@pytest.fixture(scope="module")
async def mesh(meshery: Meshery, cluster: Cluster) -> AsyncIterator[Cluster]:
    """The shared cluster with a small Istio and a namespace for samples."""
    cluster.kubectl("create", "namespace", SHOP)
    installed = await meshery.run("istio", version=ISTIO_VERSION, body=MINIMAL)
    assert not installed.failed, installed.event
    yield cluster
    await meshery.run("istio", delete=True, body=PURGE)
    await asyncio.to_thread(
        cluster.kubectl, "delete", "namespace", SHOP, "istio-system", "--ignore-not-found"
    )


# All of them go through two clusters in test_operations.py; here one of each sort, closely.
@pytest.mark.parametrize("name", ["bookinfo", "imagehub", "jaeger-addon"])
async def test_each_sort_is_applied_repeated_and_removed(
    name: str, mesh: Cluster, meshery: Meshery
) -> None:
    before = snapshot(mesh)
    events = await succeed(meshery, name)
    final = events[-1].event
    addon = BY_NAME[name].is_addon
    expected = f"Successfully installed {name}" if addon else f"{name} application installed"
    assert final.summary.startswith(expected)
    applied = objects(mesh, name)
    places = {item["metadata"].get("namespace", "") for item in applied.values()}
    assert places - {""} == {"istio-system" if addon else SHOP}
    assert f"{len(applied)} objects" in final.details
    assert f"{len(applied)} created" in final.details
    for key, item in applied.items():
        if key.startswith("Deployment"):
            assert any(f"{item['metadata']['name']} is ready" in r.event.summary for r in events)
            assert item["status"]["availableReplicas"] == item["spec"]["replicas"]
        if key.startswith("Service "):
            assert item["spec"]["type"] == "ClusterIP"

    first = changes(mesh, name)
    again = await succeed(meshery, name)
    assert f"0 created, {len(applied)} configured" in again[-1].event.details
    assert changes(mesh, name) == first
    assert not [r for r in again if "taken over" in r.event.summary]

    removed = (await succeed(meshery, name, delete=True))[-1].event
    assert removed.summary.partition(" on ")[0].endswith("removed successfully")
    assert f"{len(applied)} objects deleted, 0 were not there" in removed.details
    await unchanged(mesh, before)
    absent = (await succeed(meshery, name, delete=True))[-1].event
    assert f"0 objects deleted, {len(applied)} were not there" in absent.details


async def test_samples_come_from_the_installed_version(mesh: Cluster, meshery: Meshery) -> None:
    final = (await succeed(meshery, "httpbin", version=ISTIO_OLDER_VERSION))[-1].event
    assert f"from the samples of Istio {ISTIO_VERSION}" in final.details
    await succeed(meshery, "httpbin", delete=True)


async def test_a_namespace_keeps_its_labels_and_is_told_what_it_lacks(
    mesh: Cluster, meshery: Meshery
) -> None:
    labels = ("get", "namespace", SHOP, "-o", "jsonpath={.metadata.labels}")
    assert "asks for no sidecars" in warnings(await succeed(meshery, "httpbin"))
    mesh.kubectl("label", "namespace", SHOP, "istio.io/rev=nobody", "team=a")
    before = mesh.kubectl(*labels)
    events = await succeed(meshery, "httpbin")
    assert "asks for no sidecars" not in warnings(events)
    await succeed(meshery, "httpbin", delete=True)
    assert mesh.kubectl(*labels) == before
    mesh.kubectl("label", "namespace", SHOP, "istio.io/rev-", "team-")


async def test_the_gateway_is_left_out_when_asked(mesh: Cluster, meshery: Meshery) -> None:
    before = snapshot(mesh)
    with_gateway = await succeed(meshery, "bookinfo", body=config_map("of-the-editor"))
    assert any("body is left out" in r.event.summary for r in with_gateway)
    assert "Gateway bookinfo-gateway" in objects(mesh, "bookinfo")
    events = await succeed(meshery, "bookinfo", body=application_options(gateway=False))
    assert any(r.event.summary.startswith("Pruned 2 objects") for r in events)
    kinds = {key.partition(" ")[0] for key in objects(mesh, "bookinfo")}
    assert kinds == {"Deployment", "Service", "ServiceAccount"}
    await succeed(meshery, "bookinfo", delete=True)
    await unchanged(mesh, before)


async def test_a_service_is_opened_and_closed_again(mesh: Cluster, meshery: Meshery) -> None:
    def kind() -> str:
        return mesh.kubectl(
            "get", "service", "kiali", "-n", "istio-system", "-o", "jsonpath={.spec.type}"
        )

    events = await succeed(meshery, "kiali-addon", body=addon_options(expose=True))
    assert "Service istio-system/kiali can be reached from outside" in warnings(events)
    assert kind() == "LoadBalancer"
    await succeed(meshery, "kiali-addon")
    assert kind() == "ClusterIP"

    patch = '{"spec": {"type": "LoadBalancer"}}'
    mesh.kubectl("patch", "service", "kiali", "-n", "istio-system", "-p", patch)
    events = await succeed(meshery, "kiali-addon")
    assert "taken over" in warnings(events)
    assert kind() == "ClusterIP"
    await succeed(meshery, "kiali-addon", delete=True)


async def test_two_add_ons_with_the_same_services(mesh: Cluster, meshery: Meshery) -> None:
    def leads_to(name: str) -> str:
        return mesh.kubectl(
            "get", "service", name, "-n", "istio-system", "-o", "jsonpath={.spec.selector.app}"
        )

    before = snapshot(mesh)
    await succeed(meshery, "jaeger-addon")
    taking = await succeed(meshery, "zipkin-addon")
    assert "jaeger-addon is installed too" in warnings(taking)
    assert (leads_to("tracing"), leads_to("zipkin")) == ("zipkin", "zipkin")

    # The one that has the Services goes: the other one gets them back.
    going = await succeed(meshery, "zipkin-addon", delete=True)
    assert "gets back" in warnings(going)
    assert (leads_to("tracing"), leads_to("zipkin")) == ("jaeger", "jaeger")

    # The one that lost them goes: they stay as they are.
    await succeed(meshery, "zipkin-addon", body=addon_options(expose=True))
    going = await succeed(meshery, "jaeger-addon", delete=True)
    assert "gets back" not in warnings(going)
    assert "stay for zipkin-addon" in going[-1].event.details
    exposed = objects(mesh, "zipkin-addon")["Service zipkin"]
    assert exposed["spec"]["type"] == "LoadBalancer"
    await succeed(meshery, "zipkin-addon", delete=True)
    await unchanged(mesh, before)


async def test_what_an_earlier_version_brought_goes_with_the_rest(
    mesh: Cluster, meshery: Meshery
) -> None:
    before = snapshot(mesh)
    await succeed(meshery, "prometheus-addon")
    mesh.kubectl("create", "configmap", "earlier", "-n", "default")
    mesh.kubectl(
        "label", "configmap", "earlier", "-n", "default", "meshbus.io/application=prometheus-addon"
    )
    removed = (await succeed(meshery, "prometheus-addon", delete=True))[-1].event
    assert "ConfigMap default/earlier" in removed.details
    await unchanged(mesh, before)


async def test_a_workload_that_does_not_start_is_explained(mesh: Cluster, meshery: Meshery) -> None:
    before = snapshot(mesh)
    mesh.kubectl("apply", "-f", "-", stdin=json.dumps(no_pods_quota(SHOP)))
    body = application_options(readinessTimeoutSeconds=1)
    failed = (await run(meshery, "emojivoto", body=body))[-1].event
    assert failed.error_code == "MB-4007"
    assert "Deployment shop/emoji" in failed.details
    assert "exceeded quota" in failed.probable_cause
    mesh.kubectl("delete", "resourcequota", "no-pods", "-n", SHOP)
    await succeed(meshery, "emojivoto", delete=True)
    await unchanged(mesh, before)


async def test_the_documented_rights_are_enough(mesh: Cluster, meshery: Meshery) -> None:
    role = PAGE.read_text().partition("```yaml\n")[2].partition("```")[0]
    mesh.kubectl("apply", "-f", "-", stdin=role)
    limited = [
        mesh.token_kubeconfig_text(
            account="limited", namespace="kube-system", role="meshbus-lifecycle"
        )
    ]
    for name in ("bookinfo", "prometheus-addon", "kiali-addon", "zipkin-addon"):
        await succeed(meshery, name, kubeconfigs=limited)
        await succeed(meshery, name, delete=True, kubeconfigs=limited)


@pytest.mark.parametrize(
    ("name", "body", "code", "word"),
    [
        ("bookinfo", application_options(expose=True), "MB-5004", "spec.expose"),
        ("kiali-addon", addon_options(expose="yes"), "MB-5004", "AddonOptions"),
    ],
)
async def test_options_that_cannot_be_used_change_nothing(
    name: str, body: str, code: str, word: str, mesh: Cluster, meshery: Meshery
) -> None:
    before = snapshot(mesh)
    event = (await run(meshery, name, body=body))[-1].event
    assert event.error_code == code
    assert word in event.details + event.suggested_remediation
    assert differences(before, snapshot(mesh)) == []


# --- without that mesh; these come last, because they take it away --------------------------------


@pytest.mark.parametrize(
    ("name", "code", "word"),
    [
        ("bookinfo", "MB-3011", "namespace nowhere does not exist"),
        ("imagehub", "MB-3011", "namespace nowhere does not exist"),
        ("grafana-addon", "MB-3011", "namespace istio-system does not exist"),
    ],
)
async def test_a_missing_namespace_changes_nothing(
    name: str, code: str, word: str, bare: Cluster, meshery: Meshery
) -> None:
    before = snapshot(bare)
    event = (await run(meshery, name, namespace="nowhere"))[-1].event
    assert event.error_code == code
    assert word in event.details
    assert differences(before, snapshot(bare)) == []
    absent = (await succeed(meshery, name, namespace="nowhere", delete=True))[-1].event
    assert absent.summary.partition(" on ")[0].endswith("removed successfully")


async def test_a_sample_without_istio(bare: Cluster, meshery: Meshery) -> None:
    bare.kubectl("create", "namespace", "plain")
    before = snapshot(bare)
    events = await run(meshery, "bookinfo", namespace="plain")
    assert "no Istio" in warnings(events)
    assert events[-1].event.error_code == "MB-3009"
    assert "gateway: false" in events[-1].event.suggested_remediation
    assert differences(before, snapshot(bare)) == []
    body = application_options(gateway=False)
    await succeed(meshery, "bookinfo", namespace="plain", body=body)
    await succeed(meshery, "bookinfo", namespace="plain", delete=True)
    await unchanged(bare, before)
    bare.kubectl("delete", "namespace", "plain")


async def test_add_ons_follow_an_older_mesh_elsewhere(bare: Cluster, meshery: Meshery) -> None:
    before = snapshot(bare)
    installed = await meshery.run("istio", version=ISTIO_OLDER_VERSION, body=ELSEWHERE)
    assert not installed.failed, installed.event
    final = (await succeed(meshery, "kiali-addon"))[-1].event
    assert f"from the samples of Istio {ISTIO_OLDER_VERSION}" in final.details
    found = objects(bare, "kiali-addon")
    places = {item["metadata"].get("namespace", "") for item in found.values()}
    assert places == {"", "mesh-system"}
    assert "root_namespace: mesh-system" in found["ConfigMap kiali"]["data"]["config.yaml"]
    subjects = found["ClusterRoleBinding kiali"]["subjects"]
    assert [subject["namespace"] for subject in subjects] == ["mesh-system"]

    # Without the mesh nobody says where the add-on is; its label does.
    await meshery.run("istio", delete=True, body=PURGE)
    removed = (await succeed(meshery, "kiali-addon", delete=True))[-1].event
    assert f"{len(found)} objects deleted" in removed.details
    bare.kubectl("delete", "namespace", "mesh-system", "--ignore-not-found")
    await unchanged(bare, before)
