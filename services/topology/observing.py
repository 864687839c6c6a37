"""One cluster as its owner sees it: takes events of the watches, publishes changes to the feed.

One pump takes all that came since its last turn, so that a burst becomes one delta and the time
that a publish takes is used to collect. The graph goes first; rules are evaluated in slices after
it, and give way as soon as something new has come.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any, Protocol

import orjson

from services.chassis.bus.subjects import hash_token
from services.chassis.telemetry import metrics
from services.chassis.telemetry.metrics import Metrics
from services.topology.analysis.engine import Analysis
from services.topology.analysis.findings import Finding
from services.topology.cluster.objects import Change, Key, Object
from services.topology.cluster.state import State
from services.topology.feed.deltas import DRIFT_PART, FINDINGS_PART, INFO_PART, Item, Parts, Topic
from services.topology.graph.graph import Graph
from services.topology.mesh.meshes import istio_name, mesh_id
from services.topology.telemetry.traffic import Flows

_SLICE = 25
_MOST_AT_ONCE = 500
_KEEP_EVERY_S = 600.0
_TOLD_WITHIN_S = 15.0
STARTING = "starting"
"""State of the telemetry until its source was asked for the first time."""
INFO_ID = "cluster"

WATCHING, PARTLY, UNREACHABLE = "watching", "partly", "unreachable"
"""How the cluster's watches are: all go on, some do not, most do not."""
UNWATCHED = "unwatched"
"""Nobody watches the cluster: every replica has as many as it may."""


class Watches(Protocol):
    """How far the watches of a cluster are: versions by the name of the watch."""

    def seen(self) -> Mapping[str, int]:
        """The latest version of an object that each has brought."""

    async def reach(self, seen: Mapping[str, int]) -> None:
        """Waits until they are as far as others are, but not for ever."""


class FeedWriter(Protocol):
    """The feed of an owned cluster; raises `LeaseLost` when the cluster has another owner."""

    @property
    def is_beside(self) -> bool:
        """Whether another worker owns the cluster until `take_over`."""

    async def take_over(self) -> None:
        """Makes the cluster this worker's, up to date with what the former owner has told."""

    def fill(self, parts: Parts) -> None:
        """Adds items to the first checkpoint."""

    async def begin(self) -> None:
        """Publishes the filled items as a checkpoint, in place of all earlier ones."""

    async def publish(self, topic: Topic, parts: Parts) -> None:
        """Stores changed items and passes them on."""

    async def ensure_checkpoint(self) -> None:
        """Stores a checkpoint when the last one is old, or the stream has dropped it."""


def _nobody(_changes: list[Change]) -> None:
    """Who hears of changes where nobody wants to."""


@dataclass(slots=True, kw_only=True)
class Observer:
    """Turns the events of one cluster into changes of its graph, findings and drift."""

    state: State
    graph: Graph
    analysis: Analysis
    metrics: Metrics
    on_change: Callable[[list[Change]], None] = _nobody
    """Hears of every change, before it is published."""
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when this worker tells about the cluster: nothing is asked of others before."""
    _changes: list[Change] = field(default_factory=list)
    _flows: Flows | None = None
    _neighbours: Mapping[str, str] | None = None
    _drift: dict[str, Item | None] = field(default_factory=dict)
    _troubles: dict[str, str] = field(default_factory=dict)
    """What keeps each watch from going on."""
    _refused: dict[str, str] = field(default_factory=dict)
    _watches: set[str] = field(default_factory=set)
    _telemetry: dict[str, Any] = field(default_factory=dict)
    _control_plane: dict[str, Any] = field(default_factory=dict)
    _published_info: bytes = b""
    _since: str = ""
    _came_at: float = 0.0
    """Loop time of the oldest change that was not published yet; 0 without one."""
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    # --- what comes in --------------------------------------------------------------------------

    def listed(self, kind: str, objects: Iterable[Object], *, namespace: str = "") -> None:
        """A whole kind, or all of it in one namespace, as a list has it."""
        self._came(self.state.replace(kind, objects, namespace=namespace or None))

    def put(self, obj: Object) -> None:
        """An object that came or changed."""
        change = self.state.put(obj)
        self._came([change] if change is not None else [])

    def drop(self, key: Key) -> None:
        """An object that went."""
        change = self.state.drop(key)
        self._came([change] if change is not None else [])

    def flowed(self, flows: Flows) -> None:
        """Renewed telemetry."""
        self._flows = flows
        self._news.set()

    def neighbours(self, names: Mapping[str, str]) -> None:
        """What the other clusters of the mesh are called, by Istio's names of them."""
        self._neighbours = names
        self._news.set()

    def drifted(self, parts: Parts) -> None:
        """Drifts that were found or are over."""
        self._drift.update(parts.get(DRIFT_PART, {}))
        self._news.set()

    def trouble(self, watch: str, reason: str) -> None:
        """A watch is interrupted ("" when it goes on)."""
        self._watches.add(watch)
        if reason:
            self._troubles[watch] = reason
        else:
            self._troubles.pop(watch, None)
        self._news.set()

    def refused(self, watch: str, reason: str) -> None:
        """A kind that the credential may not watch ("" when it may now)."""
        if reason:
            self._refused[watch] = reason
        else:
            self._refused.pop(watch, None)
        self._news.set()

    def ended(self, watch: str) -> None:
        """A watch that nobody needs any more; it counts for nothing."""
        self._watches.discard(watch)
        self._troubles.pop(watch, None)
        self._refused.pop(watch, None)
        self._news.set()

    def telemetry(
        self, *, source: str, state: str, detail: str = "", tried: Sequence[str] = ()
    ) -> None:
        """The state of the source of the traffic, and why others that there are do not tell it."""
        told = {"source": source, "state": state, "detail": detail, "tried": list(tried)}
        self._telemetry = told
        self._news.set()

    def control_plane(
        self,
        *,
        state: str,
        detail: str = "",
        planes: Sequence[Mapping[str, str]] = (),
        proxies: Mapping[str, int] | None = None,
    ) -> None:
        """Whether the control planes tell how their proxies stand, and what they do not; which
        there are, and how many proxies stand how."""
        told: dict[str, Any] = {"state": state, "detail": detail}
        if planes:
            told |= {"planes": list(planes), "proxies": dict(proxies or {})}
        self._control_plane = told
        self._news.set()

    def _came(self, changes: list[Change]) -> None:
        if changes:
            self._came_at = self._came_at or asyncio.get_running_loop().time()
            self._changes += changes
            self.on_change(changes)
            self._news.set()

    # --- what goes out --------------------------------------------------------------------------

    async def run(self, writer: FeedWriter) -> None:
        """Publishes while the cluster is this worker's; the present state goes first."""
        self._since = _now()
        self._came_at = 0.0
        await self._fill_graph(writer)
        if writer.is_beside:
            await self._until_told()
            await self._fill_all(writer)
            await writer.take_over()
            await self._fill_all(writer)
        info = self._info()
        self._published_info = orjson.dumps(info)
        writer.fill({INFO_PART: {INFO_ID: info}})
        await writer.begin()
        self.begun.set()
        loop = asyncio.get_running_loop()
        kept = loop.time()
        while True:
            await self._publish(writer)
            if not await self._analyse(writer):
                await self._pause()
            if loop.time() - kept >= _KEEP_EVERY_S:
                kept = loop.time()
                await writer.ensure_checkpoint()

    async def _fill_graph(self, writer: FeedWriter) -> None:
        async for parts in self._graph_changes():
            writer.fill(parts)

    async def _until_told(self) -> None:
        """Until traffic and proxies are known, but not long: both may be missing with the owner."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_TOLD_WITHIN_S):
                while not self._is_told():
                    self._news.clear()
                    await self._news.wait()

    async def _fill_all(self, writer: FeedWriter) -> None:
        """All that another owner tells as well, so that one checkpoint can take its place."""
        await self._fill_graph(writer)
        while self.analysis.is_due:
            writer.fill({FINDINGS_PART: self._evaluated()})
            await asyncio.sleep(0)

    def _is_told(self) -> bool:
        return self._telemetry.get("state", STARTING) != STARTING and bool(self._control_plane)

    async def _pause(self) -> None:
        """Waits for news, but not longer than a checkpoint may be unchecked."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_KEEP_EVERY_S):
                await self._news.wait()

    async def _publish(self, writer: FeedWriter) -> None:
        self._news.clear()
        came_at, self._came_at = self._came_at, 0.0
        is_new = False
        async for parts in self._graph_changes():
            await writer.publish(Topic.GRAPH, parts)
            is_new = True
        if is_new and came_at:
            took_s = asyncio.get_running_loop().time() - came_at
            self.metrics.observe(metrics.TELLING_SECONDS, took_s)
        info = self._info()
        text = orjson.dumps(info)
        if text != self._published_info:
            self._published_info = text
            await writer.publish(Topic.GRAPH, {INFO_PART: {INFO_ID: info}})
        if self._drift:
            drift, self._drift = self._drift, {}
            await writer.publish(Topic.DRIFT, {DRIFT_PART: drift})

    async def _graph_changes(self) -> AsyncIterator[Parts]:
        """The graph's changes from all that came since the last turn.

        A whole cluster comes namespace by namespace, whose objects belong together, and lets the
        process do something else in between.
        """
        changes, self._changes = self._changes, []
        for few in _slices(changes):
            self.analysis.touch(few)
            parts = self.graph.changed(few)
            if parts:
                yield parts
            await asyncio.sleep(0)
        names, self._neighbours = self._neighbours, None
        if names is not None and (parts := self.graph.neighbours(names)):
            yield parts
        flows, self._flows = self._flows, None
        if flows is not None:
            for parts in self.graph.flows_by_parts(flows):
                if parts:
                    yield parts
                await asyncio.sleep(0)

    async def _analyse(self, writer: FeedWriter) -> bool:
        """Evaluates rules that are due until news comes; True when there is more to do."""
        items: dict[str, Item | None] = {}
        while self.analysis.is_due:
            items |= self._evaluated()
            await asyncio.sleep(0)
            if self._news.is_set():
                break
        if items:
            await writer.publish(Topic.FINDINGS, {FINDINGS_PART: items})
        return self._news.is_set()

    def _evaluated(self) -> dict[str, Item | None]:
        """The findings that some rules withdraw and make."""
        news = self.analysis.evaluate(most=_SLICE)
        withdrawn = {finding_id(finding): None for finding in news.withdrawn}
        return withdrawn | {finding_id(finding): finding_item(finding) for finding in news.found}

    def _info(self) -> Item:
        problems = [*self._troubles.values()] or [*self._refused.values()]
        return {
            "cluster": self.state.cluster,
            "name": self.state.name,
            "istio": {"cluster": istio_name(self.state), "mesh": mesh_id(self.state)},
            "state": self.health,
            "detail": problems[0] if problems else "",
            "refused": sorted(self._refused),
            "telemetry": self._telemetry,
            "controlPlane": self._control_plane,
            "since": self._since,
        }

    @property
    def health(self) -> str:
        """How the watches are; a kind that the credential may not watch is no trouble."""
        if not self._troubles:
            return WATCHING
        return UNREACHABLE if 2 * len(self._troubles) > len(self._watches) else PARTLY


def _slices(changes: list[Change]) -> Iterator[list[Change]]:
    if len(changes) > _MOST_AT_ONCE:
        changes.sort(key=lambda change: change.key.namespace)
    for start in range(0, len(changes), _MOST_AT_ONCE):
        yield changes[start : start + _MOST_AT_ONCE]


def finding_id(finding: Finding) -> str:
    """A finding's id: the same one has the same id in every replica."""
    key = finding.object
    words = (finding.code, key.kind, key.namespace, key.name, finding.path, finding.message)
    return hash_token("\0".join(words).encode(), length=26)


def finding_item(finding: Finding) -> Item:
    """A finding as it is published."""
    return {
        "code": finding.code,
        "codes": list(finding.codes),
        "level": finding.level,
        "object": named(finding.object),
        "path": finding.path,
        "message": finding.message,
        "cause": finding.cause,
        "remedy": finding.remedy,
        "since": _now(),
    }


def named(key: Key) -> Mapping[str, Any]:
    """An object's name in an item; people read `kind` without its group."""
    group, _, kind = key.kind.rpartition("/")
    return {"group": group, "kind": kind, "namespace": key.namespace, "name": key.name}


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")
