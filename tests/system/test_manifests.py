"""The operations `custom` and `label-namespace` through gRPC on a real API server."""

from __future__ import annotations

import json

import pytest

from tests.testbed.bodies import config_map, options
from tests.testbed.clusters import Cluster
from tests.testbed.meshery import Meshery
from tests.testbed.snapshots import differences, snapshot

DEFINITION = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "widgets.test.meshbus.io"},
    "spec": {
        "group": "test.meshbus.io",
        "scope": "Namespaced",
        "names": {"kind": "Widget", "plural": "widgets", "singular": "widget"},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "x-kubernetes-preserve-unknown-fields": True,
                    }
                },
            }
        ],
    },
}
WIDGET = {"apiVersion": "test.meshbus.io/v1", "kind": "Widget", "metadata": {"name": "one"}}


def manifest(*documents: object) -> str:
    return "\n---\n".join(json.dumps(document) for document in documents)


async def test_a_definition_and_its_resource_in_one_manifest(
    cluster: Cluster, meshery: Meshery
) -> None:
    before = snapshot(cluster)
    # The resource stands before its definition: the waves bring them into order.
    body = manifest(WIDGET, DEFINITION) + "\n---\n" + config_map("beside")
    applied = await meshery.run("custom", body=body)
    assert not applied.failed, applied.event
    assert applied.event.summary.startswith("Manifest deployed successfully")
    assert cluster.kubectl("get", "widget", "one", "-n", "default", "-o", "name")

    version = cluster.kubectl("get", "cm", "beside", "-o", "jsonpath={.metadata.resourceVersion}")
    again = await meshery.run("custom", body=body)
    assert "0 created" in again.event.details
    assert version == cluster.kubectl(
        "get", "cm", "beside", "-o", "jsonpath={.metadata.resourceVersion}"
    )

    deleted = await meshery.run("custom", body=body, delete=True)
    assert deleted.event.summary.startswith("Manifest removed successfully")
    assert differences(before, snapshot(cluster)) == []
    absent = await meshery.run("custom", body=config_map("beside"), delete=True)
    assert "1 were not there" in absent.event.details


async def test_of_a_kind_that_is_not_there_nothing_has_to_be_deleted(meshery: Meshery) -> None:
    """A repeat of a deletion may find that the definition went before its resources."""
    body = manifest({**WIDGET, "kind": "Gadget"}) + "\n---\n" + config_map("beside")
    deleted = await meshery.run("custom", body=body, delete=True)
    assert not deleted.failed, deleted.event
    assert "2 were not there" in deleted.event.details


async def test_fields_of_another_manager_are_taken_over_and_told(
    cluster: Cluster, meshery: Meshery
) -> None:
    cluster.kubectl("apply", "--server-side", "-f", "-", stdin=config_map("shared", value="theirs"))
    operation = await meshery.apply("custom", body=config_map("shared", value="ours"))
    await meshery.finals(operation)
    warnings = [r.event for r in meshery.of(operation) if r.event.event_type == 1]
    assert any("taken over" in event.summary and "kubectl" in event.details for event in warnings)
    assert cluster.kubectl("get", "cm", "shared", "-o", "jsonpath={.data.v}") == "ours"
    cluster.kubectl("delete", "cm", "shared")


@pytest.mark.parametrize(
    ("body", "code", "word"),
    [
        ("", "MB-1201", "no manifest"),
        ("a: b: c", "MB-1201", "line 1"),
        ("apiVersion: v1", "MB-1201", "kind"),
        (manifest({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {}}), "MB-1201", "name"),
        (config_map("x") + "\n---\n" + config_map("x"), "MB-1201", "twice"),
        (config_map("x", namespace="not-there"), "MB-3011", "not-there"),
        (manifest({**WIDGET, "apiVersion": "no.such.group/v1"}), "MB-3009", "Widget"),
        (
            manifest(
                {**WIDGET, "apiVersion": "split.smi-spec.io/v1alpha4", "kind": "TrafficSplit"}
            ),
            "MB-5002",
            "TrafficSplit",
        ),
        ("schemaVersion: designs.meshery.io/v1beta1\nname: d\n", "MB-5003", "design"),
        ("name: d\nservices: {a: {type: Nonsense}}\n", "MB-5003", "Nonsense"),
        (
            manifest(
                {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}, "spec": {}}
            ),
            "MB-3006",
            "spec.ports",
        ),
    ],
    ids=[
        "empty",
        "no-yaml",
        "no-kind",
        "no-name",
        "twin",
        "no-namespace",
        "no-kind-in-cluster",
        "smi",
        "design-v1beta1",
        "design-v1alpha2",
        "invalid",
    ],
)
async def test_a_bad_manifest_changes_nothing(
    body: str, code: str, word: str, cluster: Cluster, meshery: Meshery
) -> None:
    before = snapshot(cluster)
    event = (await meshery.run("custom", body=body)).event
    assert event.error_code == code
    assert word in event.details + event.probable_cause
    assert event.suggested_remediation
    assert differences(before, snapshot(cluster)) == []


async def test_injection_labels_leave_foreign_labels_alone(
    cluster: Cluster, meshery: Meshery
) -> None:
    cluster.kubectl("create", "namespace", "shop")
    cluster.kubectl("label", "namespace", "shop", "team=a")
    before = labels(cluster)
    # Meshery sends what its editor holds, here half a manifest.
    on = await meshery.run("label-namespace", namespace="shop", body="kind: [Deploy")
    assert not on.failed, on.event
    assert labels(cluster) == {**before, "istio-injection": "enabled"}
    by_revision = options(revision="prod")
    await meshery.run("label-namespace", namespace="shop", body=by_revision)
    assert labels(cluster) == {**before, "istio.io/rev": "prod"}
    await meshery.run("label-namespace", namespace="shop", body=by_revision, delete=True)
    off = await meshery.run("label-namespace", namespace="shop", delete=True)
    assert "removed" in off.event.summary
    assert labels(cluster) == before
    cluster.kubectl("delete", "namespace", "shop")


async def test_a_namespace_that_is_not_there_is_named(meshery: Meshery) -> None:
    event = (await meshery.run("label-namespace", namespace="nowhere")).event
    assert event.error_code == "MB-3011"
    assert "nowhere" in event.details


def labels(cluster: Cluster) -> dict[str, str]:
    text = cluster.kubectl("get", "namespace", "shop", "-o", "jsonpath={.metadata.labels}")
    found: dict[str, str] = json.loads(text)
    return found
