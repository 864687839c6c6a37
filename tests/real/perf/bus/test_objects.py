"""Objects: stored in chunks, read whole, in the standard layout, gone after their time."""

from __future__ import annotations

import json
import secrets
from datetime import timedelta

import orjson
import pytest

from services.chassis.bus.connection import Bus
from services.chassis.errors import InternalError
from services.perf.adapters.objects import Objects
from tests.testbed.waiting import eventually

CHUNK = 128 * 1024


@pytest.fixture
def objects(bus: Bus) -> Objects:
    return Objects(bus, "perf")


@pytest.mark.parametrize("size", [0, 1, CHUNK, CHUNK + 1, 5 * CHUNK + 17])
async def test_what_was_put_is_what_is_got(size: int, objects: Objects, name: str) -> None:
    content = secrets.token_bytes(size)
    await objects.put(f"results/{name}.json", content)
    assert await objects.get(f"results/{name}.json") == content


async def test_an_object_that_is_not_there_is_none(objects: Objects, name: str) -> None:
    assert await objects.get(name) is None


async def test_the_newest_content_counts(objects: Objects, name: str) -> None:
    await objects.put(name, b"old" * CHUNK)
    await objects.put(name, b"new")
    assert await objects.get(name) == b"new"


async def test_an_object_goes_after_its_time(objects: Objects, name: str) -> None:
    await objects.put(name, b"short", ttl=timedelta(seconds=1))
    await objects.put(f"{name}-stays", b"long")

    async def is_gone() -> bool:
        return await objects.get(name) is None

    await eventually(is_gone, what="the object to expire", within_s=60.0)
    assert await objects.get(f"{name}-stays") == b"long"


async def test_a_damaged_object_is_not_handed_out(objects: Objects, name: str, bus: Bus) -> None:
    await objects.put(name, b"whole")
    stored = await bus.client.jetstream().get_last_msg(objects.stream, objects._meta(name))
    info = orjson.loads(stored.data or b"")
    await bus.client.jetstream().publish(
        objects._meta(name), json.dumps(info | {"digest": "SHA-256=other"}).encode()
    )
    with pytest.raises(InternalError, match="damaged"):
        await objects.get(name)


async def test_the_library_reads_it_too(objects: Objects, name: str, bus: Bus) -> None:
    """The layout is the standard one: whoever knows object stores finds it."""
    content = secrets.token_bytes(2 * CHUNK + 5)
    await objects.put(name, content)
    theirs = await bus.client.jetstream().object_store("perf")
    assert (await theirs.get(name)).data == content
