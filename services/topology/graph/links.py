"""The edges that configuration objects make.

An object's edges are worked out together, and what was looked up for them is recorded as marks, so
that a change works out again just the objects that looked at it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from services.topology.cluster import kinds
from services.topology.cluster.objects import Config, Key, Labels
from services.topology.cluster.state import matches
from services.topology.graph.catalog import Catalog
from services.topology.graph.ids import Name
from services.topology.graph.indices import Named, patterns
from services.topology.graph.scopes import Scope, Scopes
from services.topology.mesh.routing import Way, gateways, mesh_hosts, subsets_of, ways

Mark: TypeAlias = tuple[str, str, str]
HOST, SERVICE, UNIT, RULE, GATEWAY = "host", "service", "unit", "rule", "gateway"


@dataclass(frozen=True, slots=True)
class Thing:
    """A workload or a service."""

    is_service: bool
    name: Name


@dataclass(frozen=True, slots=True)
class Link:
    """One edge that a configuration object makes."""

    source: Thing
    target: Thing
    config: dict[str, Any]


@dataclass(slots=True)
class Links:
    catalog: Catalog
    scopes: Scopes
    named: Named[Key]
    _links: dict[Key, tuple[Link, ...]] = field(default_factory=dict)
    _marks: dict[Key, frozenset[Mark]] = field(default_factory=dict)
    _looked: dict[Mark, set[Key]] = field(default_factory=dict)

    def of(self, key: Key) -> tuple[Link, ...]:
        """An object's edges, as they were worked out last."""
        return self._links.get(key, ())

    def that_looked(self, mark: Mark) -> set[Key]:
        """Objects whose edges depend on something."""
        return self._looked.get(mark, set())

    def work_out(self, key: Key) -> None:
        """Works out an object's edges."""
        config: Config | None = self.catalog.state.at(key)
        marks: set[Mark] = set()
        found = tuple(self._found(config, marks)) if config is not None else ()
        for mark in self._marks.pop(key, frozenset()) - marks:
            looked = self._looked[mark]
            looked.discard(key)
            if not looked:
                del self._looked[mark]
        for mark in marks:
            self._looked.setdefault(mark, set()).add(key)
        if marks:
            self._marks[key] = frozenset(marks)
        self._links.pop(key, None)
        if found:
            self._links[key] = found

    def _found(self, config: Config, marks: set[Mark]) -> Iterator[Link]:
        units = sorted({unit for key in gateways(config) for unit in self._serving(key, marks)})
        marks.update((UNIT, *unit) for unit in units)
        callers = {name for h in mesh_hosts(config) if (name := self._resolve(h, marks))}
        for way in ways(config):
            target = self._resolve(way.host, marks)
            if target is None:
                continue
            told = _told(config, way)
            for unit in units:
                yield Link(Thing(False, unit), Thing(True, target), told)
            for caller in sorted(callers):
                if caller != target:
                    yield Link(Thing(True, caller), Thing(True, target), told)
                    continue
                for unit in self._versions(target, way, marks):
                    yield Link(Thing(True, caller), Thing(False, unit), told)

    def _serving(self, key: Key, marks: set[Mark]) -> Iterator[Name]:
        """Workloads of a gateway."""
        marks.add((GATEWAY, *place_of(key)))
        scope = self.scopes.at(key)
        if scope is not None:
            yield from units_in(self.catalog, scope)

    def _resolve(self, host: str, marks: set[Mark]) -> Name | None:
        marks.update((HOST, pattern, "") for pattern in patterns(host))
        return self.catalog.resolve(host)

    def _versions(self, service: Name, way: Way, marks: set[Mark]) -> Iterator[Name]:
        """Workloads of a service that a destination means."""
        marks.add((SERVICE, *service))
        marks.add((RULE, way.host, ""))
        labels: Labels | None = {}
        if way.subset:
            labels = self._subset(way)
        if labels is None:
            return
        for unit in sorted(self.catalog.selected.get(service, ())):
            marks.add((UNIT, *unit))
            if matches(labels, self.catalog.units[unit].labels):
                yield unit

    def _subset(self, way: Way) -> Labels | None:
        for key in sorted(self.named.exact(way.host)):
            if key.kind != kinds.DESTINATION_RULE:
                continue
            rule = self.catalog.state.at(key)
            labels = subsets_of(rule).get(way.subset) if rule is not None else None
            if labels is not None:
                return labels
        return None


def units_in(catalog: Catalog, scope: Scope) -> Iterator[Name]:
    """Workloads that a scope means."""
    if scope.is_wide:
        yield from catalog.labelled.find(scope.space, {})
    for selector in scope.selectors:
        yield from catalog.labelled.find(scope.space, selector)


def _told(config: Config, way: Way) -> dict[str, Any]:
    told: dict[str, Any] = {
        "kind": kinds.short(config.key.kind),
        "namespace": config.namespace,
        "name": config.name,
        "path": way.path,
        **way.details,
    }
    if way.subset:
        told["subset"] = way.subset
    return told


def place_of(key: Key) -> tuple[str, str]:
    """An object, as a mark has it."""
    return key.kind, f"{key.namespace}/{key.name}"
