"""Watching one cluster: the kinds of its topology, those defined later, and those of intents.

Each kind has a task of its own; a kind that the credential may not read, or that is not served any
more, leaves the others alone. Nothing is kept here: what an event says goes to the observer as a
record, and to the drift as it is when there is an intent for it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial
from typing import TypeAlias

import structlog

from services.chassis.errors import (
    ClusterForbidden,
    ClusterUnreachable,
    InternalError,
    KindUnknown,
    MeshbusError,
    ObjectNotFound,
)
from services.chassis.kube.client import KubeClient
from services.chassis.kube.objects import KubeObject
from services.chassis.kube.resources import Resource, Resources
from services.chassis.kube.watching import ChangeType, watched
from services.chassis.messages.facts import CONFIGURATION_GROUPS
from services.topology.cluster import kinds
from services.topology.cluster.objects import Key, Object
from services.topology.cluster.reading import Reader
from services.topology.drift.watching import Drifts
from services.topology.mesh.meshes import SYSTEM_NAMESPACE
from services.topology.observing import UNREACHABLE, Observer

_DEFINITION = "apiextensions.k8s.io/CustomResourceDefinition"
_SETTLE_S = 0.2
_SOUGHT_S = 0.02
"""An operation's intents come one after the other."""
_RETRY_S = 2.0
_LONGEST_RETRY_S = 60.0
_SURVEY_S = 2.0
_FIRST_LISTS_S = 20.0
_DISCOVERY_LAG_S = 10.0
_REACH_WITHIN_S = 10.0
_DISCOVERY = "discovery"
"""Stands beside the watches among what troubles a cluster."""
_MOST_NAMESPACES = 5
"""Of more namespaces than that a kind is watched in all: each watch holds a connection."""
_MESH_SETTINGS = "istio"
"""Names of the ConfigMaps that say how a mesh is set up begin so."""
_ISTIOD = "istiod"
_APP_NAME = "app.kubernetes.io/name"


@dataclass(frozen=True, slots=True, order=True)
class Watch:
    """One collection: a kind, in the cluster or in one namespace. `shows` is whether the graph and
    the analysis get it; the drift looks at everything."""

    kind: str
    namespace: str = ""
    shows: bool = True

    def __str__(self) -> str:
        return f"{self.kind} in {self.namespace}" if self.namespace else self.kind


_Wanted: TypeAlias = AsyncIterator[tuple[Watch, Resource]]

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Seen:
    """An event's object as a record, and as it came when it has an intent."""

    key: Key
    record: Object | None
    raw: KubeObject | None
    version: int


@dataclass(slots=True, kw_only=True)
class ClusterWatch:
    """All watches of one cluster."""

    client: KubeClient
    resources: Resources
    observer: Observer
    drifts: Drifts
    on_definitions: Callable[[], None] = lambda: None
    """Called when the kinds that the cluster serves may have changed."""
    reader: Reader = field(default_factory=Reader)
    _tasks: dict[Watch, asyncio.Task[None]] = field(default_factory=dict)
    _waiting: set[Watch] = field(default_factory=set)
    """Watches whose first list has not come."""
    _begun: asyncio.Event = field(default_factory=asyncio.Event)
    """Some kind was listed, or could not be."""
    _listed: set[Watch] = field(default_factory=set)
    """Watches that were allowed before: a refusal of these may be one of a server that starts."""
    _complete: asyncio.Event = field(default_factory=asyncio.Event)
    _definitions_changed: asyncio.Event = field(default_factory=asyncio.Event)
    _due: asyncio.Event = field(default_factory=asyncio.Event)
    """Definitions have changed, or an intent's kind is not watched where its object is."""
    _discover_until: float = 0.0
    """Loop time up to which discovery may not know yet what definitions say."""
    _is_troubled: bool = False
    """Whether the last survey failed."""
    _seen: dict[Watch, int] = field(default_factory=dict)
    """The latest version of an object that a watch has brought."""
    _reached: dict[Watch, int] = field(default_factory=dict)
    """The same with the versions of whole lists, after which nothing older comes."""
    _moved: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> None:
        """Watches until it is cancelled."""
        self.drifts.on_tracked = self._sought
        try:
            await self._survey(first=True)
            while True:
                await self._until_due()
                await self._surveyed()
        finally:
            for task in self._tasks.values():
                task.cancel()
            await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def first_lists(self) -> None:
        """Until all has been listed once or was refused, but not long for the sake of a few."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_FIRST_LISTS_S):
                await self._complete.wait()
        await self._begun.wait()

    # --- beside another owner -------------------------------------------------------------------

    async def all_lists(self) -> None:
        """Until everything has been listed once, however long; raises `ClusterUnreachable` where
        most of it could not be."""
        await self._complete.wait()
        if self.observer.health == UNREACHABLE:
            raise ClusterUnreachable("most of the cluster's collections cannot be listed from here")

    def seen(self) -> Mapping[str, int]:
        return {str(watch): version for watch, version in self._seen.items() if watch.shows}

    async def reach(self, seen: Mapping[str, int]) -> None:
        """Kubernetes lets versions of one collection be compared; all that is seen there comes here
        too, since each watch goes on from its own list."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_REACH_WITHIN_S):
                while any(self._reached.get(w, 0) < seen.get(str(w), 0) for w in self._tasks):
                    self._moved.clear()
                    await self._moved.wait()
                return
        log.warning("watches_behind", cluster=self.observer.state.cluster)

    def _came_to(self, watch: Watch, version: int) -> None:
        self._reached[watch] = max(self._reached.get(watch, 0), version)
        self._moved.set()

    # --- which kinds ----------------------------------------------------------------------------

    async def _until_due(self) -> None:
        """Until definitions have changed, an intent asks for another kind, or some time is over."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_SURVEY_S):
                await self._due.wait()
        self._due.clear()
        # A manifest of definitions comes as many events.
        await asyncio.sleep(_SETTLE_S if self._definitions_changed.is_set() else _SOUGHT_S)

    def _sought(self, key: Key) -> None:
        """Watches an object's kind at once: what is edited before that is seen late."""
        places = {
            Watch(key.kind, space, shows)
            for space in ("", key.namespace)
            for shows in (True, False)
        }
        if self._tasks.keys().isdisjoint(places):
            self._due.set()

    def _redefined(self) -> None:
        self._definitions_changed.set()
        self._due.set()

    async def _surveyed(self) -> None:
        """Surveys; on a failure the present watches go on."""
        try:
            await self._survey()
        except MeshbusError as error:
            self.observer.trouble(_DISCOVERY, error.summary)
            self._is_troubled = True
            await asyncio.sleep(_RETRY_S)
            # Whatever was to be found out still is.
            self._redefined()
            return
        if self._is_troubled:
            self._is_troubled = False
            self.observer.trouble(_DISCOVERY, "")

    async def _survey(self, *, first: bool = False) -> None:
        """Starts watches for kinds that are served and wanted, and ends those of other kinds."""
        now = asyncio.get_running_loop().time()
        if first or self._definitions_changed.is_set():
            self._definitions_changed.clear()
            self._discover_until = now + _DISCOVERY_LAG_S
        if now <= self._discover_until:
            await self.resources.refresh()
        wanted = {watch: resource async for watch, resource in self._wanted()}
        for watch in self._tasks.keys() - wanted.keys():
            await self._end(watch)
        for watch, resource in wanted.items():
            task = self._tasks.get(watch)
            if task is None or task.done():
                self._waiting.add(watch)
                self._tasks[watch] = asyncio.create_task(
                    self._watch(watch, resource), name=f"watch-{watch}"
                )
        self._check_complete()
        if now <= self._discover_until:
            self.on_definitions()

    async def _wanted(self) -> _Wanted:
        for kind in (*kinds.ALWAYS, _DEFINITION):
            if (resource := await self._resource(kind)) is not None:
                yield Watch(kind, shows=kind != _DEFINITION), resource
        for group in CONFIGURATION_GROUPS:
            names = {resource.kind for resource in await self.resources.of_group(group)}
            for name in sorted(names):
                if (resource := await self._resource(f"{group}/{name}")) is not None:
                    yield Watch(f"{group}/{name}"), resource
        if (resource := await self._resource(kinds.CONFIG_MAP)) is not None:
            for namespace in sorted(self._system_namespaces()):
                yield Watch(kinds.CONFIG_MAP, namespace), resource
        async for found in self._of_intents():
            yield found

    def _system_namespaces(self) -> set[str]:
        """Where a mesh may have its settings: the usual namespace, those with an istiod, and those
        from where a Service leads to that of another cluster."""
        state = self.observer.state
        return {
            SYSTEM_NAMESPACE,
            *(o.namespace for o in state.all(kinds.DEPLOYMENT) if o.labels.get("app") == _ISTIOD),
            *(o.namespace for o in state.all(kinds.SERVICE) if o.labels.get(_APP_NAME) == _ISTIOD),
        }

    async def _of_intents(self) -> _Wanted:
        """Kinds of applied objects that the topology itself does not watch."""
        shown = set(kinds.ALWAYS) | {_DEFINITION}
        places: dict[str, set[str]] = {}
        of_mesh = self._system_namespaces()
        for key in self.drifts.kinds():
            if key.kind in shown or kinds.is_configuration(key.kind):
                continue
            if key.kind != kinds.CONFIG_MAP or key.namespace not in of_mesh:
                places.setdefault(key.kind, set()).add(key.namespace)
        for kind, namespaces in sorted(places.items()):
            if (resource := await self._resource(kind)) is not None:
                for namespace in (
                    sorted(namespaces) if len(namespaces) <= _MOST_NAMESPACES else ("",)
                ):
                    yield Watch(kind, namespace, shows=False), resource

    async def _resource(self, kind: str) -> Resource | None:
        group, _, name = kind.rpartition("/")
        resource = await self.resources.preferred(group, name)
        if resource is None or not {"list", "watch"} <= resource.verbs:
            return None
        return resource

    async def _end(self, watch: Watch) -> None:
        task = self._tasks.pop(watch)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        self._waiting.discard(watch)
        self._listed.discard(watch)
        self._forget(watch)
        self.observer.ended(str(watch))

    # --- one kind -------------------------------------------------------------------------------

    async def _watch(self, watch: Watch, resource: Resource) -> None:
        """Watches again after each failure, until the kind is not served any more."""
        pause = _RETRY_S
        while True:
            try:
                await self._follow(watch, resource)
            except (KindUnknown, ObjectNotFound):
                self._forget(watch)
                self._redefined()
                return
            except ClusterForbidden as error:
                self.observer.refused(str(watch), error.summary)
                # It answers, so it can be reached.
                self.observer.trouble(str(watch), "")
                # A server that has just started refuses what it will allow in a moment.
                is_new = await self.client.is_starting() or watch in self._listed
                self._listed.discard(watch)
                pause = _RETRY_S if is_new else min(pause * 2, _LONGEST_RETRY_S)
            except MeshbusError as error:
                self.observer.trouble(str(watch), error.summary)
                pause = _RETRY_S
            except Exception:
                log.exception("watch_failed", watch=str(watch))
                self.observer.trouble(str(watch), InternalError(f"watching {watch} failed").summary)
                pause = _LONGEST_RETRY_S
            finally:
                self._listed_once(watch)
            await asyncio.sleep(pause)

    async def _follow(self, watch: Watch, resource: Resource) -> None:
        path = resource.collection(watch.namespace)
        changes = watched(
            self.client,
            path,
            read=partial(self._read, watch),
            trouble=partial(self._trouble, watch),
        )
        async with aclosing(changes):
            async for change in changes:
                if change.type is ChangeType.LISTED:
                    self._list(watch, change.items)
                    self._came_to(watch, _number(change.version))
                else:
                    self._change(watch, change.type, change.obj)
                    self._came_to(watch, change.obj.version)

    def _read(self, watch: Watch, obj: KubeObject) -> _Seen:
        metadata = obj.get("metadata") or {}
        key = Key(watch.kind, metadata.get("namespace") or "", metadata.get("name") or "")
        raw = obj if key in self.drifts.kinds() else None
        version = _number(str(metadata.get("resourceVersion") or ""))
        return _Seen(key, self._record(watch, key, obj), raw, version)

    def _record(self, watch: Watch, key: Key, obj: KubeObject) -> Object | None:
        if not self._is_shown(watch, obj):
            return None
        try:
            return self.reader.read(watch.kind, obj)
        except Exception:
            # An object of a form that nobody foresaw must not hide all others of its kind.
            log.exception("object_unreadable", object=str(key))
            return None

    def _is_shown(self, watch: Watch, obj: KubeObject) -> bool:
        if watch.kind == kinds.CONFIG_MAP:
            # Those that istiod elects its leaders by hold no data, and change all the time.
            is_of_mesh = str(obj["metadata"]["name"]).startswith(_MESH_SETTINGS)
            return watch.shows and is_of_mesh and bool(obj.get("data"))
        return watch.shows

    def _list(self, watch: Watch, items: Iterable[_Seen]) -> None:
        items = list(items)
        self._listed.add(watch)
        self._saw(watch, max((seen.version for seen in items), default=0))
        self._trouble(watch, None)
        self.observer.refused(str(watch), "")
        if watch.shows:
            records = [seen.record for seen in items if seen.record is not None]
            self.observer.listed(watch.kind, records, namespace=watch.namespace)
        raws = [seen.raw for seen in items if seen.raw is not None]
        self.drifts.relisted(watch.kind, raws, namespace=watch.namespace)
        if watch.kind == _DEFINITION:
            self._redefined()
        self._listed_once(watch)

    def _change(self, watch: Watch, what: ChangeType, seen: _Seen) -> None:
        self._saw(watch, seen.version)
        is_gone = what is ChangeType.DELETED
        if is_gone and watch.shows:
            self.observer.drop(seen.key)
        elif seen.record is not None:
            self.observer.put(seen.record)
        if seen.raw is not None:
            (self.drifts.gone if is_gone else self.drifts.saw)(watch.kind, seen.raw)
        if watch.kind == _DEFINITION:
            self._redefined()

    def _saw(self, watch: Watch, version: int) -> None:
        self._seen[watch] = max(self._seen.get(watch, 0), version)

    def _forget(self, watch: Watch) -> None:
        """Everything of a collection that is not there any more."""
        self._seen.pop(watch, None)
        self._reached.pop(watch, None)
        if watch.shows:
            self.observer.listed(watch.kind, (), namespace=watch.namespace)
        self.drifts.relisted(watch.kind, (), namespace=watch.namespace)

    def _trouble(self, watch: Watch, error: MeshbusError | None) -> None:
        self.observer.trouble(str(watch), error.summary if error is not None else "")

    def _listed_once(self, watch: Watch) -> None:
        self._begun.set()
        self._waiting.discard(watch)
        self._check_complete()

    def _check_complete(self) -> None:
        if self._tasks and not self._waiting:
            self._complete.set()


def _number(version: str) -> int:
    """A resource version; 0 for one that is no number, which nothing waits for."""
    return int(version) if version.isascii() and version.isdigit() and len(version) <= 20 else 0
