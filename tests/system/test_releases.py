"""An Istio release that nobody has: fetched by what wants it, and known to the translator then."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.testbed.building import distributions_folder
from tests.testbed.clusters import Cluster
from tests.testbed.meshery import Meshery
from tests.testbed.recipe import ISTIO_VERSION
from tests.testbed.releases import ReleaseServer, member, serving, small_archive
from tests.testbed.stack import Stack
from tests.testbed.waiting import eventually

VERSION = "1.29.7"
_ADD_ONS = ("prometheus", "grafana")


class _Fetching(Stack):
    """Two lifecycle workers that share an empty folder, and a translator with none."""

    mirror = ""

    def _own(self, service: str, *, http_port: int) -> dict[str, str]:
        own = super()._own(service, http_port=http_port)
        if service == "lifecycle":
            own["MESHBUS_LIFECYCLE_DISTRIBUTIONS"] = str(self.folder / "istio")
            own["MESHBUS_LIFECYCLE_RELEASES"] = f"{self.mirror}/dl"
            own["MESHBUS_LIFECYCLE_RELEASES_KNOWN"] = VERSION
        return own


@pytest.fixture
async def mirror(built: None) -> AsyncIterator[ReleaseServer]:
    samples = distributions_folder() / ISTIO_VERSION / "samples" / "addons"
    add_ons = [
        member(
            f"istio-{VERSION}/samples/addons/{name}.yaml", (samples / f"{name}.yaml").read_bytes()
        )
        for name in _ADD_ONS
    ]
    async with serving() as mirror:
        mirror.archives[VERSION] = small_archive(VERSION, *add_ons)
        yield mirror


@pytest.fixture
async def fetching(tmp_path: Path, mirror: ReleaseServer) -> AsyncIterator[Stack]:
    stack = _Fetching(tmp_path / "stack", services=("gateway", "lifecycle", "translator"))
    stack.mirror = mirror.address
    await asyncio.to_thread(stack.start)
    try:
        await asyncio.to_thread(stack.add, "lifecycle", name="lifecycle-2")
        await asyncio.to_thread(stack.wait_ready, "lifecycle-2")
        yield stack
    finally:
        await asyncio.to_thread(stack.stop)


async def _asked(stack: Stack, subject: str) -> Any:
    answer = await asyncio.to_thread(stack.nats_cli, "req", "--raw", subject, "{}")
    return json.loads(answer)


async def test_two_operations_want_a_release_that_is_not_here(
    fetching: Stack, mirror: ReleaseServer, cluster: Cluster
) -> None:
    known = await _asked(fetching, "mesh.lifecycle.versions")
    assert known == {"versions": [], "fetchable": [VERSION], "source": f"{mirror.address}/dl"}
    assert await _asked(fetching, "mesh.translator.versions") == {"versions": []}
    cluster.api.create_or_keep("/api/v1/namespaces", {"metadata": {"name": "istio-system"}})
    try:
        async with Meshery(
            fetching.gateway_address, [cluster.kubeconfig_text]
        ).connected() as meshery:
            finals = await asyncio.gather(*(meshery.run(f"{name}-addon") for name in _ADD_ONS))
            assert [final.event.summary for final in finals if final.failed] == []
            told = "\n".join(received.event.summary for received in meshery.events)
        assert mirror.asked[VERSION] == 1
        assert f"Istio {VERSION} is not here and comes from {mirror.address}/dl" in told
        assert f"Istio {VERSION} is here now" in told
        there = await _asked(fetching, "mesh.lifecycle.versions")
        assert (there["versions"], there["fetchable"]) == ([VERSION], [])

        async def is_known() -> bool:
            return bool((await _asked(fetching, "mesh.translator.versions"))["versions"])

        await eventually(is_known, what="the definitions to come to the translator")
        assert all(fetching.refusals(name) == [] for name in ("gateway", "lifecycle", "translator"))
    finally:
        cluster.api.request("DELETE", "/api/v1/namespaces/istio-system")
