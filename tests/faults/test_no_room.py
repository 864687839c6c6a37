"""A queue that is full, a disk that is full, a NATS without JetStream: callers are told which, and
soon; nothing that was accepted is lost; and the services need no restart when there is room again.
"""

from __future__ import annotations

import asyncio
import re
import time
import urllib.error
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

from deploy.local import servers
from services.chassis.bus.streams import call_api
from tests.real.gateway.rig import Rig, kubeconfig, rigged
from tests.testbed import disks, loopback
from tests.testbed.buses import NatsServer
from tests.testbed.generations import GenerationClient
from tests.testbed.waiting import eventually

LONGEST_CALL_S = 20.0
LARGE = "#" * 60_000
"""Below what is compressed."""
ROOM = 150_000


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with rigged(tmp_path) as rig:
        yield rig


async def apply(client: GenerationClient, operation: str, *, body: str = LARGE) -> None:
    await client.call(
        "ApplyOperation",
        {
            "opName": "custom",
            "custom_body": body,
            "operation_id": operation,
            "kube_configs": [kubeconfig(operation)],
        },
        timeout_seconds=60.0,
    )


async def refusal(client: GenerationClient, operation: str) -> grpc.aio.AioRpcError:
    """What the caller is told, and that it was not kept waiting."""
    began = time.monotonic()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await apply(client, operation)
    assert time.monotonic() - began < LONGEST_CALL_S
    return caught.value


async def _limit(rig: Rig, room: int) -> None:
    """Gives the queue of commands another size."""
    told = await call_api(rig.bus.client, "STREAM.INFO.CMD", {})
    config = told["config"] | {"max_bytes": room}
    answer = await call_api(rig.bus.client, "STREAM.UPDATE.CMD", config)
    assert "error" not in answer, answer


async def test_a_full_queue_is_told_and_what_was_refused_may_come_again(rig: Rig) -> None:
    before = (await call_api(rig.bus.client, "STREAM.INFO.CMD", {}))["config"]["max_bytes"]
    assert 0 < before < 1 << 32, "the queue has an end"
    await _limit(rig, ROOM)
    async with rig.client() as client:
        await apply(client, "first")
        await apply(client, "second")
        refused = await refusal(client, "third")
        assert refused.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "MB-2016" in str(refused.details())
        assert len(await rig.commands()) == 2
        await _limit(rig, before)
        await apply(client, "third")
        assert len(await rig.commands()) == 3


async def test_without_jetstream_callers_are_told_and_all_goes_on_when_it_is_back(
    rig: Rig,
) -> None:
    nats = rig.stack.nats
    whole = nats.config_text
    async with rig.client() as client:
        await apply(client, "before")
        nats.kill()
        nats.config_text = re.sub(r"jetstream (\{[^}]*\})|jetstream: enabled", "", whole)
        await asyncio.to_thread(nats.start)
        refused = await refusal(client, "meanwhile")
        assert refused.code() is grpc.StatusCode.UNAVAILABLE
        assert "MB-20" in str(refused.details())
        nats.kill()
        nats.config_text = whole
        await asyncio.to_thread(nats.start)
        await _accepted(client, "meanwhile")
    assert len(await rig.commands()) == 2
    assert rig.stack.processes["gateway"].is_running


@pytest.mark.skipif(not disks.is_possible(), reason="nobody may mount in a namespace here")
async def test_a_full_disk_is_told_and_nothing_is_lost(tmp_path: Path) -> None:
    with disks.SmallDisk(tmp_path / "disk", megabytes=64) as disk:

        def on_the_disk(usual: servers.NatsServer) -> servers.NatsServer:
            # What the server reserves for streams is more than such a disk has.
            text = usual.config_text.replace("jetstream {", "jetstream {\n  max_file_store: 64GB")
            return NatsServer(
                usual.folder, config=text, store=disk.folder / "store", within=disk.within
            )

        async with rigged(tmp_path / "rig", nats=on_the_disk) as rig, rig.client() as client:
            nats = rig.stack.nats
            await apply(client, "before")
            disk.fill()
            refused = await refusal(client, "meanwhile")
            assert refused.code() in (
                grpc.StatusCode.UNAVAILABLE,
                grpc.StatusCode.RESOURCE_EXHAUSTED,
            )
            # What a probe of NATS sees; it has frozen the stream and has to be started again.
            with pytest.raises(urllib.error.HTTPError, match="503"):
                await asyncio.to_thread(loopback.fetch, f"{nats.monitoring_url}/healthz")
            disk.relieve()
            await asyncio.to_thread(nats.stop)
            await asyncio.to_thread(nats.start)
            await _accepted(client, "meanwhile")
            assert len(await rig.commands()) == 2
            assert rig.stack.processes["gateway"].is_running


async def _accepted(client: GenerationClient, operation: str) -> None:
    """The same call until the gateway has found its NATS again."""

    async def is_accepted() -> bool:
        try:
            await apply(client, operation)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE:
                raise
            return False
        return True

    await eventually(is_accepted, what="the call to be accepted")
