"""Definitions of Istio's kinds come to the translator over the bus, by version and digest."""

from __future__ import annotations

import asyncio
import secrets
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from services.chassis.bus.connection import Bus
from services.chassis.bus.records import Bucket
from services.chassis.errors import SchemasMissing
from services.chassis.kube.definitions import BUCKET, ReleaseDefinitions, key_of, packed
from services.lifecycle.releases.publishing import DefinitionsOnBus
from services.translator.adapters.published import Published, followed_definitions
from tests.testbed.building import distributions_folder, gateway_api_folder
from tests.testbed.recipe import ISTIO_VERSION

_FILE = "manifests/charts/base/files/crd-all.gen.yaml"
_SERVICE = ("networking.istio.io", "ServiceEntry")
_ROUTE = ("gateway.networking.k8s.io", "HTTPRoute")


@pytest.fixture
def version() -> str:
    """One that no other test has."""
    return f"1.29.{secrets.randbelow(900)}-{secrets.token_hex(3)}"


@pytest.fixture
def folder(tmp_path: Path, version: str) -> Path:
    """With the definitions of a real release under that version."""
    file = tmp_path / version / _FILE
    file.parent.mkdir(parents=True)
    shutil.copyfile(distributions_folder() / ISTIO_VERSION / _FILE, file)
    return tmp_path


@pytest.fixture
async def published(bus: Bus, built: None) -> AsyncIterator[Published]:
    async with followed_definitions(bus, gateway_api_folder()) as published:
        yield published


async def _until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(30.0):
        while not holds():
            await asyncio.sleep(0.01)


async def test_a_release_s_definitions_are_there_at_once(
    bus: Bus, folder: Path, version: str, published: Published
) -> None:
    with pytest.raises(SchemasMissing):
        await published.schemas(version)
    bucket = Bucket(bus, BUCKET)
    await DefinitionsOnBus(bucket, folder).publish([version])
    await _until(lambda: version in published.versions())
    schemas = await published.schemas(version)
    assert schemas.find(*_SERVICE) is not None
    assert schemas.find(*_ROUTE) is not None
    # A second worker, and the same one once more, leave them as they are.
    first = await bucket.get(key_of(version))
    await DefinitionsOnBus(bucket, folder).publish([version])
    assert await bucket.get(key_of(version)) == first
    assert await published.schemas(version) is schemas

    # Another text under the version, as in a folder that somebody mended.
    (folder / version / _FILE).write_text("")
    own = DefinitionsOnBus(bucket, folder)
    await own.publish([version])
    assert await bucket.get(key_of(version)) == first, "a file without a word is none"
    (folder / version / _FILE).write_text("kind: Nothing\n")
    await own.publish([version])
    assert (await bucket.get(key_of(version))) == first, "published once by a worker"
    await DefinitionsOnBus(bucket, folder).publish([version])
    second = await bucket.get(key_of(version))
    assert second is not None
    assert first is not None
    assert second.revision > first.revision

    async def is_read_anew() -> bool:
        return (await published.schemas(version)).find(*_SERVICE) is None

    async with asyncio.timeout(30.0):
        while not await is_read_anew():
            await asyncio.sleep(0.01)


async def test_what_was_not_heard_is_found(bus: Bus, folder: Path, version: str) -> None:
    deaf = Published(Bucket(bus, BUCKET), None)
    await DefinitionsOnBus(Bucket(bus, BUCKET), folder).publish([version])
    assert (await deaf.schemas(version)).find(*_SERVICE) is not None


@pytest.mark.parametrize("value", [b"{}", b"\xff\xfe", b'{"version": "1", "digest": "2"}'])
async def test_what_is_no_definition_is_told(bus: Bus, version: str, value: bytes) -> None:
    await Bucket(bus, BUCKET).put(key_of(version), value)
    with pytest.raises(SchemasMissing, match="cannot be used"):
        await Published(Bucket(bus, BUCKET), None).schemas(version)


async def test_a_text_that_is_not_what_its_digest_says(bus: Bus, version: str) -> None:
    right = ReleaseDefinitions.of(version, "kind: Nothing\n")
    wrong = right.model_copy(update={"text": "kind: Another\n"})
    await Bucket(bus, BUCKET).put(key_of(version), packed(wrong))
    with pytest.raises(SchemasMissing, match="damaged"):
        await Published(Bucket(bus, BUCKET), None).schemas(version)
