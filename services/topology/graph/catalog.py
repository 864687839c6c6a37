"""Workloads and services of a cluster and who selects whom, kept up change by change."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from services.topology.cluster import kinds
from services.topology.cluster.forms import mapping, texts
from services.topology.cluster.hosts import DOMAIN, service_of
from services.topology.cluster.indices import Labelled, Selectors
from services.topology.cluster.objects import Change, Config, Key, Labels, Pod, Service
from services.topology.cluster.state import State
from services.topology.graph.ids import Name
from services.topology.graph.workloads import MeshWorkload, matters, objects_of, read, workload_of
from services.topology.mesh import registry


@dataclass(slots=True)
class Affected:
    """What changes touched, and what it was before: the names are looked at again."""

    workloads: dict[Name, MeshWorkload | None] = field(default_factory=dict)
    """Workloads that changed, as they were."""
    regrouped: set[Name] = field(default_factory=set)
    """Workloads that other services select than before."""
    services: set[Name] = field(default_factory=set)
    """Services that changed themselves, or in what they select."""
    redefined: set[Name] = field(default_factory=set)
    """Services that changed themselves."""
    links: set[tuple[Name, Name]] = field(default_factory=set)
    """Service and workload where selection came or went."""
    hosts: set[str] = field(default_factory=set)
    """Names that ServiceEntries gave up or took, wildcards included."""


@dataclass(slots=True)
class Catalog:
    state: State
    workloads: dict[Name, MeshWorkload] = field(default_factory=dict)
    apps: dict[Name, set[str]] = field(default_factory=dict)
    """Workloads' names by namespace and app."""
    labelled: Labelled = field(default_factory=Labelled)
    selected: dict[Name, set[Name]] = field(default_factory=dict)
    """Workloads of a service."""
    fronts: dict[Name, set[Name]] = field(default_factory=dict)
    """Services of a workload."""
    slices: dict[Name, set[Key]] = field(default_factory=dict)
    """EndpointSlices of a service."""
    _selectors: Selectors[Name] = field(default_factory=Selectors)
    _pods: dict[Name, set[Key]] = field(default_factory=dict)

    # --- questions ------------------------------------------------------------------------------

    def service(self, name: Name) -> Service | None:
        found: Service | None = self.state.get(kinds.SERVICE, *name)
        return found

    def entry(self, name: Name) -> Config | None:
        """The ServiceEntry of a name."""
        found: Config | None = self.state.get(kinds.SERVICE_ENTRY, *name)
        return found

    def is_service(self, name: Name) -> bool:
        return self.service(name) is not None or self.entry(name) is not None

    def members(self, name: Name) -> list[MeshWorkload]:
        """Workloads of an app."""
        return [self.workloads[name[0], workload] for workload in sorted(self.apps.get(name, ()))]

    def hosts(self, name: Name) -> list[str]:
        """Names under which a service is called."""
        found = []
        if self.service(name) is not None:
            found.append(f"{name[1]}.{name[0]}.svc.{DOMAIN}")
        if (entry := self.entry(name)) is not None:
            found += sorted(hosts_of(entry))
        return found

    def resolve(self, host: str) -> Name | None:
        """The Service or ServiceEntry behind a full host name."""
        name = service_of(host)
        if name is not None and self.service(name) is not None:
            return name
        return self.external(host)

    def external(self, host: str) -> Name | None:
        """The ServiceEntry of a host: of those with the narrowest pattern the first by name."""
        found = registry.entries_of(self.state, host)
        return min(((entry.namespace, entry.name) for entry in found), default=None)

    def ready_endpoints(self, name: Name) -> int:
        keys = self.slices.get(name, ())
        return sum(s.ready for key in keys if (s := self.state.at(key)) is not None)

    # --- changes --------------------------------------------------------------------------------

    def changed(self, changes: Iterable[Change]) -> Affected:
        """Takes over what the state has."""
        affected = Affected()
        workloads: set[Name] = set()
        for change in changes:
            kind = change.key.kind
            if kind == kinds.POD:
                workloads.update(self._pod(change))
            elif kind in kinds.WORKLOADS:
                workloads.add((change.key.namespace, change.key.name))
            elif kind == kinds.ENDPOINTS:
                affected.services.update(self._slice(change))
            elif kind in (kinds.SERVICE, kinds.SERVICE_ENTRY):
                self._service(change, affected)
        moved = {name for name in workloads if self._workload(name, affected)}
        for name in moved:
            workload = self.workloads.get(name)
            self._link(affected, workload=name, to=self._selecting(workload) if workload else set())
        for name in list(affected.services):
            self._link_service(affected, name)
        return affected

    def _pod(self, change: Change) -> Iterator[Name]:
        before: Pod | None = change.before
        after: Pod | None = change.after
        if before is not None:
            name = workload_of(before)
            keys = self._pods.setdefault(name, set())
            if after is None or workload_of(after) != name:
                keys.discard(change.key)
            if not keys:
                del self._pods[name]
            if after is None or workload_of(after) != name:
                yield name
        if after is not None:
            name = workload_of(after)
            self._pods.setdefault(name, set()).add(change.key)
            if matters(before, after, is_owned=bool(objects_of(self.state, name))):
                yield name

    def _slice(self, change: Change) -> Iterator[Name]:
        for side, is_after in ((change.before, False), (change.after, True)):
            if side is None or not side.service:
                continue
            name = (side.namespace, side.service)
            keys = self.slices.setdefault(name, set())
            if is_after:
                keys.add(change.key)
            else:
                keys.discard(change.key)
                if not keys:
                    del self.slices[name]
            yield name

    def _service(self, change: Change, affected: Affected) -> None:
        name = (change.key.namespace, change.key.name)
        affected.services.add(name)
        affected.redefined.add(name)
        if change.key.kind == kinds.SERVICE_ENTRY:
            sides = [hosts_of(o) if o is not None else set() for o in (change.before, change.after)]
            affected.hosts |= sides[0] ^ sides[1]
        else:
            affected.hosts.add(f"{name[1]}.{name[0]}.svc.{DOMAIN}")
        self._selectors.put(name[0], name, self._wants(name))

    def _wants(self, name: Name) -> tuple[Labels, ...]:
        service, entry = self.service(name), self.entry(name)
        found: list[Labels] = []
        if service is not None and service.selector and service.type != "ExternalName":
            found.append(service.selector)
        if entry is not None:
            labels = mapping(entry.spec.get("workloadSelector")).get("labels")
            texts_only = {k: v for k, v in mapping(labels).items() if isinstance(v, str)}
            if texts_only:
                found.append(texts_only)
        return tuple(found)

    def _workload(self, name: Name, affected: Affected) -> bool:
        """Reads a workload again; whether its labels came, changed or went."""
        before = self.workloads.get(name)
        after = read(self.state, name, self._pods.get(name, ()))
        if before == after:
            return False
        affected.workloads[name] = before
        if before is not None and (after is None or after.app != before.app):
            names = self.apps[name[0], before.app]
            names.discard(name[1])
            if not names:
                del self.apps[name[0], before.app]
        if after is None:
            del self.workloads[name]
        else:
            self.workloads[name] = after
            self.apps.setdefault((name[0], after.app), set()).add(name[1])
        if before is not None and after is not None and before.labels == after.labels:
            return False
        self.labelled.put(*name, after.labels if after is not None else None)
        return True

    def _selecting(self, workload: MeshWorkload) -> set[Name]:
        return set(self._selectors.find(workload.namespace, workload.labels))

    def _link(self, affected: Affected, *, workload: Name, to: set[Name]) -> None:
        for service in self.fronts.get(workload, set()) ^ to:
            self._toggle(affected, service, workload)

    def _link_service(self, affected: Affected, name: Name) -> None:
        now = {
            workload
            for selector in self._wants(name)
            for workload in self.labelled.find(name[0], selector)
        }
        for workload in self.selected.get(name, set()) ^ now:
            self._toggle(affected, name, workload)

    def _toggle(self, affected: Affected, service: Name, workload: Name) -> None:
        """A workload begins or ceases to belong to a service."""
        for index, key, other in (
            (self.selected, service, workload),
            (self.fronts, workload, service),
        ):
            found = index.setdefault(key, set())
            if other in found:
                found.remove(other)
                if not found:
                    del index[key]
            else:
                found.add(other)
        affected.links.add((service, workload))
        affected.services.add(service)
        affected.regrouped.add(workload)


def hosts_of(entry: Config) -> frozenset[str]:
    """A ServiceEntry's hosts."""
    return frozenset(texts(entry.spec, "hosts"))
