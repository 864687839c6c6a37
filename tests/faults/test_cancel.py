"""A running operation that somebody cancels ends soon, and a repeat finishes what was begun."""

from __future__ import annotations

import asyncio
import json

import pytest

from services.chassis.kube.kubeconfigs import parse_kubeconfig
from services.chassis.messages import Phase
from tests.testbed.bodies import no_pods_quota
from tests.testbed.clusters import Cluster
from tests.testbed.meshery import Meshery
from tests.testbed.recipe import ISTIO_VERSION
from tests.testbed.stack import Stack
from tests.testbed.stored import stored_events

pytestmark = pytest.mark.services("lifecycle", "translator", "gateway")


@pytest.mark.leaves_whole
async def test_a_waiting_install_is_cancelled(
    frail: Stack, client: Meshery, cluster: Cluster
) -> None:
    cluster.kubectl("create", "namespace", "istio-system")
    cluster.kubectl("apply", "-f", "-", stdin=json.dumps(no_pods_quota("istio-system")))
    operation = await client.apply("istio", version=ISTIO_VERSION)
    await client.told(operation, "Wave 3")
    asked = {"operation": operation, "cluster": parse_kubeconfig(cluster.kubeconfig_text).cluster}
    answer = await asyncio.to_thread(
        frail.nats_cli, "req", "--raw", "mesh.lifecycle.cancel", json.dumps(asked)
    )
    assert '"cancelling":true' in answer.replace(" ", "")
    await client.told(operation, "Cancelled while")
    ended = (await stored_events(frail, operation))[-1]
    assert ended.phase is Phase.CANCELLED
    assert "Applied before the failure" in ended.details

    cluster.kubectl("delete", "resourcequota", "no-pods", "-n", "istio-system")
    cluster.kubectl("rollout", "restart", "deployment", "istiod", "-n", "istio-system")
    repeated = await client.run("istio", version=ISTIO_VERSION)
    assert not repeated.failed, repeated.event
    await client.run("istio", delete=True)
    cluster.kubectl("delete", "namespace", "istio-system")
