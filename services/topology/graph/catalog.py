"""Workloads and services of a cluster and the selections between them, kept up change by change.

Istio's telemetry and Kiali know a workload by namespace and name only, so objects of several kinds
that share a name are one. Pods that no Deployment, StatefulSet or DaemonSet owns make a workload
of their owner's name, or of their own.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from services.topology.cluster import kinds
from services.topology.cluster.forms import mapping, texts
from services.topology.cluster.hosts import DOMAIN, service_of
from services.topology.cluster.indices import Labelled, Selectors
from services.topology.cluster.objects import (
    Change,
    Config,
    Key,
    Labels,
    Pod,
    Proxy,
    Runs,
    Service,
    Standing,
    Workload,
)
from services.topology.cluster.state import State
from services.topology.graph.ids import Name
from services.topology.mesh import registry
from services.topology.mesh.membership import is_captured

_OF_CRON_JOB = re.compile(r"(.+)-\d{8,10}")
_LATEST = "latest"


@dataclass(frozen=True, slots=True, kw_only=True)
class MeshWorkload:
    """One workload."""

    namespace: str
    name: str
    app: str
    """Canonical service, by Istio's rule the workload's name where no label gives one."""
    version: str
    """Canonical revision, `latest` where no label gives one."""
    labels: Labels
    annotations: Labels
    pods: int
    """Those that are not over."""
    without_proxy: int
    """Pods that are neither injected nor redirected to ztunnel."""
    is_ambient: bool
    wanted: int
    ready: int
    proxies: tuple[tuple[Standing, int], ...] = ()
    """How many of its proxies stand how with their control plane; without those of which nobody
    knows."""

    @property
    def key(self) -> Name:
        return self.namespace, self.name

    @property
    def synced_proxies(self) -> int:
        """-1 where nobody tells of any."""
        return dict(self.proxies).get(Standing.SYNCED, 0) if self.proxies else -1

    @property
    def troubled_proxies(self) -> dict[Standing, int]:
        """Those that do not stand well."""
        return {how: count for how, count in self.proxies if how is not Standing.SYNCED}


def workload_of(pod: Pod) -> Name:
    """The workload that a pod belongs to, as Istio's injector names it."""
    if pod.owner is None:
        return pod.namespace, pod.name
    name = pod.owner.name
    if pod.owner.kind == "batch/Job" and (match := _OF_CRON_JOB.fullmatch(name)):
        name = match[1]
    return pod.namespace, name


def matters(before: Pod | None, after: Pod | None, *, is_owned: bool) -> bool:
    """Whether a change of a pod can change its workload. A workload that is an object of its own
    counts its ready replicas itself."""
    if before is None or after is None:
        return True
    counted = _counted(before), _counted(after)
    if is_owned:
        return counted[0] != counted[1]
    return counted[0] != counted[1] or (before.is_ready, before.pod_labels, before.annotations) != (
        after.is_ready,
        after.pod_labels,
        after.annotations,
    )


def _counted(pod: Pod) -> tuple[object, ...]:
    return pod.owner, pod.has_ended, pod.has_proxy, is_captured(pod)


def standing_of(proxy: Proxy | None) -> Standing | None:
    """How a proxy stands; None where nobody knows."""
    if proxy is None or proxy.standing is Standing.UNKNOWN:
        return None
    return proxy.standing


def _standings(state: State, pods: Iterable[Pod]) -> tuple[tuple[Standing, int], ...]:
    proxies = (state.get(kinds.PROXY, pod.namespace, pod.name) for pod in pods)
    found = Counter(standing for proxy in proxies if (standing := standing_of(proxy)))
    return tuple(sorted(found.items()))


def objects_of(state: State, name: Name) -> list[Workload]:
    return [found for kind in kinds.WORKLOADS if (found := state.get(kind, *name)) is not None]


def read(state: State, name: Name, pod_keys: Iterable[Key]) -> MeshWorkload | None:
    """The workload as it is now; None when there is none."""
    objects = objects_of(state, name)
    pods = [pod for key in pod_keys if (pod := state.at(key)) is not None]
    alive: list[Pod] = [pod for pod in pods if not pod.has_ended]
    if objects:
        template: Runs = objects[0]
        wanted, ready = sum(o.wanted for o in objects), sum(o.ready for o in objects)
    elif alive:
        template = min(alive, key=lambda pod: pod.name)
        wanted, ready = len(alive), sum(pod.is_ready for pod in alive)
    else:
        return None
    ambient = [pod for pod in alive if is_captured(pod)]
    return MeshWorkload(
        namespace=name[0],
        name=name[1],
        app=template.app or name[1],
        version=template.version or _LATEST,
        labels=template.pod_labels,
        annotations=template.annotations,
        pods=len(alive),
        without_proxy=sum(not (pod.has_proxy or is_captured(pod)) for pod in alive),
        is_ambient=bool(ambient),
        wanted=wanted,
        ready=ready,
        proxies=_standings(state, alive),
    )


@dataclass(slots=True)
class Affected:
    """Workloads, services and hosts that changes affected, whose nodes are made again."""

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
        """Takes over changes that the state has already."""
        affected = Affected()
        workloads: set[Name] = set()
        for change in changes:
            kind = change.key.kind
            if kind == kinds.POD:
                workloads.update(self._pod(change))
            elif kind in kinds.WORKLOADS:
                workloads.add((change.key.namespace, change.key.name))
            elif kind == kinds.PROXY:
                workloads.update(self._proxy(change))
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

    def _proxy(self, change: Change) -> Iterator[Name]:
        if standing_of(change.before) != standing_of(change.after):
            pod: Pod | None = self.state.get(kinds.POD, change.key.namespace, change.key.name)
            if pod is not None:
                yield workload_of(pod)

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
