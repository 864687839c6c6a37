"""What scales the perf workers names what is really there."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import yaml

from deploy.nats.__main__ import example
from deploy.nats.config import Server
from deploy.nats.permissions import ACCOUNT, PERF
from services.chassis.bus import streams
from services.chassis.settings import ChassisSettings
from services.perf.__main__ import HTTP_PORT
from services.perf.settings import PerfSettings

FOLDER = Path(__file__).resolve().parents[3] / "deploy" / "perf"


def document(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((FOLDER / name).read_text())
    return loaded


def test_keda_looks_at_the_queue_of_shards() -> None:
    [trigger] = document("keda.yaml")["spec"]["triggers"]
    named = trigger["metadata"]
    consumers = {c.name: c.stream for c in streams.consumers(ack_wait=timedelta(seconds=1))}
    assert trigger["type"] == "nats-jetstream"
    assert consumers[named["consumer"]] == named["stream"]
    assert named["account"] == ACCOUNT
    assert int(named["lagThreshold"]) == PerfSettings().slots


def test_keda_reaches_the_pages_that_the_shipped_configuration_opens() -> None:
    [trigger] = document("keda.yaml")["spec"]["triggers"]
    host, _, port = trigger["metadata"]["natsServerMonitoringEndpoint"].partition(":")
    text = (FOLDER.parent / "nats" / "network.yaml").read_text()
    service, policy = yaml.safe_load_all(text)
    name, namespace = service["metadata"]["name"], service["metadata"]["namespace"]
    assert host == f"{name}.{namespace}.svc.cluster.local"
    assert int(port) in [each["port"] for each in service["spec"]["ports"]]
    # Open in the pod, and by the policy for KEDA alone.
    assert f'http: "0.0.0.0:{port}"' in example()
    rules = {rule["ports"][0]["port"]: rule.get("from") for rule in policy["spec"]["ingress"]}
    [allowed] = rules.pop(int(port))
    assert allowed["podSelector"]["matchLabels"] == {"app.kubernetes.io/name": "keda-operator"}
    assert allowed["namespaceSelector"]
    assert rules == {Server().port: None}
    assert policy["spec"]["podSelector"]["matchLabels"] == service["spec"]["selector"]
    # On a machine of one's own they stay there.
    assert Server().monitoring_host == "127.0.0.1"


def test_both_scale_the_same_deployment() -> None:
    name = document("workers.yaml")["metadata"]["name"]
    assert document("keda.yaml")["spec"]["scaleTargetRef"]["name"] == name
    assert document("hpa.yaml")["spec"]["scaleTargetRef"]["name"] == name


def test_a_worker_has_time_to_end_its_shard() -> None:
    spec = document("workers.yaml")["spec"]["template"]["spec"]
    [container] = spec["containers"]
    variables = {each["name"]: each.get("value", "") for each in container["env"]}
    settings = ChassisSettings.model_validate({"drain_grace": variables["MESHBUS_DRAIN_GRACE"]})
    grace = timedelta(seconds=spec["terminationGracePeriodSeconds"])
    assert settings.drain_grace < grace
    assert container["ports"] == [{"name": "http", "containerPort": HTTP_PORT}]
    known = {f"MESHBUS_{name.upper()}" for name in ChassisSettings.model_fields}
    known |= {f"MESHBUS_PERF_{name.upper()}" for name in PerfSettings.model_fields}
    assert set(variables) <= known


def test_the_seed_is_that_of_the_perf_user() -> None:
    [container] = document("workers.yaml")["spec"]["template"]["spec"]["containers"]
    seeds = [each for each in container["env"] if "valueFrom" in each]
    assert [seed["valueFrom"]["secretKeyRef"]["key"] for seed in seeds] == [PERF.name]
