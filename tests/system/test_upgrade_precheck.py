"""What an upgrade means for the users' own objects is told before it, or refused."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.system.bodies import options
from tests.system.meshery import Meshery
from tests.system.shops import applied, gateway_api_defined, listed
from tests.testbed.clusters import Cluster
from tests.testbed.recipe import ISTIO_OLDER_VERSION, ISTIO_VERSION
from tests.testbed.stack import Stack

# 1.31 no longer lets a Gateway of one namespace add servers to a generated gateway of another.
GENERATED = {
    "apiVersion": "gateway.networking.k8s.io/v1",
    "kind": "Gateway",
    "metadata": {"name": "edge", "namespace": "default"},
    "spec": {
        "gatewayClassName": "istio",
        "listeners": [{"name": "http", "port": 80, "protocol": "HTTP"}],
    },
}
BORROWED = {
    "apiVersion": "networking.istio.io/v1",
    "kind": "Gateway",
    "metadata": {"name": "borrowed", "namespace": "kube-public"},
    "spec": {
        "selector": {"gateway.networking.k8s.io/gateway-name": "edge"},
        "servers": [
            {"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": ["*"]},
        ],
    },
}
# An expression for one version matches no proxy of the next.
PINNED = {
    "apiVersion": "networking.istio.io/v1alpha3",
    "kind": "EnvoyFilter",
    "metadata": {"name": "pinned", "namespace": "default"},
    "spec": {
        "configPatches": [
            {
                "applyTo": "HTTP_FILTER",
                "match": {
                    "context": "SIDECAR_INBOUND",
                    "proxy": {"proxyVersion": r"^1\.30.*"},
                },
                "patch": {"operation": "INSERT_FIRST", "value": {"name": "a"}},
            }
        ]
    },
}


@pytest.fixture
async def older(bare: Cluster, meshery: Meshery) -> AsyncIterator[Cluster]:
    """The cluster with the older Istio and the objects."""
    final = await meshery.run("istio", version=ISTIO_OLDER_VERSION)
    assert not final.failed, final.event
    with gateway_api_defined(bare), applied(bare, listed(GENERATED, BORROWED, PINNED)):
        yield bare


def installed(cluster: Cluster) -> str:
    path = r"jsonpath={.metadata.labels.app\.kubernetes\.io/version}"
    return cluster.kubectl("get", "deployment", "istiod", "-n", "istio-system", "-o", path)


async def test_what_would_break_is_refused_told_and_forced(
    older: Cluster, meshery: Meshery, stack: Stack
) -> None:
    refused = (await meshery.run("istio", version=ISTIO_VERSION)).event
    assert refused.error_code == "MB-4006"
    assert "Gateway kube-public/borrowed spec.selector" in refused.details
    assert "the mesh is left as it is" in refused.details
    assert installed(older) == ISTIO_OLDER_VERSION

    operation = await meshery.apply("istio", version=ISTIO_VERSION, body=options(force=True))
    [final] = await meshery.finals(operation)
    assert not final.failed, final.event
    warnings = [r.event.summary for r in meshery.of(operation) if r.event.event_type == 1]
    assert any("forced although Gateway kube-public/borrowed" in text for text in warnings)
    assert any("EnvoyFilter default/pinned" in text for text in warnings)
    assert installed(older) == ISTIO_VERSION


async def test_without_a_translator_the_upgrade_goes_on_and_says_what_was_not_checked(
    older: Cluster, meshery: Meshery, stack: Stack
) -> None:
    translator = stack.processes["translator"]
    translator.stop()
    try:
        operation = await meshery.apply("istio", version=ISTIO_VERSION)
        [final] = await meshery.finals(operation)
    finally:
        translator.start()
        stack.wait_ready("translator")
    assert not final.failed, final.event
    warnings = [r.event.summary for r in meshery.of(operation) if r.event.event_type == 1]
    words = f"what {ISTIO_OLDER_VERSION} to {ISTIO_VERSION} means for the cluster's objects was not"
    assert any(words in text and "translator" in text for text in warnings)
    assert installed(older) == ISTIO_VERSION
