"""KEDA's question about the queue of shards, asked of the server as it is shipped."""

from __future__ import annotations

import asyncio
from pathlib import Path

from services.chassis.bus.connection import connect
from services.perf.adapters.subjects import shard_command
from tests.real.deploy.charts import Object, lag, of_kind
from tests.testbed import loopback
from tests.testbed.stack import Stack
from tests.testbed.waiting import eventually


async def test_keda_sees_the_shards_that_wait(
    renderings: dict[str, list[Object]], tmp_path: Path
) -> None:
    scaled = of_kind(renderings["everything on"], "ScaledObject")["meshbus-perf"]
    [trigger] = scaled["spec"]["triggers"]
    named = trigger["metadata"]
    stack = Stack(tmp_path)
    await asyncio.to_thread(stack.nats.start)
    try:
        await asyncio.to_thread(stack.apply_streams)
        # https://keda.sh/docs/latest/scalers/nats-jetstream/
        url = f"{stack.nats.monitoring_url}/jsz?acc={named['account']}&consumers=true&config=true"

        async def seen() -> int:
            return lag(await asyncio.to_thread(loopback.fetch_json, url), named)

        assert await seen() == 0
        bus = await connect(stack.settings("admin"), service="admin")
        try:
            for number in range(3):
                await bus.client.publish(shard_command(run="run", shard=str(number)), b"{}")
            await bus.client.flush()

            async def all_wait() -> bool:
                return await seen() == 3

            await eventually(all_wait, what="KEDA to see three shards")
        finally:
            await bus.close()
    finally:
        await asyncio.to_thread(stack.stop)
