"""Traffic on the service's graph, from a Prometheus that answers, and from one that does not."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.real.topology.pages import Page as Metrics
from tests.real.topology.pages import edge
from tests.testbed.clusters import Cluster
from tests.testbed.proxies import FaultProxy
from tests.testbed.seeing import Follower, Seeing
from tests.testbed.shops import opened, service, workload

SPACE = "default"
ENDS = edge(
    namespace=SPACE,
    source_workload="caller",
    source_canonical_service="caller",
    destination_workload="callee",
    destination_canonical_service="callee",
    destination_service_name="callee",
    destination_service=f"callee.{SPACE}.svc.cluster.local",
)


def _edge(follower: Follower) -> dict[str, Any] | None:
    """From the service to the workload that answers, with traffic."""
    sources = {node["id"] for node in follower.named(service="callee", nodeType="service")}
    targets = {node["id"] for node in follower.named(workload="callee")}
    return next(
        (
            found
            for found in follower.edges.values()
            if found["source"] in sources and found["target"] in targets and found.get("traffic")
        ),
        None,
    )


async def test_rates_come_and_fade(
    seen: Seeing, token: str, cluster: Cluster, mesh_metrics: Metrics, mesh_prometheus: FaultProxy
) -> None:
    objects = [service("callee", SPACE), *workload("caller", SPACE), *workload("callee", SPACE)]
    with opened(cluster, *objects):
        async with seen.following(token, view="workload") as follower:
            await follower.until(lambda f: f.named(workload="callee"))
            calling = asyncio.create_task(_call(mesh_metrics), name="calls")
            try:
                found = await follower.until(_edge, within_s=60)
                assert found["traffic"]["protocol"] == "http"
                assert float(found["traffic"]["rates"]["http"]) > 0
                assert set(found["traffic"]["responses"]) >= {"200"}
                await follower.until(lambda f: not f.named(workload="callee")[0].get("isIdle"))
                await follower.until(lambda f: f.info["telemetry"]["state"] == "ok")
                mesh_prometheus.refuse()
                mesh_prometheus.cut()
                # Rates of a source that is away are nobody's traffic of now; the graph stays.
                told = await follower.until(
                    lambda f: f.info["telemetry"]["state"] == "unavailable" and f.info
                )
                assert told["telemetry"]["detail"]
                await follower.until(lambda f: not _edge(f), within_s=60)
                assert follower.named(workload="callee")
                mesh_prometheus.heal()
                await follower.until(_edge, within_s=60)
                await follower.until(lambda f: f.info["telemetry"]["state"] == "ok")
            finally:
                mesh_prometheus.heal()
                calling.cancel()
                await asyncio.gather(calling, return_exceptions=True)
                mesh_metrics.clear()


async def _call(metrics: Metrics) -> None:
    """Requests without end: ten a second answer well, one fails."""
    while True:
        for reporter in ("source", "destination"):
            metrics.request(ENDS, reporter=reporter, times=10, ms=20.0, policy="mutual_tls")
            metrics.request(ENDS, reporter=reporter, times=1, code="503", flags="UF")
        await asyncio.sleep(1.0)
