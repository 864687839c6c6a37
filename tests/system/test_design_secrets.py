"""What Meshery's models carry of other clusters' credentials goes nowhere."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
import yaml

from tests.system import designs
from tests.testbed.buses import stored_text
from tests.testbed.clusters import Cluster
from tests.testbed.generations import Generation, GenerationClient
from tests.testbed.meshery import Meshery
from tests.testbed.shops import done
from tests.testbed.snapshots import differences, snapshot
from tests.testbed.stack import Stack
from tests.testbed.tracing import Jaeger

# What the canvas keeps of a component: all of it, with its model.
MESHMAP = {"meshmodel-metadata": {"model": designs.model()}, "position": {"posX": 1}}


@pytest.fixture(autouse=True)
def _left_as_it_was(cluster: Cluster) -> Iterator[None]:
    before = snapshot(cluster)
    yield
    assert differences(before, snapshot(cluster)) == []


def config_map(name: str) -> dict[str, object]:
    declaration = designs.declaration("ConfigMap", name, {"data": {"a": "1"}})
    return {**declaration, "traits": {"meshmap": MESHMAP}, "connection": designs.model()}


async def test_a_canary_in_a_design_appears_nowhere(
    stack: Stack, cluster: Cluster, meshery: Meshery, jaeger: Jaeger
) -> None:
    await _called(stack, cluster)
    for body in _bodies():
        await done(meshery, body, namespace="default")
        await done(meshery, body, namespace="default", delete=True)
    # Refused ones as well: errors quote names, never values.
    for body in _bodies():
        broken = body.replace("ConfigMap", "Nonsense.of/nothing")
        assert (await meshery.run("custom", body=broken)).failed

    places = {
        "logs": stack.log_text(),
        "events": "\n".join(str(received.event) for received in meshery.events),
        "NATS' store": stored_text(stack.nats.store),
        "traces": json.dumps(
            [jaeger.traces(service=f"meshbus-{n}") for n in ("gateway", "translator", "lifecycle")]
        ),
    }
    assert [place for place, text in places.items() if designs.CANARY in text] == []
    assert all(places.values()), "a place that is empty proves nothing"


async def _called(stack: Stack, cluster: Cluster) -> None:
    """ProcessOAM and Provision with the canary wherever Meshery has put one."""
    component = designs.component("ConfigMap", "canary", {"data": {"a": "1"}})
    component["model"] = designs.model()
    config = designs.configuration("design", "canary", {"meshmap": MESHMAP})
    by_call = {
        Generation.F: ("ProcessOAM", {"oam_comps": component}, {"oam_config": json.dumps(config)}),
        Generation.G: ("Provision", {"declarations": config_map("canary")}, {}),
    }
    for generation, (name, components, more) in by_call.items():
        texts = {field: [json.dumps(value)] for field, value in components.items()}
        for delete in (False, True):
            request = {**texts, **more, "kube_configs": [cluster.kubeconfig_text]}
            async with GenerationClient(generation, stack.gateway_address) as client:
                answer = await client.call(name, {**request, "delete_op": delete})
            assert designs.CANARY not in answer.message


def _bodies() -> list[str]:
    """Designs as files, in the forms in which people have them."""
    design = designs.design(config_map("canary"))
    service = {
        "type": "ConfigMap",
        "settings": {"data": {"a": "1"}},
        "traits": {"meshmap": MESHMAP},
    }
    services = {"name": "old", "services": {"canary": service}}
    plain = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "beside"}}
    return [
        json.dumps(design),
        json.dumps(services),
        # Escapes and flow style hide the names that a search would look for.
        json.dumps(design).replace("registrant", "registr\\u0061nt"),
        yaml.safe_dump_all([plain, json.loads(json.dumps(design))], sort_keys=False),
    ]
