"""`make kubeconfig`: accounts that may do what their tier says, by the person's own kubectl."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.local.installations import ROOT
from deploy.rights import Tier, lifecycle_rules, tier_rules, watching_rules
from services.chassis.kube.client import KubeClient
from services.chassis.kube.kubeconfigs import parse_kubeconfig
from tests.testbed.clusters import Cluster, kubectl_path

_REVIEW = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"

CASES = (
    # verb, group, resource, the lowest tier that may
    ("watch", "", "pods", Tier.READ),
    ("list", "networking.istio.io", "virtualservices", Tier.READ),
    ("list", "gateway.networking.k8s.io", "httproutes", Tier.READ),
    ("get", "", "services/proxy", Tier.READ),
    ("patch", "networking.istio.io", "virtualservices", Tier.MANIFESTS),
    ("create", "apps", "deployments", Tier.MANIFESTS),
    ("patch", "", "namespaces", Tier.MANIFESTS),
    ("create", "", "configmaps", Tier.MANIFESTS),
    ("get", "", "secrets", Tier.FULL),
    ("create", "rbac.authorization.k8s.io", "clusterroles", Tier.FULL),
    ("escalate", "rbac.authorization.k8s.io", "clusterroles", Tier.FULL),
    ("create", "apiextensions.k8s.io", "customresourcedefinitions", Tier.FULL),
    ("create", "admissionregistration.k8s.io", "mutatingwebhookconfigurations", Tier.FULL),
    ("create", "", "pods/exec", None),
    ("create", "", "services/proxy", None),
    ("impersonate", "", "users", None),
    ("create", "scheduling.k8s.io", "priorityclasses", None),
)


class Person:
    """Somebody with kubectl and an administrator's kubeconfig."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self.cluster = cluster
        # kubectl writes a cache of what servers serve into the home folder.
        self._environment = {**os.environ, "KUBECTL": str(kubectl_path()), "HOME": str(folder)}

    def run(self, *options: str, context: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [
                *(sys.executable, "-m", "deploy.local", "kubeconfig"),
                *(f"--context={context or self.cluster.name}",),
                *(f"--kubeconfig={self.cluster.kubeconfig}", *options),
            ],
            cwd=ROOT,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=120,
        )

    def made(self) -> str:
        """What is left in the cluster of all that was made."""
        kinds = "clusterroles,clusterrolebindings,namespaces,roles,rolebindings"
        return self.cluster.kubectl(
            *("get", kinds, "--all-namespaces", "-o", "name"),
            *("-l", "app.kubernetes.io/managed-by=meshbus-kubeconfig"),
        )


@pytest.fixture
def person(cluster: Cluster, tmp_path: Path) -> Iterator[Person]:
    person = Person(cluster, tmp_path)
    yield person
    person.run("--remove")


async def may(
    client: KubeClient, verb: str, group: str, resource: str, *, namespace: str = ""
) -> bool:
    """What the API server says that this account may."""
    name, _, subresource = resource.partition("/")
    attributes = {"verb": verb, "group": group, "resource": name, "subresource": subresource}
    attributes["namespace"] = namespace
    body = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": attributes},
    }
    answer = await client.request("POST", _REVIEW, body=json.dumps(body).encode())
    return bool(answer.json()["status"]["allowed"])


@pytest.mark.parametrize("tier", list(Tier))
async def test_an_account_may_what_its_tier_says(
    person: Person, tier: Tier, tmp_path: Path
) -> None:
    made = person.run(f"--tier={tier}", f"--out={tmp_path / 'mine'}", "--ttl=1h")
    assert made.returncode == 0, made.stderr
    assert made.stdout == ""
    assert stat.S_IMODE((tmp_path / "mine").stat().st_mode) == 0o600
    assert f"account meshbus-{tier}" in made.stderr
    config = parse_kubeconfig((tmp_path / "mine").read_text())
    assert config.context == person.cluster.name
    order = list(Tier)
    async with KubeClient(config) as client:
        for verb, group, resource, lowest in CASES:
            expected = lowest is not None and order.index(tier) >= order.index(lowest)
            assert await may(client, verb, group, resource) == expected, (verb, group, resource)


async def test_ports_are_forwarded_in_one_namespace_and_where_that_is_asked_for(
    person: Person,
) -> None:
    done = person.run("--tier=read", "--proxies=default")
    assert done.returncode == 0, done.stderr
    async with KubeClient(parse_kubeconfig(done.stdout)) as client:
        for verb in ("get", "create"):
            assert await may(client, verb, "", "pods/portforward", namespace="default")
            assert not await may(client, verb, "", "pods/portforward", namespace="kube-system")
        assert not await may(client, "create", "", "pods/exec", namespace="default")
    assert "rolebinding.rbac.authorization.k8s.io/meshbus-read-proxies" in person.made()
    assert person.run("--remove").returncode == 0
    assert person.made() == ""


def test_it_is_renewed_and_removed(person: Person) -> None:
    first = person.run("--tier=read")
    again = person.run("--tier=read")
    assert first.returncode == again.returncode == 0, first.stderr + again.stderr
    tokens = {yaml.safe_load(done.stdout)["users"][0]["user"]["token"] for done in (first, again)}
    assert len(tokens) == 2
    assert "meshbus-read" in person.made()

    removed = person.run("--remove")
    assert removed.returncode == 0, removed.stderr
    assert person.made() == ""
    assert "No resources found" in person.run("--remove").stderr


def test_what_the_kubeconfig_says_to_meshbus_is_kept(person: Person, tmp_path: Path) -> None:
    told = {"service": "metering/main", "labels": "cluster=blue"}
    document = yaml.safe_load(person.cluster.kubeconfig_text)
    document["contexts"][0]["context"]["extensions"] = [
        {"name": "context_info", "extension": {"provider": "somebody"}},
        {"name": "meshbus.io/prometheus", "extension": told},
    ]
    theirs = tmp_path / "theirs"
    theirs.write_text(yaml.safe_dump(document))
    done = person.run("--tier=read", f"--kubeconfig={theirs}")
    assert done.returncode == 0, done.stderr
    assert parse_kubeconfig(done.stdout).extensions == {"meshbus.io/prometheus": told}
    assert "somebody" not in done.stdout


def test_what_cannot_be_is_said(person: Person, tmp_path: Path) -> None:
    unknown = person.run(context="nowhere")
    assert unknown.returncode == 1
    assert "nowhere" in unknown.stderr
    assert "Traceback" not in unknown.stderr

    document: dict[str, Any] = yaml.safe_load(person.cluster.kubeconfig_text)
    document["clusters"][0]["cluster"]["proxy-url"] = "http://127.0.0.1:1"
    (tmp_path / "proxied").write_text(yaml.safe_dump(document))
    proxied = person.run(f"--kubeconfig={tmp_path / 'proxied'}")
    assert proxied.returncode == 1
    assert "proxy-url" in proxied.stderr
    assert person.made() == ""


def test_tiers_contain_each_other_and_full_what_is_documented() -> None:
    read, manifests, full = (tier_rules(tier) for tier in Tier)
    assert all(rule in manifests for rule in read)
    assert all(rule in full for rule in manifests)
    assert all(rule in full for rule in [*lifecycle_rules(), *watching_rules()])
    writing = {"create", "update", "patch", "delete", "deletecollection", "escalate", "bind"}
    assert not any(writing & set(rule["verbs"]) for rule in read)
