"""A Prometheus that runs in a pod: found, and reached through the API server and the node."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import yaml

from services.chassis.errors import MeshbusError
from services.chassis.kube.kubeconfigs import parse_kubeconfig
from tests.testbed import packages
from tests.testbed.bodies import config_map
from tests.testbed.meshery import Meshery
from tests.testbed.realclusters import RealCluster
from tests.testbed.recipe import STAND_IN_IMAGE
from tests.testbed.seeing import seeing
from tests.testbed.stack import Stack
from tests.testbed.waiting import eventually

NAMESPACE, NAME = "monitoring", "prometheus"
RATE = 2
_LIBRARIES = ("/usr", "/lib", "/lib64")
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


def _objects() -> list[Mapping[str, Any]]:
    """The machine's program in a pod of the bed's image, which has no libraries."""
    metadata = {"name": NAME, "namespace": NAMESPACE}
    labels = {"app": NAME}
    container = {
        "name": NAME,
        "image": STAND_IN_IMAGE,
        "command": [
            str(packages.program("prometheus")),
            "--config.file=/config/prometheus.yaml",
            "--storage.tsdb.path=/tmp/data",
        ],
        "ports": [{"containerPort": 9090}],
        "readinessProbe": {"httpGet": {"path": "/-/ready", "port": 9090}, "periodSeconds": 1},
        "volumeMounts": [
            {"name": "config", "mountPath": "/config"},
            *(
                {"name": path.strip("/"), "mountPath": path, "readOnly": True}
                for path in _LIBRARIES
            ),
        ],
    }
    volumes = [
        {"name": "config", "configMap": {"name": NAME}},
        *({"name": path.strip("/"), "hostPath": {"path": path}} for path in _LIBRARIES),
    ]
    pod = {"metadata": {"labels": labels}, "spec": {"containers": [container], "volumes": volumes}}
    ports = [{"name": "http", "port": 80, "targetPort": 9090}]
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}},
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": _configuration()},
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": metadata,
            "spec": {"selector": labels, "ports": ports},
        },
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": metadata,
            "spec": {"selector": {"matchLabels": labels}, "template": pod},
        },
    ]


@contextmanager
def running(cluster: RealCluster) -> Iterator[None]:
    listing = json.dumps({"apiVersion": "v1", "kind": "List", "items": _objects()})
    cluster.kubectl("apply", "--server-side", "-f", "-", stdin=listing)
    try:
        yield
    finally:
        cluster.kubectl("delete", "namespace", NAMESPACE)


async def test_a_prometheus_in_a_pod_is_found_and_asked(
    real_cluster: RealCluster, stack: Stack, meshery: Meshery
) -> None:
    registered = await meshery.run("custom", body=config_map("registered"))
    assert not registered.failed, registered.event
    await meshery.run("custom", body=config_map("registered"), delete=True)
    token = parse_kubeconfig(real_cluster.kubeconfig_text).cluster
    found = f"Prometheus {NAMESPACE}/{NAME} (found)"
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

        with running(real_cluster):
            await eventually(tells_rate, what="the rate of the rule", within_s=_WITHIN_S)
            await eventually(lambda: has_source(found), what="the source", within_s=_WITHIN_S)
        await eventually(lambda: has_source("Envoy"), what="the proxies", within_s=_WITHIN_S)
