"""Every generation of Meshery gets an operation carried out, in its own words."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import pytest

from tests.testbed.bodies import config_map
from tests.testbed.clusters import Cluster
from tests.testbed.generations import Generation, GenerationClient, MessageStream, message_class
from tests.testbed.stack import Stack


@pytest.mark.parametrize("generation", list(Generation))
async def test_a_generation_gets_its_manifest_applied(
    generation: Generation, stack: Stack, cluster: Cluster
) -> None:
    name = f"of-{generation.lower()}"
    operation = str(uuid.uuid4())
    async with GenerationClient(generation, stack.gateway_address) as client:
        stream = client.stream("StreamEvents") if "StreamEvents" in client.methods else None
        if "CreateMeshInstance" in client.methods:
            await client.call("CreateMeshInstance", {"k8sConfig": cluster.kubeconfig_text.encode()})
        answer = await client.call(
            "ApplyOperation", request(generation, cluster, name=name, operation=operation)
        )
        if "operation_id" in answer.DESCRIPTOR.fields_by_name:
            assert answer.operation_id == operation
        await applied(cluster, name)
        if stream is not None:
            await heard_the_end(stream, answer, generation)
    cluster.kubectl("delete", "cm", name)


def request(
    generation: Generation, cluster: Cluster, *, name: str, operation: str
) -> dict[str, Any]:
    """What this generation can say; newer fields are left out."""
    fields = {
        "opName": "custom",
        "namespace": "default",
        "custom_body": config_map(name),
        "operation_id": operation,
        "kube_configs": [cluster.kubeconfig_text],
        "version": "1.31.0",
    }
    known = message_class(generation, "ApplyRuleRequest").DESCRIPTOR.fields_by_name
    return {field: value for field, value in fields.items() if field in known}


async def applied(cluster: Cluster, name: str) -> None:
    """Until the object is in the cluster."""
    async with asyncio.timeout(60):
        while not await asyncio.to_thread(
            cluster.kubectl, "get", "cm", name, "--ignore-not-found", "-o", "name"
        ):
            await asyncio.sleep(0.05)


async def heard_the_end(stream: MessageStream, answer: Any, generation: Generation) -> None:
    """The stream brings the end of the operation; before A2 events carry no id."""
    async with asyncio.timeout(60):
        async for event in stream:
            is_ours = (
                "operation_id" not in event.DESCRIPTOR.fields_by_name
                or event.operation_id == answer.operation_id
            )
            if is_ours and event.summary.startswith("Manifest deployed successfully"):
                return
    raise AssertionError(f"the stream of generation {generation} ended")
