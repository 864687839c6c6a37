"""What a real API server refuses, or lets wait: each is told as what it is, and nothing hangs."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.real.chassis.kube.objects import definition
from tests.testbed.bodies import config_map
from tests.testbed.clusters import Cluster
from tests.testbed.meshery import Meshery
from tests.testbed.stack import Stack
from tests.testbed.webhooks import Webhook

pytestmark = [
    pytest.mark.services("lifecycle", "translator", "gateway"),
    pytest.mark.leaves_whole,
]

_WEBHOOKS = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
_MARK = "denied-by-the-test"
GROUP = "faults.meshbus.test"


@pytest.fixture
def space(cluster: Cluster) -> Iterator[str]:
    """A namespace for one test alone."""
    name = f"t{secrets.token_hex(6)}"
    cluster.api.request("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
    yield name
    cluster.kubectl("delete", "namespace", name, "--wait=false", "--ignore-not-found")


@pytest.fixture
async def meshery(frail: Stack, cluster: Cluster) -> AsyncIterator[Meshery]:
    async with Meshery(frail.gateway_address, [cluster.kubeconfig_text]).connected() as connected:
        yield connected


@contextmanager
def _asked(cluster: Cluster, space: str, client_config: dict[str, str]) -> Iterator[None]:
    """The API server asks a webhook before it takes a ConfigMap in the namespace."""
    name = f"{space}.meshbus.test"
    cluster.api.request(
        "POST",
        _WEBHOOKS,
        {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingWebhookConfiguration",
            "metadata": {"name": name},
            "webhooks": [
                {
                    "name": name,
                    "clientConfig": client_config,
                    "rules": [
                        {
                            "apiGroups": [""],
                            "apiVersions": ["v1"],
                            "operations": ["CREATE", "UPDATE"],
                            "resources": ["configmaps"],
                        }
                    ],
                    "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": space}},
                    "sideEffects": "None",
                    "admissionReviewVersions": ["v1"],
                    "failurePolicy": "Fail",
                    "timeoutSeconds": 2,
                }
            ],
        },
    )
    try:
        yield
    finally:
        cluster.api.request("DELETE", f"{_WEBHOOKS}/{name}")


async def _until_asked(cluster: Cluster, space: str) -> None:
    """The API server reads its webhooks a moment after they are stored."""
    body = config_map(_MARK, namespace=space)
    while True:
        try:
            cluster.kubectl("apply", "--dry-run=server", "-f", "-", stdin=body)
        except Exception as error:
            if "webhook" in str(error):
                return
            raise
        await asyncio.sleep(0.05)


@pytest.mark.parametrize("code", [403, 400, 422])
async def test_a_webhooks_denial_is_the_objects_fault(
    code: int, meshery: Meshery, cluster: Cluster, space: str
) -> None:
    def deny(_: dict[str, Any]) -> dict[str, Any]:
        return {"allowed": False, "status": {"code": code, "message": "not on a Saturday"}}

    with Webhook(deny) as webhook, _asked(cluster, space, webhook.client_config):
        await _until_asked(cluster, space)
        final = await meshery.run("custom", body=config_map("denied", namespace=space))
    assert final.failed
    assert final.event.error_code == "MB-3006", final.event
    assert "not on a Saturday" in final.event.details


@pytest.mark.full
async def test_a_webhook_that_is_away_is_waited_for(
    meshery: Meshery, cluster: Cluster, space: str
) -> None:
    allow = Webhook(lambda _: {"allowed": True})
    with _asked(cluster, space, allow.client_config):
        await _until_asked(cluster, space)
        operation = await meshery.apply("custom", body=config_map("waits", namespace=space))
        await meshery.until(lambda: bool(meshery.of(operation)))
        with allow:
            [final] = await meshery.finals(operation)
    assert not final.failed, final.event


async def test_fields_of_another_manager_are_taken_over_and_told(
    meshery: Meshery, cluster: Cluster, space: str
) -> None:
    theirs = config_map("shared", namespace=space, value="theirs")
    cluster.kubectl("apply", "--server-side", "--field-manager=them", "-f", "-", stdin=theirs)
    ours = config_map("shared", namespace=space, value="ours")
    operation = await meshery.apply("custom", body=ours)
    [final] = await meshery.finals(operation)
    assert not final.failed, final.event
    assert any("taken over" in r.event.summary for r in meshery.of(operation))
    stored = cluster.api.request("GET", f"/api/v1/namespaces/{space}/configmaps/shared")
    assert stored["data"] == {"v": "ours"}


@contextmanager
def _kept(cluster: Cluster, space: str, name: str) -> Iterator[None]:
    """An object that a finalizer of nobody keeps."""
    path = f"/api/v1/namespaces/{space}/configmaps"
    metadata = {"name": name, "finalizers": ["meshbus.test/nobody"]}
    cluster.api.request("POST", path, {"metadata": metadata})
    try:
        yield
    finally:
        patch = json.dumps({"metadata": {"finalizers": None}})
        cluster.kubectl("patch", "configmap", name, "-n", space, "--type=merge", "-p", patch)


async def test_a_namespace_that_is_being_deleted_is_told(
    meshery: Meshery, cluster: Cluster, space: str
) -> None:
    with _kept(cluster, space, "kept"):
        cluster.kubectl("delete", "namespace", space, "--wait=false")
        final = await meshery.run("custom", body=config_map("late", namespace=space))
    assert final.failed
    assert final.event.error_code == "MB-3011", final.event
    assert "being deleted" in str(final.event)


@pytest.mark.full
async def test_an_object_that_its_finalizer_keeps_is_told_and_not_waited_for(
    meshery: Meshery, cluster: Cluster, space: str
) -> None:
    body = config_map("stuck", namespace=space)
    with _kept(cluster, space, "stuck"):
        operation = await meshery.apply("custom", body=body, delete=True)
        [final] = await meshery.finals(operation)
        assert not final.failed, final.event
        assert any("finalizers" in r.event.summary for r in meshery.of(operation))


async def test_an_object_comes_with_its_definition_that_is_not_yet_served(
    meshery: Meshery, cluster: Cluster, space: str
) -> None:
    one = {"apiVersion": f"{GROUP}/v1", "kind": "Thing", "metadata": {"name": "one"}}
    body = f"{json.dumps(one)}\n---\n{json.dumps(definition(GROUP, 'Thing', 'things'))}"
    try:
        final = await meshery.run("custom", body=body, namespace=space)
        assert not final.failed, final.event
    finally:
        cluster.kubectl("delete", "crd", f"things.{GROUP}", "--ignore-not-found")


@pytest.mark.full
async def test_a_definition_that_is_never_established_is_told(
    meshery: Meshery, cluster: Cluster, space: str
) -> None:
    """Its kind is another one's already: the API server takes it and never serves it."""
    cluster.kubectl("apply", "-f", "-", stdin=json.dumps(definition(GROUP, "Same", "firsts")))
    cluster.wait_established()
    try:
        second = json.dumps(definition(GROUP, "Same", "seconds"))
        final = await meshery.run("custom", body=second, namespace=space)
        assert final.failed
        assert final.event.error_code == "MB-3009", final.event
        assert "not established" in str(final.event)
    finally:
        for plural in ("firsts", "seconds"):
            cluster.kubectl("delete", "crd", f"{plural}.{GROUP}", "--ignore-not-found")
