"""What an upgrade means for the users' own objects is said before it begins."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.testbed import building
from tests.testbed.bodies import options
from tests.testbed.clusters import Cluster
from tests.testbed.meshery import Meshery
from tests.testbed.recipe import ISTIO_OLDER_VERSION, ISTIO_VERSION
from tests.testbed.stack import Stack

FILTER = {
    "apiVersion": "networking.istio.io/v1alpha3",
    "kind": "EnvoyFilter",
    "metadata": {"name": "pinned", "namespace": "default"},
    "spec": {
        "configPatches": [
            {
                "applyTo": "HTTP_FILTER",
                "match": {"context": "SIDECAR_INBOUND", "proxy": {"proxyVersion": r"^1\.30.*"}},
                "patch": {
                    "operation": "INSERT_FIRST",
                    "value": {
                        "name": "envoy.filters.http.buffer",
                        "typed_config": {
                            "@type": "type.googleapis.com/"
                            "envoy.extensions.filters.http.buffer.v3.Buffer",
                            "max_request_bytes": 1024,
                        },
                    },
                },
            }
        ]
    },
}


GENERATED = {
    "apiVersion": "gateway.networking.k8s.io/v1",
    "kind": "Gateway",
    "metadata": {"name": "entry", "namespace": "edge"},
    "spec": {
        "gatewayClassName": "istio",
        "listeners": [{"name": "http", "port": 80, "protocol": "HTTP"}],
    },
}
BORROWING = {
    "apiVersion": "networking.istio.io/v1",
    "kind": "Gateway",
    "metadata": {"name": "borrowing", "namespace": "default"},
    "spec": {
        "selector": {"gateway.networking.k8s.io/gateway-name": "entry"},
        "servers": [{"hosts": ["*"], "port": {"number": 81, "name": "http", "protocol": "HTTP"}}],
    },
}


@pytest.fixture
def gateways(bare: Cluster) -> Iterator[Cluster]:
    """A cluster that serves the Gateway API's Gateways, in a namespace of theirs."""
    folder = building.gateway_api_folder()
    definition = folder / "gateway.networking.k8s.io_gateways.yaml"
    bare.kubectl("apply", "--server-side", "-f", str(definition))
    bare.wait_established()
    bare.kubectl("create", "namespace", "edge")
    yield bare
    bare.kubectl("delete", "namespace", "edge")
    bare.kubectl("delete", "-f", str(definition))


def checks_of(meshery: Meshery, operation: str) -> list[str]:
    return [
        received.event.summary.removeprefix("Warning: ")
        for received in meshery.of(operation)
        if received.event.summary.startswith("Warning: Check: ")
    ]


async def test_an_upgrade_tells_what_stops_applying(meshery: Meshery, bare: Cluster) -> None:
    await meshery.run("istio", version=ISTIO_OLDER_VERSION)
    bare.kubectl("apply", "-f", "-", stdin=json.dumps(FILTER))
    operation = await meshery.apply("istio", version=ISTIO_VERSION)
    final = (await meshery.finals(operation))[0]
    assert not final.failed, final.event
    [check] = [text for text in checks_of(meshery, operation) if "EnvoyFilter" in text]
    assert "EnvoyFilter default/pinned spec.configPatches[0].match.proxy.proxyVersion" in check
    assert ISTIO_VERSION in check


async def test_what_would_break_is_refused_unless_forced(
    meshery: Meshery, gateways: Cluster
) -> None:
    await meshery.run("istio", version=ISTIO_OLDER_VERSION)
    for obj in (GENERATED, BORROWING):
        gateways.kubectl("apply", "-f", "-", stdin=json.dumps(obj))
    refused = (await meshery.run("istio", version=ISTIO_VERSION)).event
    assert refused.error_code == "MB-4006"
    assert "Gateway default/borrowing spec.selector" in refused.details
    assert "Nothing was changed" in refused.details
    operation = await meshery.apply("istio", version=ISTIO_VERSION, body=options(force=True))
    forced = (await meshery.finals(operation))[0]
    assert not forced.failed, forced.event
    assert any("forced although" in text for text in checks_of(meshery, operation))


@pytest.mark.full
async def test_without_a_translator_the_upgrade_says_what_was_not_checked(
    meshery: Meshery, stack: Stack, bare: Cluster
) -> None:
    await meshery.run("istio", version=ISTIO_OLDER_VERSION)
    stack.processes["translator"].stop()
    try:
        operation = await meshery.apply("istio", version=ISTIO_VERSION)
        final = (await meshery.finals(operation))[0]
    finally:
        stack.processes["translator"].start()
        stack.wait_ready("translator")
    assert not final.failed, final.event
    [check] = checks_of(meshery, operation)
    assert "was not checked: no translator worker is connected" in check
