"""Many clusters on three replicas: when all graphs stand, what it takes, what a death costs."""

from __future__ import annotations

import asyncio
import base64
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from nats.aio.msg import Msg

from services.chassis.bus.connection import Bus
from services.chassis.kube.client import KubeClient
from services.topology.feed import deltas
from tests.bench.crowds import crowd, namespace_of, post, service
from tests.bench.loads import Figure
from tests.bench.measuring import peak_memory_mib, percentile
from tests.bench.scales import Scale
from tests.bench.topologies import SETTLE_S, Timed, noted, watch_ticks
from tests.testbed.clusters import Cluster
from tests.testbed.seeing import Follower, Seeing, seeing
from tests.testbed.stack import Stack
from tests.testbed.stored import cluster_owners, register_clusters

METHOD = (
    "One API server is all clusters: each has a kubeconfig of its own, and so an identity, watches "
    "and a graph of its own; every change happens in each of them at once, so that their deltas "
    "wait for each other. The API server, etcd, NATS, the "
    "three replicas (a process each) and the clients share the machine. `Until all graphs stand` "
    "runs from the registration of the first cluster to the end of the last first checkpoint on "
    "the bus; how many clusters each has is counted then, and they move to be even after that. "
    "A change is a Service that is created or deleted; its latency runs from the moment "
    "at which a bare watch of the measuring process has it to the moment at which the same process "
    "has the node's delta by Server-Sent Events, from one replica, for clusters of all three. A "
    "takeover runs from the kill to the end of the last successor's first checkpoint; a lease "
    "lives for 60 s, and what is beyond that is ours. Memory is each replica's peak (VmHWM)."
)
_REPLICAS = ("topology", "topology-2", "topology-3")
_RATE = 50.0
_FOLLOWED = 12
_WITHIN_S = 600.0


@dataclass(slots=True)
class _Checkpoints:
    """The epochs of which each cluster has told a whole checkpoint, and when the last one came."""

    epochs: dict[str, set[int]] = field(default_factory=dict)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    at: float = 0.0

    async def heard(self, message: Msg) -> None:
        delta = deltas.decoded(message.data, dict(message.headers or {}))
        known = self.epochs.setdefault(delta.cluster, set())
        if delta.epoch not in known:
            known.add(delta.epoch)
            self.at = time.monotonic()
            self.changed.set()

    async def until_later(self, clusters: dict[str, int]) -> float:
        """When each of the clusters has told a checkpoint of a later epoch than this one."""
        async with asyncio.timeout(_WITHIN_S):
            while any(max(self.epochs.get(c, {0})) <= epoch for c, epoch in clusters.items()):
                self.changed.clear()
                await self.changed.wait()
        return self.at


async def figures(folder: Path, *, scale: Scale) -> list[Figure]:
    """A fleet, its changes, and the death of one replica."""
    of = f"{scale.clusters} clusters of {scale.fleet_services} services"
    print(f"bench: {of}", flush=True)
    with (
        Cluster(folder / "cluster") as cluster,
        Stack(folder / "stack", services=("topology",)) as stack,
    ):
        for name in _REPLICAS[1:]:
            stack.add("topology", name=name)
            await asyncio.to_thread(stack.wait_ready, name)
        async with (
            crowd(cluster, 0, scale.fleet_services) as client,
            seeing(stack) as seen,
            _told(seen.bus) as told,
        ):
            began = time.monotonic()
            identities = [
                _identity(cluster.kubeconfig_text, number) for number in range(scale.clusters)
            ]
            tokens = await register_clusters(stack, identities)
            stood = await told.until_later(dict.fromkeys(tokens, 0)) - began
            loads = Counter((await cluster_owners(stack, tokens)).values())
            print(f"bench: all stand after {stood:.1f} s, {sorted(loads.values())}", flush=True)
            timed = await _changed(
                seen, client, tokens, count=scale.fleet_changes, rate=_RATE / scale.clusters
            )
            memory = [peak_memory_mib(stack.processes[name].pid) for name in _REPLICAS]
            print(f"bench: peaks of {', '.join(f'{mib:.0f}' for mib in memory)} MiB", flush=True)
            taken, orphans = await _killed(stack, told, tokens)
            heirs = Counter((await cluster_owners(stack, tokens)).values())
    latencies = [latency for one in timed for latency in one.latencies()]
    watched = sum(len(one.watched) for one in timed)
    return [
        Figure(name=f"{of}: until all graphs stand", value=stood, unit="s"),
        Figure(name="clusters of the replica with the fewest", value=min(loads.values()), unit=""),
        Figure(name="clusters of the replica with the most", value=max(loads.values()), unit=""),
        *(
            Figure(name=f"memory of replica {number}, peak", value=mib, unit="MiB")
            for number, mib in enumerate(memory, start=1)
        ),
        Figure(
            name=f"{_RATE:.0f} changes/s over all: watch to client, p50",
            value=percentile(latencies, 50) * 1000,
            unit="ms",
        ),
        Figure(
            name=f"{_RATE:.0f} changes/s over all: watch to client, p99",
            value=percentile(latencies, 99) * 1000,
            unit="ms",
        ),
        Figure(
            name="changes that came to the client late or never",
            value=float(watched - len(latencies)),
            unit="",
        ),
        Figure(name=f"takeover of {orphans} clusters after a kill", value=taken, unit="s"),
        Figure(name="clusters of a replica after it", value=max(heirs.values()), unit=""),
    ]


@asynccontextmanager
async def _told(bus: Bus) -> AsyncIterator[_Checkpoints]:
    told = _Checkpoints()
    subscription = await bus.client.subscribe("live.evt.topology.*.checkpoint.end", cb=told.heard)
    await bus.client.flush()
    yield told
    await subscription.unsubscribe()


def _identity(text: str, number: int) -> str:
    """A kubeconfig for the same server as another cluster: what it is known by is its address and
    its certificate authority, beside which a file may hold any lines."""
    document = yaml.safe_load(text)
    entry = document["clusters"][0]["cluster"]
    authority = base64.b64decode(entry["certificate-authority-data"])
    authority += f"\n# cluster {number}\n".encode()
    entry["certificate-authority-data"] = base64.b64encode(authority).decode()
    return yaml.safe_dump(document)


async def _changed(
    seen: Seeing, client: KubeClient, tokens: list[str], *, count: int, rate: float
) -> list[Timed]:
    """Changes in all clusters at once, seen by a bare watch and by clients of some clusters."""
    step = max(1, len(tokens) // _FOLLOWED)
    followed = tokens[::step][:_FOLLOWED]
    watched, timed = Timed(), [Timed() for _ in followed]
    path = f"/api/v1/namespaces/{namespace_of(0)}/services"
    watch = asyncio.create_task(watch_ticks(client, path, watched), name="bare-watch")
    async with AsyncExitStack() as opened:
        followers = [
            await opened.enter_async_context(seen.following(token, view="service"))
            for token in followed
        ]
        for follower, one in zip(followers, timed, strict=True):
            await follower.until(lambda f: f.info)
            names: dict[str, str] = {}
            follower.on_event = partial(_noted, names=names, timed=one)
        # The first evaluation of all rules is over before the measurement begins.
        await asyncio.sleep(SETTLE_S)
        began = time.monotonic()
        for number in range(count):
            await asyncio.sleep(max(0.0, began + number / rate - time.monotonic()))
            name = f"tick-{number // 2}"
            if number % 2:
                await client.request("DELETE", f"{path}/{name}")
            else:
                await post(client, path, service(name, {"app": name}))
        for follower, one in zip(followers, timed, strict=True):
            try:
                await follower.until(partial(_has_all, timed=one, count=count), within_s=10)
            except TimeoutError:
                print(f"bench: {count - len(one.shown)} changes are missing", flush=True)
    watch.cancel()
    await asyncio.gather(watch, return_exceptions=True)
    for one in timed:
        one.watched.update(watched.watched)
    return timed


def _noted(_event: str, data: Any, *, names: dict[str, str], timed: Timed) -> None:
    noted(data, names, timed)


def _has_all(_follower: Follower, *, timed: Timed, count: int) -> bool:
    return len(timed.shown) >= count


async def _killed(stack: Stack, told: _Checkpoints, tokens: list[str]) -> tuple[float, int]:
    """Seconds until the clusters of a replica that was killed are told about again, and how many
    they were."""
    owners = await cluster_owners(stack, tokens)
    dead = _REPLICAS[-1]
    orphans = {token: max(told.epochs[token]) for token, worker in owners.items() if worker == dead}
    stack.processes[dead].kill()
    began = time.monotonic()
    return await told.until_later(orphans) - began, len(orphans)
