"""The translator as a person with the nats CLI asks it."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
import yaml

from services.chassis.kube.kubeconfigs import parse_kubeconfig
from tests.testbed import smi
from tests.testbed.bodies import config_map
from tests.testbed.clusters import Cluster
from tests.testbed.meshery import Meshery
from tests.testbed.recipe import DISTRIBUTIONS
from tests.testbed.shops import SHOP, istio_defined, manifest, opened, service, workload
from tests.testbed.stack import Stack

SPLIT = smi.split(SHOP, {"books-v1": 3, "books-v2": 1}, service="books")
BROKEN = """\
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: wrong, namespace: default}
spec:
  hosts: [a]
  http:
  - route:
    - destination: {host: a}
      weight: many
    timeouts: 1s
---
apiVersion: v1
kind: List
items:
- apiVersion: security.istio.io/v1
  kind: AuthorizationPolicy
  metadata: {name: odd, namespace: default}
  spec:
    action: PERMIT
"""
FILTER = """\
apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata: {name: pinned, namespace: default}
spec:
  configPatches:
  - applyTo: HTTP_FILTER
    match: {context: SIDECAR_INBOUND, proxy: {proxyVersion: '^1\\.30.*'}}
    patch: {operation: INSERT_BEFORE, value: {name: a}}
"""


async def asked(stack: Stack, verb: str, text: str) -> dict[str, Any]:
    """The answer of `nats req mesh.translator.<verb> < text`, as the how-to guide has it."""
    flags = ("--raw", "--timeout=30s", "--force-stdin", "--no-templates")
    answer = await asyncio.to_thread(
        stack.nats_cli, "req", *flags, f"mesh.translator.{verb}", stdin=text
    )
    found: dict[str, Any] = json.loads(answer)
    return found


async def test_a_file_is_translated(stack: Stack) -> None:
    answer = await asked(stack, "translate", yaml.safe_dump(SPLIT))
    [made] = answer["objects"]
    assert made["kind"] == "VirtualService"
    assert list(yaml.safe_load_all(answer["yaml"])) == answer["objects"]
    [line] = [line for line in answer["report"] if line["targets"]]
    assert line["source"] == f"TrafficSplit {SHOP}/canary"
    assert line["targets"] == [f"VirtualService {SHOP}/{made['metadata']['name']}"]


async def test_a_registered_cluster_is_taken_into_account(
    stack: Stack, cluster: Cluster, meshery: Meshery
) -> None:
    token = parse_kubeconfig(cluster.kubeconfig_text).cluster
    # The first operation on a cluster registers it.
    await meshery.run("custom", body=config_map("registered"))
    await meshery.run("custom", body=config_map("registered"), delete=True)
    question = {"manifest": manifest(SPLIT), "cluster": token}
    services = [service(name, SHOP) for name in ("books", "books-v1")]
    with istio_defined(cluster), opened(cluster, *services, *workload("books", SHOP)):
        answer = await asked(stack, "translate", json.dumps(question))
    hosts = json.dumps(answer["objects"])
    assert "books-v1" in hosts
    assert "books-v2" not in hosts
    assert any("books-v2" in finding["message"] for finding in answer["findings"])


async def test_all_findings_come_at_once_with_line_and_path(stack: Stack) -> None:
    answer = await asked(stack, "validate", BROKEN)
    assert not answer["valid"]
    places = {(f["document"], f["line"], f["path"]) for f in answer["findings"]}
    assert {
        (1, 9, "spec.http[0].route[0].weight"),
        (1, 10, "spec.http[0].timeouts"),
        (2, 19, "spec.action"),
    } <= places
    sound = await asked(stack, "validate", config_map("sound"))
    assert sound == {"valid": True, "findings": []}


async def test_the_version_to_validate_against_can_be_named(stack: Stack) -> None:
    question = {"manifest": BROKEN, "istioVersion": "1.30.3"}
    assert not (await asked(stack, "validate", json.dumps(question)))["valid"]
    answer = await asked(stack, "validate", json.dumps({**question, "istioVersion": "0.1"}))
    assert answer["code"] == "MB-5005"


async def test_an_upgrade_is_told_for_a_file(stack: Stack) -> None:
    question = {"manifest": FILTER, "from": "1.30.3", "to": "1.31.0"}
    answer = await asked(stack, "upgrade", json.dumps(question))
    assert (answer["current"], answer["target"]) == ("1.30.3", "1.31.0")
    told = [c for c in answer["changes"] if c["object"] == "EnvoyFilter default/pinned"]
    assert any("proxyVersion" in change["path"] for change in told)
    assert sum(answer["counts"].values()) == len(answer["changes"])


async def test_an_upgrade_is_told_for_a_registered_cluster(
    stack: Stack, cluster: Cluster, meshery: Meshery
) -> None:
    await meshery.run("custom", body=config_map("registered"))
    await meshery.run("custom", body=config_map("registered"), delete=True)
    token = parse_kubeconfig(cluster.kubeconfig_text).cluster
    question = {"cluster": token, "from": "1.30.3", "to": "1.31.0"}
    answer = await asked(stack, "upgrade", json.dumps(question))
    assert answer["counts"]["error"] == 0
    assert any(change["since"] == "1.31" for change in answer["changes"])


async def test_versions_are_those_with_definitions(stack: Stack) -> None:
    answer = await asked(stack, "versions", "{}")
    assert answer == {"versions": sorted(DISTRIBUTIONS, reverse=True)}


BAD = {
    "nothing": ("translate", "\n", "MB-1201", "no manifest"),
    "no YAML": ("translate", "a: b: c", "MB-1201", "line 1"),
    "no object": ("validate", "just text", "MB-1201", "not a mapping"),
    "no text": ("translate", '{"manifest": 1}', "MB-1001", "manifest is not text"),
    "no name": (
        "translate",
        json.dumps({"manifest": manifest(SPLIT), "cluster": 1}),
        "MB-1001",
        "cluster is not text",
    ),
    "an unknown cluster": (
        "translate",
        json.dumps({"manifest": manifest(SPLIT), "cluster": "nobody"}),
        "MB-2005",
        "",
    ),
    "a cluster that is a subject": (
        "translate",
        json.dumps({"manifest": manifest(SPLIT), "cluster": "a.>"}),
        "MB-2005",
        "",
    ),
    "no namespace's name": (
        "translate",
        json.dumps({"manifest": manifest(SPLIT), "namespace": "a/../b"}),
        "MB-1001",
        "namespace",
    ),
    "no versions": ("upgrade", json.dumps({"manifest": FILTER}), "MB-1001", "versions"),
    "no version": (
        "upgrade",
        json.dumps({"manifest": FILTER, "from": "x", "to": "1.31.0"}),
        "MB-5004",
        "",
    ),
    "odd objects": (
        "upgrade",
        json.dumps({"objects": [{"kind": 1, "metadata": []}], "from": "1.30.3", "to": "1.31.0"}),
        "MB-1201",
        "",
    ),
    "no JSON": ("upgrade", FILTER, "MB-1001", "not a JSON object"),
    "a list": ("versions", "[]", "MB-1001", "not a JSON object"),
    "an overlay": (
        "translate",
        "apiVersion: install.istio.io/v1alpha1\nkind: IstioOperator\nmetadata: {name: a}\n",
        "MB-1202",
        "IstioOperator",
    ),
}


@pytest.mark.parametrize(("verb", "text", "code", "words"), BAD.values(), ids=BAD.keys())
async def test_a_wrong_question_gets_a_coded_answer(
    verb: str, text: str, code: str, words: str, stack: Stack
) -> None:
    answer = await asked(stack, verb, text)
    assert answer.get("code") == code, answer
    assert words in answer["summary"]
    assert answer["remedy"]
