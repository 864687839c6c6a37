"""A canary beside the mesh: pods move to it by label and tag, and a revision in use stays."""

from __future__ import annotations

import asyncio
import json

import pytest

from tests.mesh.settling import applied
from tests.testbed.bodies import options
from tests.testbed.callers import Caller
from tests.testbed.meshery import Meshery
from tests.testbed.realclusters import RealCluster
from tests.testbed.recipe import ISTIO_VERSION

_NEXT, _TAG = "next", "stage"
_DEFAULT = "default"
_STATUS = "sidecar.istio.io/status"


# In each run a rollout moves them (test_rollouts.py).
@pytest.mark.full
async def test_a_data_plane_moves_to_a_canary_and_back(
    meshery: Meshery, mesh: RealCluster, injected: str, caller: Caller
) -> None:
    answering = Caller(mesh, namespace=injected, name="answering")
    await asyncio.to_thread(answering.start)
    await asyncio.to_thread(answering.wait_ready)
    assert _revisions(mesh, injected) == {"caller": _DEFAULT, "answering": _DEFAULT}

    canary = options(profile="minimal", revision=_NEXT, tags=[_TAG])
    await applied(meshery, "istio", "", canary, version=ISTIO_VERSION)
    # By the tag one day, by the revision the next: both name the same istiod.
    await applied(meshery, "label-namespace", injected, options(revision=_TAG))
    assert _revisions(mesh, injected) == {"caller": _DEFAULT, "answering": _DEFAULT}
    await asyncio.to_thread(caller.restart)
    assert _revisions(mesh, injected) == {"caller": _NEXT, "answering": _DEFAULT}

    held = await meshery.run("istio", delete=True, body=options(revision=_NEXT))
    assert held.failed
    assert _TAG in held.event.details

    await applied(meshery, "label-namespace", injected, options(revision=_DEFAULT))
    await asyncio.to_thread(caller.restart)
    assert _revisions(mesh, injected) == {"caller": _DEFAULT, "answering": _DEFAULT}
    untagged = options(profile="minimal", revision=_NEXT, tags=[])
    await applied(meshery, "istio", "", untagged, version=ISTIO_VERSION)
    await applied(meshery, "istio", "", options(revision=_NEXT), delete=True)
    assert "istiod-next" not in mesh.kubectl("get", "pods", "--namespace=istio-system")


def _revisions(mesh: RealCluster, namespace: str) -> dict[str, str]:
    """By workload, the revision whose istiod its sidecar was injected by."""
    found = mesh.api.request("GET", f"/api/v1/namespaces/{namespace}/pods")["items"]
    return {
        pod["metadata"]["labels"]["app"]: json.loads(pod["metadata"]["annotations"][_STATUS])[
            "revision"
        ]
        for pod in found
        if "deletionTimestamp" not in pod["metadata"]
    }
