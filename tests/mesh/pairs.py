"""Two clusters whose real nodes reach each other, and the same service in each."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.testbed.bodies import namespace
from tests.testbed.callers import DRAINED
from tests.testbed.clusters import start_side_by_side
from tests.testbed.nodes import link
from tests.testbed.realclusters import RealCluster
from tests.testbed.recipe import STAND_IN_IMAGE
from tests.testbed.waiting import eventually

SHOP, PORT = "shop", 8080
URL = f"http://echo.{SHOP}:{PORT}/"
_WITHIN_S = 300.0


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[tuple[RealCluster, RealCluster]]:
    """Runs two for the block, `one` and `two`."""
    one, two = (RealCluster(folder / name, name=name) for name in ("one", "two"))
    await asyncio.to_thread(start_side_by_side, [one, two])
    try:
        await asyncio.to_thread(link, one.node, two.node)
        yield one, two
    finally:
        for cluster in (one, two):
            await asyncio.to_thread(cluster.stop)


def serve(cluster: RealCluster) -> None:
    """The service in one cluster, whose pods say where they are."""
    labels = {"app": "echo"}
    told = {"STAND_IN": "serve", "NAME": f"echo-{cluster.name}", "PORTS": str(PORT)}
    metadata = {"name": "echo", "namespace": SHOP}
    container = {
        "name": "echo",
        "image": STAND_IN_IMAGE,
        "env": [{"name": name, "value": value} for name, value in told.items()],
        "lifecycle": DRAINED,
    }
    template = {
        "metadata": {"labels": {**labels, "version": "v1"}},
        "spec": {"terminationGracePeriodSeconds": 10, "containers": [container]},
    }
    port = {"name": "http", "port": PORT}
    items = [
        namespace(SHOP, **{"istio-injection": "enabled"}),
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": metadata,
            "spec": {"selector": labels, "ports": [port]},
        },
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": metadata,
            "spec": {"selector": {"matchLabels": labels}, "template": template},
        },
    ]
    listing = json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
    cluster.kubectl("apply", "--filename=-", stdin=listing)
    wait_ready(cluster, "echo")


def wait_ready(cluster: RealCluster, name: str) -> None:
    """Until a Deployment beside the service has all its pods."""
    place = (f"deployment/{name}", f"--namespace={SHOP}", "--timeout=120s")
    cluster.kubectl("rollout", "status", *place, timeout_s=130.0)


async def balance(cluster: RealCluster, service: str, *, namespace: str) -> None:
    """Gives a Service the node's address once it is there, as a cloud's load balancer would."""
    path = f"/api/v1/namespaces/{namespace}/services"

    def is_there() -> bool:
        found = cluster.api.request("GET", path)["items"]
        return service in {one["metadata"]["name"] for one in found}

    await eventually(is_there, what=f"the Service {service}", within_s=_WITHIN_S)
    status = {"status": {"loadBalancer": {"ingress": [{"ip": cluster.node.address}]}}}
    await asyncio.to_thread(
        cluster.kubectl,
        *("patch", "service", service, f"--namespace={namespace}"),
        *("--subresource=status", "--type=merge", f"--patch={json.dumps(status)}"),
    )


def planes(cluster: RealCluster, namespace: str = "istio-system") -> set[str]:
    """The pods of istiod that stay."""
    path = f"/api/v1/namespaces/{namespace}/pods?labelSelector=app%3Distiod"
    metadata = [pod["metadata"] for pod in cluster.api.request("GET", path)["items"]]
    return {one["uid"] for one in metadata if "deletionTimestamp" not in one}
