"""A secret in a kubeconfig or body goes nowhere in clear: logs, streams, traces, metrics, disk."""

from __future__ import annotations

import base64
import json
import secrets

import yaml

from tests.testbed import loopback
from tests.testbed.bodies import config_map
from tests.testbed.buses import stored_text
from tests.testbed.clusters import Cluster
from tests.testbed.meshery import Meshery
from tests.testbed.stack import Stack
from tests.testbed.tracing import Jaeger


def secret_object(value: str) -> str:
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "canary", "namespace": "default"},
            "stringData": {"password": value},
        }
    )


async def test_a_canary_secret_appears_nowhere(
    cluster: Cluster, meshery: Meshery, stack: Stack, jaeger: Jaeger
) -> None:
    token_config = cluster.token_kubeconfig_text(account="canary", namespace="kube-system")
    token = yaml.safe_load(token_config)["users"][0]["user"]["token"]
    key_data = yaml.safe_load(cluster.kubeconfig_text)["users"][0]["user"]["client-key-data"]
    key_lines = base64.b64decode(key_data).decode().splitlines()[1:-1]
    wrong = token_config.replace(token, "canary-wrong-token-0123456789")

    hidden = f"canary-body-{secrets.token_hex(8)}"
    body = f"{config_map('canary', value=hidden)}\n---\n{secret_object(hidden)}"
    done = await meshery.run("custom", body=body, kubeconfigs=[token_config])
    assert not done.failed, done.event
    await meshery.run("custom", body=config_map("canary"), kubeconfigs=[wrong])
    await meshery.run("custom", body="kind: broken", kubeconfigs=[cluster.kubeconfig_text])

    places = {
        "logs": stack.log_text(),
        "events": "\n".join(str(received.event) for received in meshery.events),
        "NATS' store": stored_text(stack.nats.store),
        "traces": json.dumps(
            jaeger.traces(service="meshbus-gateway") + jaeger.traces(service="meshbus-lifecycle")
        ),
        "metrics": "".join(
            loopback.fetch(f"{stack.health_url(name)}/metrics").decode()
            for name in ("gateway", "lifecycle")
        ),
    }
    sought = [token, token.rpartition(".")[2], "canary-wrong-token", key_data, *key_lines, hidden]
    leaks = [
        (place, secret[:12])
        for place, text in places.items()
        for secret in sought
        if secret in text
    ]
    assert leaks == []
    assert all(places.values()), "a place that is empty proves nothing"
    cluster.kubectl("delete", "cm,secret", "canary", "--ignore-not-found")
