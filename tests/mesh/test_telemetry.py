"""A Prometheus that runs in a pod: found, and reached through the API server and the node."""

from __future__ import annotations

import yaml

from services.chassis.errors import MeshbusError
from services.chassis.kube.kubeconfigs import parse_kubeconfig
from tests.mesh import prometheuses
from tests.testbed.bodies import config_map
from tests.testbed.meshery import Meshery
from tests.testbed.realclusters import RealCluster
from tests.testbed.seeing import seeing
from tests.testbed.stack import Stack
from tests.testbed.waiting import eventually

RATE = 2
_WITHIN_S = 120.0


def _configuration() -> dict[str, str]:
    """It scrapes nothing: the upstream Envoy has no Istio's metrics, so a rule makes one up."""
    rule = {
        "record": "istio_requests_total",
        "expr": f"vector(time() * {RATE})",
        "labels": {"reporter": "destination", "response_code": "200"},
    }
    group = {"name": "mesh", "interval": "1s", "rules": [rule]}
    return {
        "prometheus.yaml": yaml.safe_dump({"rule_files": ["/config/rules.yaml"]}),
        "rules.yaml": yaml.safe_dump({"groups": [group]}),
    }


async def test_a_prometheus_in_a_pod_is_found_and_asked(
    real_cluster: RealCluster, stack: Stack, meshery: Meshery
) -> None:
    registered = await meshery.run("custom", body=config_map("registered"))
    assert not registered.failed, registered.event
    await meshery.run("custom", body=config_map("registered"), delete=True)
    token = parse_kubeconfig(real_cluster.kubeconfig_text).cluster
    found = prometheuses.SOURCE
    query = "sum(rate(istio_requests_total[10s]))"

    async with seeing(stack) as topology:
        await topology.watched(token)

        async def tells_rate() -> bool:
            try:
                answer = await topology.ask("metrics", cluster=token, query=query)
            except MeshbusError:
                return False
            rates = [round(float(one["value"][1]), 2) for one in answer["result"]]
            return bool(answer["source"] == found and rates == [RATE])

        async def has_source(name: str) -> bool:
            clusters = (await topology.ask("clusters"))["clusters"]
            return any(
                one["cluster"] == token and one["telemetry"]["source"] == name for one in clusters
            )

        with prometheuses.running(real_cluster, _configuration()):
            await eventually(tells_rate, what="the rate of the rule", within_s=_WITHIN_S)
            await eventually(lambda: has_source(found), what="the source", within_s=_WITHIN_S)
        await eventually(lambda: has_source("Envoy"), what="the proxies", within_s=_WITHIN_S)
