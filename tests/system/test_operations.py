"""All operations of the older adapter, and those its users missed, through gRPC on two clusters."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest

from services.chassis.bus.records import Bucket
from services.chassis.bus.subjects import operation_credential
from services.chassis.kube.kubeconfigs import parse_kubeconfig
from tests.testbed.bodies import PURGE, config_map
from tests.testbed.clusters import Cluster
from tests.testbed.meshery import Meshery
from tests.testbed.recipe import ISTIO_VERSION
from tests.testbed.snapshots import differences, snapshot
from tests.testbed.stack import Stack
from tests.testbed.stored import admin_bus
from tests.testbed.waiting import eventually

NAMESPACE = "every-operation"

# Key, category and text: what Meshery's users know (docs of the older adapter).
OF_THE_OLDER_ADAPTER = {
    "istio": (0, "Istio Service Mesh"),
    "bookinfo": (1, "Istio Book Info Application"),
    "httpbin": (1, "HTTPBin Application"),
    "imagehub": (1, "Image Hub Application"),
    "emojivoto": (1, "EmojiVoto Application"),
    "custom": (4, "Custom YAML"),
    "smi_conformance": (3, "SMI Conformance"),
    "label-namespace": (2, "Automatic Sidecar Injection"),
    "prometheus-addon": (2, "Add-on: Prometheus"),
    "grafana-addon": (2, "Add-on: Grafana"),
    "kiali-addon": (2, "Add-on: Kiali"),
    "jaeger-addon": (2, "Add-on: Jaeger"),
    "zipkin-addon": (2, "Add-on: Zipkin"),
    "istio-vet": (3, "Analyze Running Configuration"),
    "envoy-filter-operation": (2, "Envoy Filter for Image Hub"),
    "deny-all-policy-operation": (2, "Policy: Deny-All"),
    "strict-mtls-policy-operation": (2, "Policy: Strict MTLS"),
    "mutual-mtls-policy-operation": (2, "Policy: Mutual MTLS"),
    "disable-mtls-policy-operation": (2, "Policy: Disable MTLS"),
}
FURTHER = (
    "bookinfo-subsets",
    "bookinfo-route-version",
    "bookinfo-route-weights",
    "bookinfo-delay",
    "bookinfo-abort",
    "bookinfo-mirror",
    "bookinfo-retries",
    "bookinfo-circuit-breaking",
)
TESTS = ("performance-test", "performance-gate")
FLEET = ("istio-rollout", "istio-multicluster", "istio-ambient")
# `istio` itself has its own suite; the two that only look have a test of their own below.
CHANGING = [
    *(set(OF_THE_OLDER_ADAPTER) - {"istio", "istio-vet", "smi_conformance"}),
    *FURTHER,
]
_QUICK = {
    "httpbin",
    "custom",
    "label-namespace",
    "jaeger-addon",
    "envoy-filter-operation",
    "deny-all-policy-operation",
    "bookinfo-route-weights",
}
"""One of each kind; the others are alike."""
# Workloads' controllers write to them whenever they like.
_WORKLOADS = ("Deployment", "ReplicaSet", "Pod", "StatefulSet", "Endpoint", "PersistentVolume")
_PATIENCE_S = 150.0


@dataclass(slots=True)
class Mesh:
    """A Meshery that has two clusters with Istio selected."""

    meshery: Meshery
    clusters: tuple[Cluster, Cluster]

    async def run(self, name: str, *, delete: bool = False, body: str = "") -> list[Any]:
        """The final events, one for each cluster; all of them successes."""
        operation = await self.meshery.apply(name, namespace=NAMESPACE, delete=delete, body=body)
        finals = await self.meshery.finals(operation, count=2, within_s=_PATIENCE_S)
        for final in finals:
            assert not final.failed, final.event
        return [final.event for final in finals]

    async def snapshots(self) -> list[dict[str, str]]:
        return list(await asyncio.gather(*(asyncio.to_thread(snapshot, c) for c in self.clusters)))


@pytest.fixture(scope="module")
async def mesh(stack: Stack, cluster: Cluster, second_cluster: Cluster) -> AsyncIterator[Mesh]:
    """Istio and a namespace on both clusters."""
    clusters = (cluster, second_cluster)
    before = [snapshot(each) for each in clusters]
    meshery = Meshery(stack.gateway_address, [each.kubeconfig_text for each in clusters])
    async with meshery.connected():
        mesh = Mesh(meshery, clusters)
        await mesh.run("istio", delete=True, body=PURGE)
        installed = await meshery.apply("istio", version=ISTIO_VERSION)
        finals = await meshery.finals(installed, count=2, within_s=_PATIENCE_S)
        assert not any(final.failed for final in finals)
        for each in clusters:
            each.kubectl("create", "namespace", NAMESPACE)
        yield mesh
        await mesh.run("istio", delete=True, body=PURGE)
        # Kubernetes lets five seconds pass before it empties a namespace: all at once.
        gone = ("delete", "namespace", NAMESPACE, "istio-system", "--ignore-not-found")
        await asyncio.gather(*(asyncio.to_thread(each.kubectl, *gone) for each in clusters))
    after = [snapshot(each) for each in clusters]
    assert [differences(b, a) for b, a in zip(before, after, strict=True)] == [[], []]


def body_of(name: str) -> str:
    return config_map("every-operation") if name == "custom" else ""


def resource_versions(cluster: Cluster, keys: set[str]) -> dict[str, str]:
    """Of the objects among `keys` that only their own writers write to."""
    found = {}
    for key in keys:
        group_version, kind, place = key.split(" ")
        if kind.startswith(_WORKLOADS):
            continue
        namespace, _, name = place.partition("/")
        group, _, version = group_version.rpartition("/")
        resource = f"{kind}.{version}.{group}" if group else kind
        where = ["-n", namespace] if namespace else []
        found[key] = cluster.kubectl(
            "get", resource, name, *where, "-o", "jsonpath={.metadata.resourceVersion}"
        )
    return found


def exposed(cluster: Cluster) -> set[str]:
    """Services that are open to the outside."""
    columns = "jsonpath={range .items[*]}{.metadata.name}={.spec.type} {end}"
    types = cluster.kubectl("get", "services", "-A", "-o", columns).split()
    return {
        name for name, _, kind in (text.partition("=") for text in types) if kind != "ClusterIP"
    }


async def test_every_operation_is_offered_under_its_old_name(mesh: Mesh) -> None:
    answer = await mesh.meshery.client.call("SupportedOperations")
    offered = {op.key: (op.category, op.value) for op in answer.ops}
    assert {key: offered.get(key) for key in OF_THE_OLDER_ADAPTER} == OF_THE_OLDER_ADAPTER
    assert set(offered) == {*OF_THE_OLDER_ADAPTER, *FURTHER, *TESTS, *FLEET}


@pytest.mark.parametrize(
    "name",
    [
        name if name in _QUICK else pytest.param(name, marks=pytest.mark.full)
        for name in sorted(CHANGING)
    ],
)
async def test_applied_again_it_changes_nothing_and_deleted_it_leaves_nothing(
    name: str, mesh: Mesh
) -> None:
    before = await mesh.snapshots()
    applied = await mesh.run(name, body=body_of(name))
    places = {event.summary.rpartition(" on ")[2].partition(":")[0] for event in applied}
    assert places == {"bed", "second"}
    between = await mesh.snapshots()
    changed = [
        {line.partition(": ")[2] for line in differences(b, a)}
        for b, a in zip(before, between, strict=True)
    ]
    assert all(changed)
    versions = [resource_versions(c, k) for c, k in zip(mesh.clusters, changed, strict=True)]
    assert all(exposed(each) == {"istio-ingressgateway"} for each in mesh.clusters)

    await mesh.run(name, body=body_of(name))
    again = [resource_versions(c, k) for c, k in zip(mesh.clusters, changed, strict=True)]
    assert again == versions

    deleted = await mesh.run(name, body=body_of(name), delete=True)
    assert all("removed" in event.summary for event in deleted)
    after = await mesh.snapshots()
    assert [differences(b, a) for b, a in zip(before, after, strict=True)] == [[], []]


async def test_modes_of_mutual_tls_replace_each_other(mesh: Mesh) -> None:
    for mode in ("strict", "mutual", "disable"):
        await mesh.run(f"{mode}-mtls-policy-operation")
    for each in mesh.clusters:
        names = each.kubectl("get", "peerauthentication", "-n", NAMESPACE, "-o", "name").split()
        assert names == ["peerauthentication.security.istio.io/disable"]
    await mesh.run("disable-mtls-policy-operation", delete=True)


@pytest.mark.parametrize(
    ("scope", "namespace", "selector"),
    [
        ("{scope: mesh}", "istio-system", None),
        ("{scope: workload, selector: {app: a}}", NAMESPACE, {"app": "a"}),
    ],
)
async def test_a_policy_for_a_mesh_or_a_workload(
    scope: str, namespace: str, selector: dict[str, str] | None, mesh: Mesh
) -> None:
    body = f"apiVersion: meshbus.io/v1\nkind: PolicyOptions\nspec: {scope}\n"
    await mesh.run("strict-mtls-policy-operation", body=body)
    text = mesh.clusters[0].kubectl("get", "peerauthentication", "-n", namespace, "-o", "json")
    [obj] = json.loads(text)["items"]
    assert obj["spec"]["mtls"]["mode"] == "STRICT"
    assert obj["spec"].get("selector", {}).get("matchLabels") == selector
    await mesh.run("strict-mtls-policy-operation", body=body, delete=True)


async def test_options_that_cannot_be_used_change_nothing(mesh: Mesh) -> None:
    body = "apiVersion: meshbus.io/v1\nkind: PolicyOptions\nspec: {scope: galaxy}\n"
    operation = await mesh.meshery.apply(
        "strict-mtls-policy-operation", namespace=NAMESPACE, body=body
    )
    for final in await mesh.meshery.finals(operation, count=2):
        assert final.event.error_code == "MB-5004"
        assert "spec.scope of the PolicyOptions" in final.event.details


async def test_whatever_the_editor_holds_does_not_disturb_an_intent(mesh: Mesh) -> None:
    for body in ("not: [yaml", config_map("x"), "just text"):
        await mesh.run("deny-all-policy-operation", body=body)
    await mesh.run("deny-all-policy-operation", delete=True)


async def test_the_conformance_result_is_what_meshery_parses(mesh: Mesh) -> None:
    before = await mesh.snapshots()
    for event in await mesh.run("smi_conformance"):
        assert "Smi conformance test" in event.summary
        assert "error" not in event.details.lower()
        result = json.loads(event.details)
        assert uuid.UUID(result["id"])
        assert (result["mesh_name"], result["mesh_version"]) == ("Istio", ISTIO_VERSION)
        assert (result["cases_passed"], result["passing_percentage"]) == ("8", "100.00")
        assert result["status"] == "completed"
        assert {detail["smi_specification"] for detail in result["more_details"]} == {
            "traffic-access",
            "traffic-spec",
            "traffic-split",
        }
        for detail in result["more_details"]:
            assert set(detail) == {
                "smi_specification",
                "smi_version",
                "time",
                "assertions",
                "result",
                "reason",
                "capability",
                "status",
            }
            assert detail["status"] == "PASSED"
    assert await mesh.snapshots() == before


async def test_vetting_names_what_is_wrong_and_answers_without_a_mesh(
    mesh: Mesh, meshery: Meshery
) -> None:
    wrong = {
        "apiVersion": "networking.istio.io/v1alpha3",
        "kind": "EnvoyFilter",
        "metadata": {"name": "relative", "namespace": NAMESPACE},
        "spec": {
            "configPatches": [
                {
                    "applyTo": "HTTP_FILTER",
                    "match": {"context": "SIDECAR_INBOUND"},
                    "patch": {"operation": "INSERT_BEFORE", "value": {"name": "a"}},
                }
            ]
        },
    }
    mesh.clusters[0].kubectl("apply", "-f", "-", stdin=json.dumps(wrong))
    operation = await mesh.meshery.apply("istio-vet", namespace=NAMESPACE)
    finals = await mesh.meshery.finals(operation, count=2)
    assert not any(final.failed for final in finals)
    summaries = [received.event.summary for received in mesh.meshery.of(operation)]
    assert any("IST0151" in summary and "relative" in summary for summary in summaries)
    mesh.clusters[0].kubectl("delete", "envoyfilter", "relative", "-n", NAMESPACE)


async def test_an_operation_that_ends_in_the_translator_leaves_no_credential(
    meshery: Meshery, stack: Stack, cluster: Cluster
) -> None:
    """The translator may not write the bucket: it asks lifecycle, which sees that it has ended."""
    final = await meshery.run("custom", body='{"apiVersion": "v1"}')
    assert final.failed
    token = parse_kubeconfig(cluster.kubeconfig_text).cluster
    key = operation_credential(final.event.operation_id, token)
    async with admin_bus(stack) as bus:

        async def is_gone() -> bool:
            return await Bucket(bus, "credentials").get(key) is None

        await eventually(is_gone, what="the credential to be forgotten")
