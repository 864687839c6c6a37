"""Hostile and unlucky texts: each ends with a code and a line, and nobody else waits for it."""

from __future__ import annotations

import asyncio
import random

import grpc
import pytest

from tests.testbed.bodies import config_map
from tests.testbed.clusters import Cluster
from tests.testbed.meshery import Meshery
from tests.testbed.snapshots import differences, snapshot

HEAD = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: hostile}\n"
BOMB = "a: &a [x, x]\n" + "".join(
    f"{chr(98 + n)}: &{chr(98 + n)} [*{chr(97 + n)}, *{chr(97 + n)}]\n" for n in range(20)
)
HOSTILE = {
    "bomb": (BOMB, "MB-1201", "line 2: YAML aliases"),
    "deep": (f"{HEAD}data: {'[' * 20_000}{']' * 20_000}\n", "MB-1201", "line 4: nested"),
    "many documents": ("---\n" + f"{HEAD}---\n" * 10_000, "MB-1201", "5000 documents"),
    "duplicate key": (f"{HEAD}data:\n  a: '1'\n  a: '2'\n", "MB-1201", "line 6"),
    "tag": (f"{HEAD}data:\n  a: !!python/object:os.system x\n", "MB-1201", "line 5: YAML tags"),
    "no end": (f"{HEAD}data:\n  a: 'never closed\n", "MB-1201", "line"),
    "control characters": (f"{HEAD}data:\n  a: \x01\n", "MB-1201", "not YAML"),
    "second document": (f"{HEAD}---\nkind: Pod\n", "MB-1201", "document 2"),
}


@pytest.mark.parametrize("case", HOSTILE)
async def test_a_hostile_text_ends_with_a_code_and_its_place(
    case: str, meshery: Meshery, cluster: Cluster
) -> None:
    body, code, words = HOSTILE[case]
    before = snapshot(cluster)
    # Somebody else's operation behind it ends as it should.
    hostile, other = await asyncio.gather(
        meshery.run("custom", body=body), meshery.run("custom", body=config_map("beside"))
    )
    assert hostile.event.error_code == code
    assert words in hostile.event.details
    assert not other.failed, other.event
    await meshery.run("custom", body=config_map("beside"), delete=True)
    assert differences(before, snapshot(cluster)) == []


async def test_five_megabytes_are_refused_before_they_are_stored(meshery: Meshery) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await meshery.apply("custom", body=config_map("large", value="x" * 5_000_000))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "MB-1005" in (caught.value.details() or "")


async def test_what_does_not_compress_to_a_message_is_refused(meshery: Meshery) -> None:
    noise = random.Random(7).randbytes(1_800_000).hex()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await meshery.apply("custom", body=config_map("noise", value=noise))
    assert "MB-1005" in (caught.value.details() or "")


async def test_a_large_manifest_gets_through(meshery: Meshery, cluster: Cluster) -> None:
    """3 MB of YAML in 40 objects; the API server takes 1 MB of each at most."""
    text = "\n---\n".join(
        config_map(f"large-{number}", value=f"{number} " * 28_000) for number in range(40)
    )
    assert len(text) > 2_500_000
    final = await meshery.run("custom", body=text)
    assert not final.failed, final.event
    assert "40 objects: 40 created" in final.event.details
    deleted = await meshery.run("custom", body=text, delete=True)
    assert "40 objects deleted" in deleted.event.details


async def test_readings_are_those_of_kubectl(meshery: Meshery, cluster: Cluster) -> None:
    definition = """\
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: readings.test.meshbus.io}
spec:
  group: test.meshbus.io
  scope: Namespaced
  names: {kind: Reading, plural: readings, singular: reading}
  versions:
  - name: v1
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
"""
    values = "{a: no, b: on, c: 017, d: 1:30, e: 2024-01-01, f: 1e3, g: '017', h: 0x1f, i: ~}"
    reading = (
        f"apiVersion: test.meshbus.io/v1\nkind: Reading\nmetadata: {{name: %s}}\nspec: {values}\n"
    )
    ours = await meshery.run("custom", body=f"{definition}---\n{reading % 'ours'}")
    assert not ours.failed, ours.event
    cluster.kubectl("apply", "--server-side", "-f", "-", stdin=reading % "theirs")
    read = [
        cluster.kubectl("get", "reading", name, "-o", "jsonpath={.spec}")
        for name in ("ours", "theirs")
    ]
    assert read[0] == read[1] != ""
    cluster.kubectl("delete", "reading", "theirs")
    await meshery.run("custom", body=f"{definition}---\n{reading % 'ours'}", delete=True)
