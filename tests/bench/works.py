"""Works of the services in one process, without a bed: what `make profile` looks into.

`python -m tests.bench.works NAME SECONDS` prepares one, says `ready`, waits for a line, repeats the
work for that long, and tells how much of the processor each turn took. A profiler that comes in
between sees the work alone.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from services.chassis.memory import collect_seldom, keep_started
from services.chassis.reading.jsons import read_json
from services.chassis.telemetry.metrics import Metrics
from services.topology.analysis.engine import Analysis
from services.topology.analysis.rules import RULES
from services.topology.cluster import kinds
from services.topology.cluster.objects import Object
from services.topology.cluster.reading import Reader
from services.topology.cluster.state import State
from services.topology.feed.deltas import Parts, Topic
from services.topology.feed.views import ClusterView
from services.topology.graph.graph import Graph
from services.topology.observing import Observer
from tests.bench import crowds, loads, translations
from tests.bench.measuring import peak_memory_mib

_PAGE = 500
"""Objects of one answer, as the client asks for them."""
SERVICES, LABELLED = 5000, 1000


@dataclass(slots=True)
class Turns:
    """How long the parts of a work held the loop, where that counts."""

    held_s: list[float] = field(default_factory=list)


Turn = Callable[[Turns], Awaitable[None]]
"""The work, done once."""


@dataclass(frozen=True, slots=True)
class Work:
    """One work; size 1 is the one of the table, 3 and 10 tell how it grows."""

    about: str
    prepare: Callable[[float], Awaitable[Turn]]
    sizes: tuple[float, ...] = (1, 3, 10)
    """At which its growth is told."""


# --- the translator and perf ---------------------------------------------------------------------


async def _smi(size: float) -> Turn:
    work = await translations.translating(int(size * translations.SMI_OBJECTS))

    async def turn(_turns: Turns) -> None:
        await work()

    return turn


async def _merge(size: float) -> Turn:
    work = loads.merging(int(size * loads.SHARDS))

    async def turn(_turns: Turns) -> None:
        work()

    return turn


# --- the graph -----------------------------------------------------------------------------------


def crowd_lists(services: int, *, per_namespace: int) -> dict[str, list[bytes]]:
    """The pages in which an API server tells of a crowd, by kind."""
    found: dict[str, list[dict[str, Any]]] = {
        kind: []
        for kind in (kinds.NAMESPACE, kinds.SERVICE, kinds.DEPLOYMENT, kinds.ENDPOINTS, kinds.POD)
    }
    for number in range(services):
        space = f"crowd-{number // per_namespace}"
        if number % per_namespace == 0:
            found[kinds.NAMESPACE].append({"metadata": {"name": space}})
        for kind, obj in _application(number):
            obj["metadata"] |= {"namespace": space, "uid": f"{kind}-{len(found[kind])}"}
            found[kind].append(obj)
    return {
        kind: [
            json.dumps({"items": objects[first : first + _PAGE]}).encode()
            for first in range(0, len(objects), _PAGE)
        ]
        for kind, objects in found.items()
    }


def _application(number: int) -> Iterable[tuple[str, dict[str, Any]]]:
    name = f"app-{number}"
    labels = {"app": name, "version": "v1"}
    yield kinds.SERVICE, crowds.service(name, labels)
    replicas = {"replicas": crowds.PODS_EACH, "readyReplicas": crowds.PODS_EACH}
    yield kinds.DEPLOYMENT, {**crowds.deployment(name, labels), "status": replicas}
    yield kinds.ENDPOINTS, crowds.endpoints(name, number)
    ready = {"type": "Ready", "status": "True"}
    status = {"phase": "Running", "podIP": "10.0.0.1", "conditions": [ready]}
    for index in range(crowds.PODS_EACH):
        pod = crowds.pod(crowds.pod_name(name, index), name, labels)
        yield kinds.POD, {**pod, "status": status}


@dataclass(slots=True)
class _Told:
    """Takes a feed as a replica does, without a bus; `is_complete` once there was a checkpoint
    and no rule is due."""

    analysis: Analysis
    view: ClusterView
    complete: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def is_beside(self) -> bool:
        return False

    async def take_over(self) -> None:
        """Nobody else owns the cluster."""

    def fill(self, parts: Parts) -> None:
        self.view.fill(parts)

    async def begin(self) -> None:
        self._check()

    async def publish(self, topic: Topic, parts: Parts) -> None:
        self.fill(parts)
        self._check()

    async def ensure_checkpoint(self) -> None:
        """There is one."""

    def _check(self) -> None:
        if not self.analysis.is_due:
            self.complete.set()


def _observer() -> Observer:
    state = State("c1", "crowd")
    return Observer(
        state=state, graph=Graph(state), analysis=Analysis(state, RULES), metrics=Metrics()
    )


def _listed(observer: Observer, lists: dict[str, list[bytes]]) -> None:
    reader = Reader()
    for kind, pages in lists.items():
        found: list[Object] = []
        for page in pages:
            found += [reader.read(kind, obj) for obj in read_json(page)["items"]]
        observer.listed(kind, found)


async def _graph(size: float) -> Turn:
    lists = crowd_lists(int(size * SERVICES), per_namespace=crowds.PER_NAMESPACE)

    async def turn(turns: Turns) -> None:
        observer = _observer()
        _listed(observer, lists)
        told = _Told(observer.analysis, ClusterView("c1", epoch=1))
        running = asyncio.create_task(observer.run(told), name="observer")
        await _held(told.complete, turns.held_s)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    return turn


async def _label(size: float) -> Turn:
    count = int(size * LABELLED)
    observer, reader = _observer(), Reader()
    _listed(observer, crowd_lists(count, per_namespace=count))
    told = _Told(observer.analysis, ClusterView("c1", epoch=1))
    running = asyncio.create_task(observer.run(told), name="observer")
    await told.complete.wait()
    is_labelled = False

    async def turn(turns: Turns) -> None:
        nonlocal is_labelled
        is_labelled = not is_labelled
        labels = {"istio-injection": "enabled"} if is_labelled else {}
        obj = {"metadata": {"name": "crowd-0", "labels": labels}}
        told.complete.clear()
        observer.put(reader.read(kinds.NAMESPACE, obj))
        await _held(told.complete, turns.held_s)
        assert not running.done()

    return turn


async def _held(done: asyncio.Event, held_s: list[float]) -> None:
    """How long everybody else had to wait for the loop, until it is done."""
    while not done.is_set():
        began = time.process_time()
        await asyncio.sleep(0)
        held_s.append(time.process_time() - began)


WORKS = {
    "smi": Work(
        f"{translations.SMI_OBJECTS} SMI objects: read, translated, validated",
        _smi,
        # One text may have 5 000 documents.
        sizes=(1, 3, 5),
    ),
    "merge": Work(f"{loads.SHARDS} shards of {loads.INTERVALS} intervals: merged", _merge),
    "graph": Work(
        f"{SERVICES} services, {SERVICES * crowds.PODS_EACH} pods: from the API server's lists "
        "to the graph in four views and all findings",
        _graph,
    ),
    "label": Work(f"the label of a namespace with {LABELLED} services: changed", _label),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What was measured of one work."""

    turns: int
    cpu_s: float
    """Of a turn, the median."""
    held_s: float
    """The longest that the work held the loop; 0 where it is not asked."""
    peak_mib: float


async def measured(work: Work, *, size: float, seconds: float) -> Measured:
    """Repeats a work until it has used so many seconds of the processor."""
    collect_seldom()
    keep_started()
    turn = await work.prepare(size)
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    took: list[float] = []
    turns = Turns()
    began = time.process_time()
    while not took or time.process_time() - began < seconds:
        before = time.process_time()
        await turn(turns)
        took.append(time.process_time() - before)
    return Measured(
        turns=len(took),
        cpu_s=statistics.median(took),
        held_s=max(turns.held_s, default=0.0),
        peak_mib=peak_memory_mib("self"),
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.works", description=__doc__)
    parser.add_argument("work", choices=WORKS)
    parser.add_argument("seconds", type=float)
    parser.add_argument("--size", type=float, default=1)
    given = parser.parse_args()
    found = asyncio.run(measured(WORKS[given.work], size=given.size, seconds=given.seconds))
    print(json.dumps({name: getattr(found, name) for name in Measured.__slots__}))


if __name__ == "__main__":
    main()
