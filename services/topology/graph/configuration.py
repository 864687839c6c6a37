"""Configuration objects as the graph sees them: the workloads and services that each acts on, the
edges that it makes, and what a change of one touches.

An object's edges are worked out together, and what was looked up for them is recorded as marks, so
that a change works out again just the objects that looked at it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Set
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import structlog

from services.topology.cluster import kinds, tags
from services.topology.cluster.hosts import covers, patterns, service_of
from services.topology.cluster.indices import Named, TwoWay
from services.topology.cluster.objects import Change, Config, Key, Labels
from services.topology.cluster.state import matches
from services.topology.graph.catalog import Affected, Catalog
from services.topology.graph.ids import Name
from services.topology.graph.scopes import SCOPED, Scope, Scopes, scope_of
from services.topology.mesh.routing import (
    ROUTING,
    Way,
    gateways,
    hosts_named,
    mesh_hosts,
    subsets_of,
    ways,
)

Mark: TypeAlias = tuple[str, str, str]
HOST, SERVICE, WORKLOAD, RULE, GATEWAY = "host", "service", "workload", "rule", "gateway"


@dataclass(frozen=True, slots=True)
class LinkEnd:
    """A workload or a service."""

    is_service: bool
    name: Name


@dataclass(frozen=True, slots=True)
class Link:
    """One edge that a configuration object makes."""

    source: LinkEnd
    target: LinkEnd
    config: dict[str, Any]


@dataclass(slots=True)
class Links:
    catalog: Catalog
    scopes: Scopes
    named: Named[Key]
    _links: dict[Key, tuple[Link, ...]] = field(default_factory=dict)
    _marks: TwoWay[Key, Mark] = field(default_factory=TwoWay)

    def of(self, key: Key) -> tuple[Link, ...]:
        """An object's edges, as they were worked out last."""
        return self._links.get(key, ())

    def that_looked(self, mark: Mark) -> Set[Key]:
        """Objects whose edges depend on something."""
        return self._marks.having(mark)

    def work_out(self, key: Key) -> None:
        """Works out an object's edges."""
        config: Config | None = self.catalog.state.at(key)
        marks: set[Mark] = set()
        found = tuple(self._found(config, marks)) if config is not None else ()
        self._marks.put(key, frozenset(marks))
        self._links.pop(key, None)
        if found:
            self._links[key] = found

    def _found(self, config: Config, marks: set[Mark]) -> Iterator[Link]:
        workloads = sorted(
            {workload for key in gateways(config) for workload in self._serving(key, marks)}
        )
        marks.update((WORKLOAD, *workload) for workload in workloads)
        callers = {name for h in mesh_hosts(config) if (name := self._resolve(h, marks))}
        for way in ways(config):
            target = self._resolve(way.host, marks)
            if target is None:
                continue
            shown = _shown_on_edge(config, way)
            for workload in workloads:
                yield Link(LinkEnd(False, workload), LinkEnd(True, target), shown)
            for caller in sorted(callers):
                if caller != target:
                    yield Link(LinkEnd(True, caller), LinkEnd(True, target), shown)
                    continue
                for workload in self._versions(target, way, marks):
                    yield Link(LinkEnd(True, caller), LinkEnd(False, workload), shown)

    def _serving(self, key: Key, marks: set[Mark]) -> Iterator[Name]:
        """Workloads of a gateway."""
        marks.add((GATEWAY, *place_of(key)))
        scope = self.scopes.at(key)
        if scope is not None:
            yield from workloads_in(self.catalog, scope)

    def _resolve(self, host: str, marks: set[Mark]) -> Name | None:
        marks.update((HOST, pattern, "") for pattern in patterns(host))
        return self.catalog.resolve(host)

    def _versions(self, service: Name, way: Way, marks: set[Mark]) -> Iterator[Name]:
        """Workloads of a service that a destination selects."""
        marks.add((SERVICE, *service))
        marks.add((RULE, way.host, ""))
        labels: Labels | None = {}
        if way.subset:
            labels = self._subset(way)
        if labels is None:
            return
        for workload in sorted(self.catalog.selected.get(service, ())):
            marks.add((WORKLOAD, *workload))
            if matches(labels, self.catalog.workloads[workload].labels):
                yield workload

    def _subset(self, way: Way) -> Labels | None:
        for key in sorted(self.named.having(way.host)):
            if key.kind != kinds.DESTINATION_RULE:
                continue
            rule = self.catalog.state.at(key)
            labels = subsets_of(rule).get(way.subset) if rule is not None else None
            if labels is not None:
                return labels
        return None


def workloads_in(catalog: Catalog, scope: Scope) -> Iterator[Name]:
    """Workloads in a scope."""
    if scope.is_wide:
        yield from catalog.labelled.find(scope.space, {})
    for selector in scope.selectors:
        yield from catalog.labelled.find(scope.space, selector)


def _shown_on_edge(config: Config, way: Way) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "kind": kinds.short(config.key.kind),
        "namespace": config.namespace,
        "name": config.name,
        "path": way.path,
        **way.details,
    }
    if way.subset:
        shown["subset"] = way.subset
    return shown


def place_of(key: Key) -> tuple[str, str]:
    """An object, as a mark has it."""
    return key.kind, f"{key.namespace}/{key.name}"


log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Dirty:
    """Workloads and services whose nodes are to be made again, and objects whose edges are."""

    workloads: set[Name] = field(default_factory=set)
    services: set[Name] = field(default_factory=set)
    apps: set[Name] = field(default_factory=set)
    """Apps whose WorkloadEntries changed."""
    due: set[Key] = field(default_factory=set)


@dataclass(slots=True)
class Configuration:
    catalog: Catalog
    root: str
    """Namespace whose policies act on the whole mesh."""
    scopes: Scopes = field(default_factory=Scopes)
    named: Named[Key] = field(default_factory=Named)
    """Routing objects and DestinationRules by host."""
    entries: dict[Name, set[Key]] = field(default_factory=dict)
    """WorkloadEntries by namespace and app."""
    links: Links = field(init=False)

    def __post_init__(self) -> None:
        self.links = Links(self.catalog, self.scopes, self.named)

    # --- questions ------------------------------------------------------------------------------

    def on_service(self, name: Name) -> set[Key]:
        """Objects that act on a service."""
        found = set(self.scopes.on_service(name))
        for host in self.catalog.hosts(name):
            found.update(self.named.find(host))
        if self.catalog.entry(name) is not None:
            found.add(Key(kinds.SERVICE_ENTRY, *name))
        return found

    def rules_on(self, name: Name) -> list[Config]:
        """DestinationRules of a service."""
        keys = {
            key
            for host in self.catalog.hosts(name)
            for key in self.named.find(host)
            if key.kind == kinds.DESTINATION_RULE
        }
        return [rule for key in sorted(keys) if (rule := self.catalog.state.at(key)) is not None]

    # --- changes --------------------------------------------------------------------------------

    def changed(self, changes: Iterable[Change], dirty: Dirty) -> None:
        """Takes over configuration objects; the catalog is still as it was."""
        for change in changes:
            try:
                self._changed(change, dirty)
            except Exception:
                # An object of an unforeseen form acts on nothing here.
                log.exception("configuration_not_read", object=str(change.key))

    def _changed(self, change: Change, dirty: Dirty) -> None:
        kind = change.key.kind
        if kind in SCOPED:
            self._scoped(change, dirty)
        elif kind in ROUTING or kind == kinds.DESTINATION_RULE:
            self._routing(change, dirty)
        elif kind == kinds.WORKLOAD_ENTRY:
            self._entry(change, dirty)

    def _scoped(self, change: Change, dirty: Dirty) -> None:
        key = change.key
        config: Config | None = self.catalog.state.at(key)
        scope = scope_of(config, self.root) if config is not None else None
        concerned = self.scopes.put(key, scope)
        if key.kind in (kinds.GATEWAY, kinds.K8S_GATEWAY):
            # Its hosts are on its workloads' nodes.
            concerned = concerned or ([scope] if scope is not None else [])
            dirty.due |= self.links.that_looked((GATEWAY, *place_of(key)))
        for found in concerned:
            dirty.services.update(found.services)
            dirty.workloads.update(workloads_in(self.catalog, found))

    def _routing(self, change: Change, dirty: Dirty) -> None:
        key = change.key
        config: Config | None = self.catalog.state.at(key)
        hosts = hosts_named(config) if config is not None else frozenset()
        hosts |= self.named.put(key, hosts)
        services = {name for host in hosts for name in self._services_of(host)}
        dirty.services |= services
        if key.kind != kinds.DESTINATION_RULE:
            dirty.due.add(key)
            return
        for service in services:
            dirty.workloads |= self.catalog.selected.get(service, set())
        for host in hosts:
            dirty.due |= self.links.that_looked((RULE, host, ""))

    def _services_of(self, host: str) -> Iterator[Name]:
        """Services and ServiceEntries that a host matches, maybe with a wildcard."""
        if not host.startswith("*"):
            if (name := service_of(host)) is not None:
                yield name
            for pattern in patterns(host):
                for entry in self.catalog.state.tagged(kinds.SERVICE_ENTRY, tags.host(pattern)):
                    yield entry.namespace, entry.name
            return
        for service in self.catalog.state.all(kinds.SERVICE):
            if covers(host, service.host):
                yield service.namespace, service.name
        for entry in self.catalog.state.all(kinds.SERVICE_ENTRY):
            yield entry.namespace, entry.name

    def _entry(self, change: Change, dirty: Dirty) -> None:
        if change.before and change.after and change.before.spec == change.after.spec:
            return
        for side, is_after in ((change.before, False), (change.after, True)):
            app = app_of_entry(side) if side is not None else ""
            if not app:
                continue
            name = (change.key.namespace, app)
            keys = self.entries.setdefault(name, set())
            if is_after:
                keys.add(change.key)
            else:
                keys.discard(change.key)
                if not keys:
                    del self.entries[name]
            dirty.apps.add(name)

    def affected(self, affected: Affected, dirty: Dirty) -> None:
        """Notes the objects whose edges depend on a change of the catalog."""
        for host in affected.hosts:
            dirty.due |= self.links.that_looked((HOST, host, ""))
        for service in affected.services:
            dirty.due |= self.links.that_looked((SERVICE, *service))
        for name in affected.regrouped:
            dirty.due |= self.links.that_looked((WORKLOAD, *name))
        for name, before in affected.workloads.items():
            after = self.catalog.workloads.get(name)
            if before is not None and after is not None and before.labels == after.labels:
                continue
            dirty.due |= self.links.that_looked((WORKLOAD, *name))
            for service in self.catalog.fronts.get(name, ()):
                dirty.due |= self.links.that_looked((SERVICE, *service))
            for side in (before, after):
                if side is not None:
                    for key in self.scopes.gateways_on(side.namespace, side.labels):
                        dirty.due |= self.links.that_looked((GATEWAY, *place_of(key)))


def app_of_entry(entry: Config) -> str:
    """App of a WorkloadEntry; "" without its label."""
    labels = entry.spec.get("labels")
    return str(labels.get("app") or "") if isinstance(labels, dict) else ""
