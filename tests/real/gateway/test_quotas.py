"""What one identity may have waiting: a flood is refused, and what has ended makes room again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
import pytest

from services.chassis.bus.streams import call_api
from services.chassis.messages import Event, Phase
from tests.real.gateway.callers import TokenFile, calling
from tests.real.gateway.rig import Rig, cluster_of, eventually, kubeconfig, opened, rigged
from tests.testbed.generations import GenerationClient

QUOTA = {
    "MESHBUS_GATEWAY_QUOTA_COMMANDS": "4",
    "MESHBUS_GATEWAY_QUOTA_CLUSTERS": "3",
    "MESHBUS_GATEWAY_QUOTA_BYTES": str(1024 * 1024),
    "MESHBUS_GATEWAY_QUOTA_STREAMS": "2",
}


def asked(operation: str, *clusters: str, body: str = "") -> dict[str, Any]:
    return {
        "opName": "custom",
        "operation_id": operation,
        "custom_body": body,
        "kube_configs": [kubeconfig(name) for name in clusters],
    }


async def refused(client: GenerationClient, fields: dict[str, Any]) -> str:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await client.call("ApplyOperation", fields)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    return caught.value.details() or ""


async def told_end(rig: Rig, operation: str, cluster: str) -> None:
    """The final event of a part, as a worker publishes it."""
    await rig.publisher.event(
        Event(
            operation=operation,
            kind="custom",
            service="lifecycle",
            cluster=cluster_of(cluster),
            phase=Phase.DONE,
            summary="done successfully",
        )
    )


async def is_accepted(client: GenerationClient, fields: dict[str, Any]) -> bool:
    try:
        await client.call("ApplyOperation", fields)
    except grpc.aio.AioRpcError as error:
        if error.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED:
            raise
        return False
    return True


async def test_a_flood_is_refused_and_what_has_ended_makes_room(tmp_path: Path) -> None:
    async with rigged(tmp_path, QUOTA) as rig, rig.client("F") as client:
        await client.call("ApplyOperation", asked("first", "a", "b"))
        await client.call("ApplyOperation", asked("second", "a", "b"))
        # A repeat of what waits is no more of it.
        await client.call("ApplyOperation", asked("second", "a", "b"))
        details = await refused(client, asked("third", "a"))
        assert details.startswith("MB-1007: local has 4 commands waiting")
        assert len(await rig.commands()) == 4
        assert await rig.bucket("ops").get("third") is None, "nothing is kept of what was refused"
        # By its event, at once.
        await told_end(rig, "first", "a")
        await eventually(
            lambda: is_accepted(client, asked("third", "a")), what="room after an event"
        )
        # By its record, where the event was missed.
        await rig.end_part("first", cluster_of("b"))
        await eventually(
            lambda: is_accepted(client, asked("fourth", "a")), what="room after a record"
        )
        await refused(client, asked("fifth", "a"))


async def test_clusters_and_bytes_have_quotas_of_their_own(tmp_path: Path) -> None:
    async with rigged(tmp_path, QUOTA) as rig, rig.client("F") as client:
        assert "clusters" in await refused(client, asked("wide", "a", "b", "c", "d"))
        large = "#" * (900 * 1024)
        await client.call("ApplyOperation", asked("large", "a", body=large))
        assert "bytes" in await refused(client, asked("larger", "a", body=large))
        # What was refused counts no more than what never came.
        await client.call("ApplyOperation", asked("small", "b", "c"))


async def test_streams_have_a_quota_and_make_room_when_they_end(tmp_path: Path) -> None:
    async with rigged(tmp_path, QUOTA) as rig, rig.client("F") as client:
        first, _second = await opened(client), await opened(client)
        third = client.stream("StreamEvents")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await anext(third)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert (caught.value.details() or "").startswith("MB-1007: ")
        first.call.cancel()

        async def is_open() -> bool:
            try:
                await opened(client)
            except grpc.aio.AioRpcError:
                return False
            return bool((await rig.ask("streams", {}))["open"] == 2)

        await eventually(is_open, what="room for another stream")


async def test_a_full_bucket_of_credentials_is_told(tmp_path: Path) -> None:
    async with rigged(tmp_path) as rig, rig.client("F") as client:
        before = await limited(rig, 256)
        assert 0 < before < 1 << 32, "the bucket has an end"
        details = await refused(client, asked("kept", "a"))
        assert details.startswith("MB-2016: ")
        assert await rig.commands() == []
        await limited(rig, before)
        await client.call("ApplyOperation", asked("kept", "a"))
        assert len(await rig.commands()) == 1


async def limited(rig: Rig, most_bytes: int) -> int:
    """Gives the bucket of credentials another size; returns the former one."""
    told = await call_api(rig.bus.client, "STREAM.INFO.KV_credentials", {})
    config = told["config"] | {"max_bytes": most_bytes}
    answer = await call_api(rig.bus.client, "STREAM.UPDATE.KV_credentials", config)
    assert "error" not in answer, answer
    return int(told["config"]["max_bytes"])


async def test_one_identity_s_flood_takes_nothing_from_another(tmp_path: Path) -> None:
    known = TokenFile.written(tmp_path / "tokens.yaml", flooder=[], ana=[])
    settings = {**QUOTA, "MESHBUS_GATEWAY_TOKENS": str(known.path)}
    async with (
        rigged(tmp_path / "rig", settings) as rig,
        calling(rig.stack.gateway_address, known.of["flooder"]) as flooder,
        calling(rig.stack.gateway_address, known.of["ana"]) as ana,
    ):
        await flooder.apply(**asked("flood-1", "a", "b"))
        await flooder.apply(**asked("flood-2", "a", "b"))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await flooder.apply(**asked("flood-3", "a"))
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "flooder has" in (caught.value.details() or "")
        await ana.apply(**asked("ana-1", "a", "b", "c"))
        await flooder.stream()
        await flooder.stream()
        with pytest.raises(grpc.aio.AioRpcError, match="MB-1007"):
            await flooder.stream()
        await ana.stream()
