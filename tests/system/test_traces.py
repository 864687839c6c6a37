"""One trace from the gRPC call to the Kubernetes writes, in Jaeger's own query API."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.testbed.bodies import options
from tests.testbed.clusters import Cluster
from tests.testbed.meshery import Meshery
from tests.testbed.recipe import ISTIO_VERSION
from tests.testbed.tracing import Jaeger


async def test_an_install_is_one_trace(bare: Cluster, meshery: Meshery, jaeger: Jaeger) -> None:
    operation = await meshery.apply("istio", version=ISTIO_VERSION, body=options(profile="minimal"))
    await meshery.finals(operation)
    trace = await found(jaeger, operation)
    services = {p["serviceName"] for p in trace["processes"].values()}
    assert services == {"meshbus-gateway", "meshbus-lifecycle"}
    spans = {span["spanID"]: span for span in trace["spans"]}
    writes = [
        s for s in spans.values() if s["operationName"] == "PATCH Deployment istio-system/istiod"
    ]
    assert len(writes) == 1
    chain = ancestors(writes[0], spans)
    assert chain[-1] == "/meshes.MeshService/ApplyOperation"
    assert "process cmd.lifecycle istio" in chain


async def found(jaeger: Jaeger, operation: str) -> dict[str, Any]:
    """The operation's trace, once Jaeger has its last span."""
    async with asyncio.timeout(60):
        while True:
            traces = await asyncio.to_thread(jaeger.traces, service="meshbus-lifecycle")
            for trace in traces:
                if is_complete(trace, operation):
                    return trace
            await asyncio.sleep(0.1)


def is_complete(trace: dict[str, Any], operation: str) -> bool:
    names = {span["operationName"] for span in trace["spans"]}
    tags = [tag for span in trace["spans"] for tag in span["tags"]]
    ours = any(
        tag["key"] == "messaging.message.conversation_id" and tag["value"] == operation
        for tag in tags
    )
    return ours and any(name.endswith("ApplyOperation") for name in names)


def ancestors(span: dict[str, Any], spans: dict[str, dict[str, Any]]) -> list[str]:
    """Names from the span's parent up to the root."""
    chain = []
    while span["references"]:
        span = spans[span["references"][0]["spanID"]]
        chain.append(span["operationName"])
    return chain
