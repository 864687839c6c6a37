"""Istio's versions in Meshery's registry: at the start, later, again, and never twice."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from deploy.local.doctor import surroundings
from deploy.local.doctor.checks import Verdict
from services.chassis.kube.definitions import ReleaseDefinitions, key_of, packed
from services.gateway.meshery import packages
from tests.real.gateway.rig import (
    CATALOG,
    Rig,
    eventually,
    heard,
    kubeconfig,
    opened,
    rigged,
)
from tests.testbed import loopback
from tests.testbed.mesheries import MesheryServer, Page, serving

_DEFINITIONS = """\
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: virtualservices.networking.istio.io}
spec:
  group: networking.istio.io
  scope: Namespaced
  names: {kind: VirtualService, plural: virtualservices}
  versions:
  - name: v1
    served: true
    storage: true
    schema:
      openAPIV3Schema:
        properties:
          spec: {type: object, properties: {hosts: {type: array, items: {type: string}}}}
          status: {type: object}
"""


def settings(meshery: MesheryServer, **more: str) -> Mapping[str, str]:
    return {
        "MESHBUS_GATEWAY_MESHERY": meshery.url,
        "MESHBUS_GATEWAY_MESHERY_LOOK": "1s",
        "MESHBUS_GATEWAY_MESHERY_PATIENCE": "0s",
        **{f"MESHBUS_GATEWAY_MESHERY_{name}": value for name, value in more.items()},
    }


async def offers(meshery: MesheryServer, *versions: str) -> None:
    async def listed() -> bool:
        return meshery.offered() == list(versions)

    await eventually(listed, what=f"Meshery to offer {versions}")


async def ready_text(rig: Rig) -> str:
    url = f"{rig.stack.health_url('gateway')}/readyz"
    answer = await asyncio.to_thread(loopback.fetch, url)
    assert answer is not None
    return answer.decode()


async def says(rig: Rig, text: str) -> None:
    """`/readyz` says so, and stays ready."""

    async def told() -> bool:
        found = await ready_text(rig)
        return found.startswith("ok\n") and text in found

    await eventually(told, what=f"/readyz to say {text!r}")


async def is_well(rig: Rig) -> None:
    async def well() -> bool:
        return await ready_text(rig) == "ok\n"

    await eventually(well, what="/readyz to say ok alone")


async def test_each_version_becomes_a_model_with_the_kinds_of_its_definitions(
    tmp_path: Path,
) -> None:
    async with serving() as meshery, rigged(tmp_path) as rig:
        published = ReleaseDefinitions.of("1.31.0", _DEFINITIONS)
        await rig.bucket("definitions").put(key_of("1.31.0"), packed(published))
        rig.stack.processes.pop("gateway").stop()
        rig.start_gateway(settings(meshery))
        await offers(meshery, "1.31.0", "1.30.2")
        kinds = {c["component"]["kind"]: c for c in meshery.components}
        assert set(kinds) == {"VirtualService", "IstioOperator"}
        service = kinds["VirtualService"]
        assert service["component"]["version"] == "networking.istio.io/v1"
        assert service["model"]["version"] == "1.31.0"
        assert list(json.loads(service["component"]["schema"])["properties"]) == ["spec"]
        assert kinds["IstioOperator"]["model"]["version"] == "1.30.2"
        await is_well(rig)


async def test_the_page_works_once_the_versions_are_registered(tmp_path: Path) -> None:
    async with serving() as meshery, rigged(tmp_path) as rig:
        page = Page(meshery, rig.stack.gateway_address, [kubeconfig("page")], editor="kind: [half")
        await page.load()
        assert page.versions() == []
        assert await page.click("istio") == (0, "")
        rig.stack.processes.pop("gateway").stop()
        rig.start_gateway(settings(meshery))
        await offers(meshery, "1.31.0", "1.30.2")
        await page.load()
        assert page.versions() == ["1.31.0", "1.30.2"]
        assert await page.click("istio") == (200, "")
        [subject] = await rig.commands()
        assert subject.startswith("cmd.lifecycle.")
        # One change of a mesh at a time, and the page shows why.
        status, text = await page.click("istio")
        assert (status, text.partition(":")[0]) == (500, "MB-2002")
        page.kubeconfigs = []
        assert (await page.click("bookinfo"))[0] == 400


async def test_a_version_that_comes_later_is_registered(tmp_path: Path) -> None:
    async with serving() as meshery, rigged(tmp_path, settings(meshery)) as rig:
        await offers(meshery, "1.31.0", "1.30.2")
        more = CATALOG.model_copy(update={"versions": ["1.32.0", *CATALOG.versions]})
        await rig.advertise(more)
        await offers(meshery, "1.32.0", "1.31.0", "1.30.2")
        assert sorted(meshery.packages) == [
            "istio-1.30.2.tar.gz",
            "istio-1.31.0.tar.gz",
            "istio-1.32.0.tar.gz",
        ]


async def test_a_server_that_restarts_empty_gets_all_again_and_one_that_kept_it_nothing(
    tmp_path: Path,
) -> None:
    async with serving() as meshery, rigged(tmp_path, settings(meshery)):
        await offers(meshery, "1.31.0", "1.30.2")
        await meshery.restart(forgets=False)
        await looked(meshery)
        assert len(meshery.packages) == 2
        await meshery.restart(forgets=True)
        await offers(meshery, "1.31.0", "1.30.2")
        assert len(meshery.packages) == 4


async def looked(meshery: MesheryServer) -> None:
    """Two more looks were made: the first may have begun before."""
    path = "/api/meshmodels/models/istio"
    before = meshery.asked[path]

    async def again() -> bool:
        return meshery.asked[path] >= before + 2

    await eventually(again, what="the gateway to look")


async def test_a_server_that_is_late_is_waited_for(tmp_path: Path) -> None:
    meshery = MesheryServer()
    async with rigged(tmp_path, settings(meshery)) as rig:
        await says(rig, f"meshery: Meshery does not answer at {meshery.url}")
        await meshery.start()
        try:
            await offers(meshery, "1.31.0", "1.30.2")
            await is_well(rig)
        finally:
            await meshery.stop()


async def test_what_does_not_work_is_an_event_once_and_its_end_another(tmp_path: Path) -> None:
    async with serving(provider="Meshery", token="a-users-token") as meshery:
        async with rigged(tmp_path, settings(meshery)) as rig, rig.client("G") as client:
            stream = await opened(client)
            (told,) = await heard(stream, 1)
            assert told.event_type == 1
            assert told.error_code == "MB-8002"
            assert "asks for a login" in told.summary
            assert "MESHBUS_GATEWAY_MESHERY_PROVIDER" in told.suggested_remediation
            await says(rig, "asks for a login")
            meshery.provider = "None"
            (told,) = await heard(stream, 1)
            assert told.event_type == 0
            assert told.summary == "Meshery knows the Istio versions of this adapter now"
        assert meshery.offered() == ["1.31.0", "1.30.2"]


async def test_a_providers_token_opens_the_registry_and_is_told_nowhere(tmp_path: Path) -> None:
    async with serving(provider="Meshery", token="a-users-token") as meshery:
        more = settings(meshery, PROVIDER="Meshery", TOKEN="a-users-token")
        async with rigged(tmp_path, more) as rig:
            await offers(meshery, "1.31.0", "1.30.2")
            await is_well(rig)
            assert "a-users-token" not in rig.stack.log_text()


@pytest.mark.parametrize(
    ("trouble", "words"),
    [
        ({"build": "v0.7.80"}, "Meshery v0.7.80 takes no packages of models"),
        ({"refuses": "no such model"}, "does not take istio-1.31.0.tar.gz: no such model"),
        ({"keeps_nothing": True}, "took istio-1.31.0.tar.gz and does not list its model"),
        ({"status": 500}, "answers /api/meshmodels/models/istio with 500"),
        ({"status": 404}, "answers /api/meshmodels/models/istio with 404"),
    ],
)
async def test_a_server_that_takes_nothing_is_told_of_and_not_filled(
    tmp_path: Path, trouble: dict[str, Any], words: str
) -> None:
    async with serving(**trouble) as meshery, rigged(tmp_path, settings(meshery)) as rig:
        await says(rig, words)
        await looked(meshery)
        assert meshery.models == []
        # Each version at most once: what is taken and not listed is not sent at every look.
        assert len(meshery.packages) == len(set(meshery.packages))


async def test_the_doctor_says_what_the_page_offers() -> None:
    async with serving() as meshery:
        looked = await asyncio.to_thread(surroundings.meshery, meshery.url)
        assert looked.verdict is Verdict.WARN
        assert "MESHBUS_GATEWAY_MESHERY" in looked.remedy
        package = packages.packed("1.31.0", "")
        assert meshery.take(packages.file_name("1.31.0"), package) == []
        looked = await asyncio.to_thread(surroundings.meshery, meshery.url)
        assert looked.verdict is Verdict.OK
        assert looked.text == f"{meshery.url}; its page offers Istio 1.31.0"
        meshery.status = 500
        assert (await asyncio.to_thread(surroundings.meshery, meshery.url)).verdict is Verdict.FAIL
    assert (await asyncio.to_thread(surroundings.meshery, meshery.url)).verdict is Verdict.FAIL
    assert surroundings.meshery("").verdict is Verdict.OK


async def test_two_gateways_send_each_version_once(tmp_path: Path) -> None:
    async with serving() as meshery, rigged(tmp_path, settings(meshery)) as rig:
        port, rig.stack.gateway_port = rig.stack.gateway_port, loopback.take_port()
        rig.stack.add("gateway", name="second", settings=settings(meshery))
        rig.stack.gateway_port = port
        rig.stack.wait_ready("second")
        await offers(meshery, "1.31.0", "1.30.2")
        await looked(meshery)
        assert sorted(meshery.packages) == ["istio-1.30.2.tar.gz", "istio-1.31.0.tar.gz"]


async def test_an_address_that_is_none_is_refused_at_the_start(rig: Rig) -> None:
    rig.stack.add("gateway", name="wrong", settings={"MESHBUS_GATEWAY_MESHERY": "meshery:9081"})
    with pytest.raises(Exception, match="must begin with http"):
        rig.stack.wait_ready("wrong")
