"""Plans of several steps: what could fail half way is found before the first write."""

from __future__ import annotations

import json
from typing import Any

from tests.testbed.clusters import Cluster
from tests.testbed.meshery import Meshery
from tests.testbed.snapshots import differences, snapshot


def component(
    kind: str, version: str, name: str, *, after: str = "", **configuration: Any
) -> dict[str, Any]:
    return {
        "id": name,
        "displayName": name,
        "component": {"kind": kind, "version": version},
        "metadata": {"dependsOn": [after] if after else []},
        "configuration": {"metadata": {"namespace": "default"}, **configuration},
    }


def design(*components: dict[str, Any]) -> str:
    return json.dumps(
        {
            "schemaVersion": "designs.meshery.io/v1beta1",
            "name": "steps",
            "components": list(components),
        }
    )


async def test_a_kind_that_the_cluster_lacks_keeps_all_steps_back(
    meshery: Meshery, bare: Cluster
) -> None:
    before = snapshot(bare)
    body = design(
        component("ConfigMap", "v1", "first", data={"a": "b"}),
        component(
            "PeerAuthentication",
            "security.istio.io/v1",
            "second",
            after="first",
            spec={"mtls": {"mode": "STRICT"}},
        ),
    )
    event = (await meshery.run("custom", body=body)).event
    assert event.error_code == "MB-3009"
    assert "PeerAuthentication" in event.details
    assert "Nothing was changed" in event.details
    assert differences(before, snapshot(bare)) == []


async def test_a_kind_that_an_earlier_step_defines_is_no_obstacle(
    meshery: Meshery, cluster: Cluster
) -> None:
    before = snapshot(cluster)
    definition = component(
        "CustomResourceDefinition",
        "apiextensions.k8s.io/v1",
        "steps.test.meshbus.io",
        spec={
            "group": "test.meshbus.io",
            "scope": "Namespaced",
            "names": {"kind": "Step", "plural": "steps", "singular": "step"},
            "versions": [
                {
                    "name": "v1",
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": {"type": "object"}},
                }
            ],
        },
    )
    body = design(
        definition, component("Step", "test.meshbus.io/v1", "one", after="steps.test.meshbus.io")
    )
    applied = await meshery.run("custom", body=body)
    assert not applied.failed, applied.event
    assert cluster.kubectl("get", "step", "one", "-n", "default", "-o", "name")
    deleted = await meshery.run("custom", body=body, delete=True)
    assert not deleted.failed, deleted.event
    assert differences(before, snapshot(cluster)) == []
