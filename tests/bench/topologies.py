"""The live graph: how soon it is there, how soon a change is, and what it takes."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
from nats.aio.msg import Msg

from services.chassis.bus.connection import connect
from services.chassis.bus.credentials import Sealer
from services.chassis.bus.records import Bucket, Records
from services.chassis.kube.client import KubeClient
from services.chassis.kube.kubeconfigs import parse_kubeconfig
from services.chassis.kube.watching import ChangeType, watched
from services.chassis.messages import ClusterRecord
from tests.bench.crowds import crowd, namespace_of, post, service
from tests.bench.loads import Figure
from tests.bench.measuring import peak_memory_mib, percentile
from tests.bench.scales import Scale
from tests.testbed.clusters import Cluster
from tests.testbed.meshery import Meshery
from tests.testbed.seeing import Seeing, seeing
from tests.testbed.stack import Stack

METHOD = (
    "The API server, etcd, NATS, the service and the clients share the machine. `Registered to "
    "graph` runs from the registration of the cluster to the end of the first checkpoint on the "
    "bus: a new connection, discovery, all lists, the graph in four views. A change is a Service "
    "that is created or deleted; its latency runs from the moment at which a bare watch of the "
    "measuring process has it to the moment at which the same process has the node's delta by "
    "Server-Sent Events. Memory is the service's peak (VmHWM)."
)
_RATE = 50.0
_LARGEST = 5000
_GRAPH_S = {100: 0.1, _LARGEST: 4.0}
"""Seconds within which a graph of so many services should stand."""
SETTLE_S = 2.0
_ALIVE = 20


@dataclass(slots=True)
class Timed:
    """When a watch and a client had each change."""

    watched: dict[str, float] = field(default_factory=dict)
    shown: dict[str, float] = field(default_factory=dict)

    def latencies(self) -> list[float]:
        return [self.shown[name] - at for name, at in self.watched.items() if name in self.shown]


async def figures(folder: Path, *, scale: Scale) -> list[Figure]:
    """For each number of services, on one cluster that grows."""
    found: list[Figure] = []
    with Cluster(folder / "cluster") as cluster, Stack(folder / "stack") as stack:
        grown = 0
        for size in scale.services:
            async with crowd(cluster, grown, size) as client, seeing(stack) as seen:
                grown = size
                found += await _of_size(
                    cluster, stack, seen, client, size=size, scale=scale, is_first=not found
                )
    return found


async def _of_size(
    cluster: Cluster,
    stack: Stack,
    seen: Seeing,
    client: KubeClient,
    *,
    size: int,
    scale: Scale,
    is_first: bool,
) -> list[Figure]:
    print(f"bench: {size} services", flush=True)
    token = parse_kubeconfig(cluster.kubeconfig_text).cluster
    stack.processes["topology"].stop()
    stack.processes["topology"].start()
    await asyncio.to_thread(stack.wait_ready, "topology")
    drifted: list[Figure] = []
    async with _registered(cluster, stack, seen) as took_s:
        timed = await _changed(seen, client, token, count=scale.changes)
        if is_first:
            drifted = await _drifted(cluster, stack, seen, client, token, count=scale.drifts)
        memory = peak_memory_mib(stack.processes["topology"].pid)
    latencies = timed.latencies()
    of = f"{size} services"
    return [
        Figure(
            name=f"{of}: registered to graph",
            value=took_s,
            unit="s",
            bar=_GRAPH_S.get(size),
        ),
        Figure(
            name=f"{of}, {_RATE:.0f} changes/s: watch to client, p50",
            value=percentile(latencies, 50) * 1000,
            unit="ms",
            bar=2 if size == _LARGEST else None,
        ),
        Figure(
            name=f"{of}, {_RATE:.0f} changes/s: watch to client, p99",
            value=percentile(latencies, 99) * 1000,
            unit="ms",
            bar=6 if size == _LARGEST else None,
        ),
        Figure(
            name=f"{of}: changes that came to the client late or never",
            value=float(len(timed.watched) - len(latencies)),
            unit="",
        ),
        Figure(
            name=f"{of}: memory of the service, peak",
            value=memory,
            unit="MiB",
            bar=200 if size == _LARGEST else None,
        ),
        *drifted,
    ]


@asynccontextmanager
async def _registered(cluster: Cluster, stack: Stack, seen: Seeing) -> AsyncIterator[float]:
    """The cluster registered as lifecycle does it; seconds until its graph was on the bus."""
    text = cluster.kubeconfig_text
    config = parse_kubeconfig(text)
    token = config.cluster
    complete = asyncio.Event()

    async def heard(_message: Msg) -> None:
        complete.set()

    subscription = await seen.bus.client.subscribe(
        f"live.evt.topology.{token}.checkpoint.end", cb=heard
    )
    await seen.bus.client.flush()
    bus = await connect(stack.settings("lifecycle"), service="lifecycle")
    try:
        await Sealer(Bucket(bus, "credentials")).register(token, text)
        record = ClusterRecord(cluster=token, name="bench", server=config.server)
        clusters = Records(Bucket(bus, "clusters"), ClusterRecord)
        began = time.monotonic()
        await clusters.put(token, record)
        async with asyncio.timeout(120):
            await complete.wait()
        took_s = time.monotonic() - began
        await subscription.unsubscribe()
        yield took_s
        await clusters.bucket.delete(token)
    finally:
        await bus.close()


async def _changed(seen: Seeing, client: KubeClient, token: str, *, count: int) -> Timed:
    """Services that come and go at a constant rate, seen by a bare watch and by a client."""
    timed = Timed()
    space = namespace_of(0)
    path = f"/api/v1/namespaces/{space}/services"
    watch = asyncio.create_task(watch_ticks(client, path, timed), name="bare-watch")
    async with seen.following(token, view="service") as follower:
        await follower.until(lambda f: f.info)
        # The first evaluation of all rules is over before the measurement begins.
        await asyncio.sleep(SETTLE_S)
        names: dict[str, str] = {}
        follower.on_event = lambda name, data: noted(data, names, timed)
        began = time.monotonic()
        for number in range(count):
            await asyncio.sleep(max(0.0, began + number / _RATE - time.monotonic()))
            # Each lives for twenty changes: what came and went within one delta would not be told.
            turn, index = divmod(number, _ALIVE)
            name = f"tick-{turn // 2}-{index}"
            if turn % 2:
                await client.request("DELETE", f"{path}/{name}")
            else:
                await post(client, path, service(name, {"app": name}))
        try:
            await follower.until(lambda f: len(timed.shown) >= count, within_s=10)
        except TimeoutError:
            print(f"bench: {count - len(timed.shown)} changes are missing", flush=True)
    watch.cancel()
    await asyncio.gather(watch, return_exceptions=True)
    return timed


async def watch_ticks(client: KubeClient, path: str, timed: Timed) -> None:
    async with aclosing(watched(client, path)) as changes:
        async for change in changes:
            if change.type is ChangeType.LISTED:
                continue
            name = change.obj["metadata"]["name"]
            if name.startswith("tick-"):
                sign = "-" if change.type is ChangeType.DELETED else "+"
                timed.watched.setdefault(sign + name, time.monotonic())


def noted(data: Any, names: dict[str, str], timed: Timed) -> None:
    """The moment at which a client has a node, and the one at which it is rid of it."""
    now = time.monotonic()
    nodes = data.get("nodes") or {}
    if not isinstance(nodes, dict):
        # A snapshot, as after a move: what it has is known from here on.
        nodes = {node["id"]: node for node in nodes}
    for ident, node in nodes.items():
        if node is None:
            if ident in names:
                timed.shown.setdefault("-" + names[ident], now)
        elif str(node.get("service", "")).startswith("tick-"):
            names[ident] = node["service"]
            timed.shown.setdefault("+" + node["service"], now)


async def _drifted(
    cluster: Cluster, stack: Stack, seen: Seeing, client: KubeClient, token: str, *, count: int
) -> list[Figure]:
    """Edits of applied objects by another manager: when a client hears, when all is as it was."""
    async with Meshery(stack.gateway_address, [cluster.kubeconfig_text]).connected() as meshery:
        for number in range(count):
            final = await meshery.run("custom", body=json.dumps(_intended(number)))
            assert not final.failed, final.event
    heard: dict[str, float] = {}
    edited: dict[str, float] = {}
    restored: dict[str, float] = {}
    async with seen.following(token) as follower:
        await follower.until(lambda f: f.info)

        def note(_name: str, data: Any) -> None:
            for item in (data.get("drift") or {}).values():
                if item is not None:
                    heard.setdefault(item["object"]["name"], time.monotonic())

        follower.on_event = note
        watch = asyncio.create_task(_watch_edits(client, edited, restored), name="bare-watch")
        for number in range(count):
            name = f"drift-{number}"
            await client.request(
                "PATCH",
                f"/api/v1/namespaces/default/configmaps/{name}",
                query={"fieldManager": "somebody"},
                body=orjson.dumps({"data": {"colour": "red"}}),
                content_type="application/merge-patch+json",
            )
            async with asyncio.timeout(20):
                while name not in restored:
                    await asyncio.sleep(0.005)
        watch.cancel()
        await asyncio.gather(watch, return_exceptions=True)
    told = [heard[name] - at for name, at in edited.items()]
    healed = [restored[name] - at for name, at in edited.items()]
    return [
        Figure(
            name="an edit of an applied object: watch to drift at the client, p50",
            value=percentile(told, 50) * 1000,
            unit="ms",
            bar=25,
        ),
        Figure(
            name="an edit of an applied object: watch to drift at the client, longest",
            value=max(told) * 1000,
            unit="ms",
            bar=100,
        ),
        Figure(
            name="an edit of an applied object: watch to healed in the cluster, longest",
            value=max(healed),
            unit="s",
            bar=0.3,
        ),
    ]


def _intended(number: int) -> dict[str, Any]:
    metadata = {
        "name": f"drift-{number}",
        "namespace": "default",
        "annotations": {"meshbus.io/drift": "heal"},
    }
    data = {"colour": "green"}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


async def _watch_edits(
    client: KubeClient, edited: dict[str, float], restored: dict[str, float]
) -> None:
    async with aclosing(watched(client, "/api/v1/namespaces/default/configmaps")) as changes:
        async for change in changes:
            if change.type is not ChangeType.MODIFIED:
                continue
            name, data = change.obj["metadata"]["name"], change.obj.get("data") or {}
            if name.startswith("drift-"):
                times = edited if data.get("colour") == "red" else restored
                times.setdefault(name, time.monotonic())
