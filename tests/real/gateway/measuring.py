"""How fast the gateway answers and tells, and how much it holds:
`python -m tests.real.gateway.measuring`.

A real gateway process, a real NATS with `sync_interval: always`, and this process as Meshery.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.real.gateway.rig import Rig, heard, kubeconfig, opened, rigged
from tests.real.gateway.test_serving import rss_kb
from tests.testbed.generations import GenerationClient

CALLS = 2000
EVENTS = 1000
# Nobody carries the commands out, so all of them wait.
QUOTAS = {
    "MESHBUS_GATEWAY_QUOTA_COMMANDS": "1000000",
    "MESHBUS_GATEWAY_QUOTA_CLUSTERS": "1000000",
    "MESHBUS_GATEWAY_QUOTA_BYTES": str(1 << 40),
}


def report(what: str, seconds: Sequence[float]) -> None:
    ordered = sorted(seconds)
    p50, p99 = ordered[len(ordered) // 2], ordered[int(len(ordered) * 0.99)]
    print(f"{what:44} p50 {p50 * 1000:6.2f} ms   p99 {p99 * 1000:6.2f} ms   n {len(ordered)}")


async def timed_call(client: GenerationClient, name: str, fields: Mapping[str, object]) -> float:
    began = time.perf_counter()
    await client.call(name, fields)
    return time.perf_counter() - began


async def accepted(rig: Rig, *, clusters: int, at_once: int, calls: int = CALLS) -> list[float]:
    """Times of ApplyOperation calls that are accepted."""
    texts = [kubeconfig(f"measured-{number}") for number in range(clusters)]
    async with rig.client("F") as client:

        async def one() -> float:
            fields = {
                "opName": "custom",
                "operation_id": str(uuid.uuid4()),
                "custom_body": "kind: ConfigMap",
                "kube_configs": texts,
            }
            return await timed_call(client, "ApplyOperation", fields)

        async def row() -> list[float]:
            return [await one() for _ in range(calls // at_once)]

        await one()
        return [
            t for times in await asyncio.gather(*(row() for _ in range(at_once))) for t in times
        ]


async def told(rig: Rig, *, streams: int) -> list[float]:
    """Times from before an event is published until a client has read it."""
    clients = [rig.client("F") for _ in range(min(streams, 10))]
    open_streams = [await opened(clients[n % len(clients)]) for n in range(streams)]
    others = [asyncio.ensure_future(heard(s, EVENTS)) for s in open_streams[1:]]
    times = []
    for number in range(1, EVENTS + 1):
        began = time.perf_counter()
        published = asyncio.ensure_future(rig.tell("measured", number + 10_000 * streams))
        await heard(open_streams[0], 1)
        times.append(time.perf_counter() - began)
        await published
    await asyncio.gather(*others)
    for client in clients:
        await client.close()
    return times


async def drained(rig: Rig) -> None:
    """Takes away the notices of waits, which no client has read yet."""
    async with rig.client("F") as client:
        stream = await opened(client)
        await rig.tell("drained", int(time.time()))
        while (await heard(stream, 1))[0].operation_id != "drained":
            pass


async def throughput(rig: Rig) -> None:
    async with rig.client("F") as client:
        stream = await opened(client)
        began = time.perf_counter()
        await rig.tell_many("throughput", range(1, 5001))
        await heard(stream, 5000)
        print(f"{'events to one stream':44} {5000 / (time.perf_counter() - began):6.0f} /s")


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with rigged(Path(folder), QUOTAS) as rig:
            print(f"{'memory, idle':44} {rss_kb(rig.gateway_pid) // 1024} MB")
            async with rig.client("F") as client:
                names = [await timed_call(client, "MeshName", {}) for _ in range(CALLS)]
            report("MeshName", names)
            # A waiting worker, so that no notices of waits are written meanwhile.
            inbox = rig.bus.client.new_inbox()
            pull = b'{"batch": 1, "expires": 3600000000000}'
            await rig.bus.client.publish(
                "$JS.API.CONSUMER.MSG.NEXT.CMD.lifecycle", pull, reply=inbox
            )
            report("ApplyOperation, one cluster", await accepted(rig, clusters=1, at_once=1))
            report(
                "ApplyOperation, three clusters",
                await accepted(rig, clusters=3, at_once=1, calls=500),
            )
            report("ApplyOperation, 16 at once", await accepted(rig, clusters=1, at_once=16))
            await drained(rig)
            report("event to one stream", await told(rig, streams=1))
            report("event to the first of 100 streams", await told(rig, streams=100))
            await throughput(rig)
            print(f"{'memory, after all that':44} {rss_kb(rig.gateway_pid) // 1024} MB")


if __name__ == "__main__":
    asyncio.run(main())
