"""SMI's access control between workloads whose identities are certificates."""

from __future__ import annotations

import asyncio

from tests.mesh.settling import applied, only, settled
from tests.testbed import smi
from tests.testbed.callers import Caller
from tests.testbed.meshery import Meshery
from tests.testbed.realclusters import RealCluster
from tests.testbed.shops import DENY, manifest

ALLOWED = "http://httpbin:8000/status/204"
BESIDE = "http://httpbin:8000/headers"


async def test_a_target_lets_in_whom_it_names_and_stays_closed_behind_itself(
    meshery: Meshery, mesh: RealCluster, injected: str, caller: Caller
) -> None:
    stranger = Caller(mesh, namespace=injected, name="stranger")
    await asyncio.to_thread(stranger.start)
    await applied(meshery, "httpbin", injected)
    await asyncio.to_thread(stranger.wait_ready)
    for one in (caller, stranger):
        await settled(one, ALLOWED, only("204"))

    match = {"name": "status", "pathRegex": "/status/.*", "methods": ["GET"]}
    routes = smi.route_group(injected, "routes", match)
    allowed = (injected, caller.name)
    target = smi.target(injected, routes, source=allowed, destination="httpbin")
    await applied(meshery, "custom", injected, manifest(routes, target))

    await settled(stranger, ALLOWED, only("403"))
    await settled(caller, ALLOWED, only("204"))
    await settled(caller, BESIDE, only("403"))

    # The stranger gets what it asks for by the other's account, and that one loses it.
    routes = smi.route_group(injected, "routes", {"name": "all", "pathRegex": ".*"})
    allowed = (injected, stranger.name)
    target = smi.target(injected, routes, source=allowed, destination="httpbin")
    await applied(meshery, "custom", injected, manifest(routes, target))
    await settled(stranger, BESIDE, only("200"))
    await settled(caller, ALLOWED, only("403"))

    await applied(meshery, "custom", injected, manifest(routes, target), delete=True)
    for one in (caller, stranger):
        await settled(one, ALLOWED, only("403"))
    await asyncio.to_thread(
        mesh.kubectl, "delete", "authorizationpolicy", DENY, f"--namespace={injected}"
    )
    for one in (caller, stranger):
        await settled(one, ALLOWED, only("204"))
