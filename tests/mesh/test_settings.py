"""A second `istio` with other settings: what runs follows, and what starts later has them."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.mesh.settling import applied, only, settled
from tests.testbed.bodies import operator
from tests.testbed.callers import Caller
from tests.testbed.meshery import Meshery
from tests.testbed.realclusters import RealCluster
from tests.testbed.recipe import ISTIO_VERSION, STAND_IN_IMAGE

_PORT = 7777
_CPU = "30m"


async def test_other_settings_move_the_data_plane_and_their_end_takes_it_back(
    meshery: Meshery, mesh: RealCluster, injected: str, caller: Caller
) -> None:
    with _unlisted(mesh, injected) as address:
        elsewhere = f"http://{address}:{_PORT}/"
        await settled(caller, elsewhere, only("200 unlisted"))
        before = _requested(mesh, caller)

        closed = operator(
            meshConfig={"outboundTrafficPolicy": {"mode": "REGISTRY_ONLY"}},
            values={"global": {"proxy": {"resources": {"requests": {"cpu": _CPU}}}}},
        )
        await applied(meshery, "istio", "", closed, version=ISTIO_VERSION)
        # The sidecar that runs follows its istiod; its pod is as it was made.
        await settled(caller, elsewhere, lambda answers: "200 unlisted" not in answers.counts)
        assert _requested(mesh, caller) == before != _CPU
        await asyncio.to_thread(caller.restart)
        assert _requested(mesh, caller) == _CPU

        await applied(meshery, "istio", "", version=ISTIO_VERSION)
        await settled(caller, elsewhere, only("200 unlisted"))
        await asyncio.to_thread(caller.restart)
        assert _requested(mesh, caller) == before


@contextmanager
def _unlisted(mesh: RealCluster, namespace: str) -> Iterator[str]:
    """The address of a pod that no Service has, so that no proxy has heard of it."""
    name = f"unlisted-{secrets.token_hex(2)}"
    place = f"--namespace={namespace}"
    mesh.kubectl(
        "run",
        name,
        place,
        f"--image={STAND_IN_IMAGE}",
        "--labels=sidecar.istio.io/inject=false",
        "--env=STAND_IN=serve",
        "--env=NAME=unlisted",
        f"--env=PORTS={_PORT}",
    )
    try:
        mesh.kubectl("wait", "--for=condition=Ready", f"pod/{name}", place, "--timeout=60s")
        pod = mesh.api.request("GET", f"/api/v1/namespaces/{namespace}/pods/{name}")
        yield pod["status"]["podIP"]
    finally:
        mesh.kubectl("delete", "pod", name, place, "--grace-period=1")


def _requested(mesh: RealCluster, caller: Caller) -> str:
    """What the sidecar of the caller asks for of a processor."""
    path = f"/api/v1/namespaces/{caller.namespace}/pods?labelSelector=app%3D{caller.name}"
    [pod] = [
        found
        for found in mesh.api.request("GET", path)["items"]
        if "deletionTimestamp" not in found["metadata"]
    ]
    containers: list[dict[str, Any]] = pod["spec"]["initContainers"]
    [proxy] = [one for one in containers if one["name"] == "istio-proxy"]
    return str(proxy["resources"]["requests"]["cpu"])
