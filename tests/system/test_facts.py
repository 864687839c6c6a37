"""What lifecycle tells about a cluster over the service API, and what it keeps to itself."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from services.chassis.kube.kubeconfigs import parse_kubeconfig
from tests.testbed.bodies import config_map
from tests.testbed.clusters import Cluster
from tests.testbed.meshery import Meshery
from tests.testbed.stack import Stack
from tests.testbed.waiting import eventually

SECRET = {
    "apiVersion": "v1",
    "kind": "Secret",
    "metadata": {"name": "not-to-be-told", "namespace": "default"},
    "stringData": {"password": "canary-3c1d90"},
}


@pytest.fixture
async def token(stack: Stack, meshery: Meshery, cluster: Cluster) -> str:
    """Of the shared cluster, which an operation has registered."""
    await meshery.run("custom", body=config_map("registers"))
    await meshery.run("custom", body=config_map("registers"), delete=True)
    token = parse_kubeconfig(cluster.kubeconfig_text).cluster

    async def is_registered() -> bool:
        answer = await asyncio.to_thread(
            stack.nats_cli, "req", "--raw", "mesh.gateway.clusters", "{}"
        )
        return token in answer

    await eventually(is_registered, what="the cluster to be registered")
    return token


async def asked(stack: Stack, verb: str, question: dict[str, Any]) -> Any:
    text = json.dumps(question)
    answer = await asyncio.to_thread(stack.nats_cli, "req", "--raw", f"mesh.lifecycle.{verb}", text)
    return json.loads(answer)


async def test_services_and_workloads_of_the_named_namespaces(stack: Stack, token: str) -> None:
    facts = await asked(stack, "facts", {"cluster": token, "namespaces": ["default"]})
    assert facts["read_namespaces"] == ["default"]
    [kubernetes] = [s for s in facts["services"] if s["name"] == "kubernetes"]
    assert [(port["port"], port["name"]) for port in kubernetes["ports"]] == [(443, "https")]


@pytest.mark.parametrize("kind", ["/Secret", "apps/Deployment", "v1/Secret", "no.such/Kind"])
async def test_only_kinds_of_the_mesh_are_told(
    kind: str, stack: Stack, token: str, cluster: Cluster
) -> None:
    cluster.kubectl("apply", "-f", "-", stdin=json.dumps(SECRET))
    question = {"cluster": token, "kinds": [kind], "managed_kinds": [kind], "planes": True}
    facts = await asked(stack, "facts", question)
    assert facts["objects"] == []
    cluster.kubectl("delete", "secret", "not-to-be-told")


@pytest.mark.parametrize("verb", ["facts", "dryrun"])
async def test_a_question_may_not_borrow_a_credential(verb: str, stack: Stack, token: str) -> None:
    question = {"cluster": "another", "credential": f"cluster.{token}", "objects": []}
    answer = await asked(stack, verb, question)
    assert answer["code"] == "MB-2013"


async def test_a_dry_run_writes_nothing(stack: Stack, token: str, cluster: Cluster) -> None:
    good = json.loads(config_map("tried", namespace="default"))
    bad = {**good, "metadata": {"name": "tried", "namespace": "nowhere"}}
    answer = await asked(stack, "dryrun", {"cluster": token, "objects": [good, bad]})
    assert answer["refusals"][0] == ""
    assert "nowhere" in answer["refusals"][1]
    assert cluster.kubectl("get", "configmap", "tried", "--ignore-not-found") == ""


async def test_a_question_about_nothing_is_told_what_is_missing(stack: Stack) -> None:
    answer = await asked(stack, "facts", {"namespaces": "default"})
    assert answer["code"] == "MB-1001"
    assert "cluster" in answer["summary"]
