"""Labels that an operation changes, so that each worker knows them and just they can be undone.

A namespace or a Service is labelled itself; a workload in the template of its pods, which restarts
them. What the labels were is kept before the first write (`undoing`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from services.chassis.errors import NamespaceMissing, ObjectNotFound
from services.chassis.kube.objects import KubeObject, Ref, annotations_of, labels_of
from services.lifecycle.ambient.options import AmbientRequest, WaypointOptions
from services.lifecycle.ambient.waypoints import MADE_FOR, binding, unbinding
from services.lifecycle.cluster import istio
from services.lifecycle.cluster.connections import Connection
from services.lifecycle.rollouts.moving import WORKLOADS, selects

AMBIENT = "ambient"
OF_OBJECT = ("metadata", "labels")
OF_SPEC = ("spec",)
OF_TEMPLATE = ("spec", "template", "metadata", "labels")
_OUT = "none"

Labels = Mapping[str, Any]
"""Labels, or other fields of one place, by name; None takes one away."""


@dataclass(frozen=True, slots=True)
class Change:
    """Labels in one place of an object: as they were and as they are to be."""

    ref: Ref
    labels: Labels
    before: Labels
    uid: str = ""
    path: Sequence[str] = OF_OBJECT
    """Where they stand in it."""

    @property
    def is_of_template(self) -> bool:
        return tuple(self.path) == OF_TEMPLATE

    @property
    def patch(self) -> dict[str, Any]:
        """The merge patch."""
        return self._placed(self.labels)

    @property
    def former(self) -> dict[str, Any]:
        """The object before, as far as the patch goes."""
        return self._placed({k: v for k, v in self.before.items() if v is not None})

    def _placed(self, labels: Labels) -> dict[str, Any]:
        placed: dict[str, Any] = dict(labels)
        for step in reversed(self.path):
            placed = {step: placed}
        return placed

    def document(self) -> dict[str, Any]:
        """What is kept of it."""
        ref = self.ref
        named = [ref.api_version, ref.kind, ref.namespace, ref.name]
        return {
            "ref": named,
            "labels": dict(self.labels),
            "before": dict(self.before),
            "uid": self.uid,
            "path": list(self.path),
        }

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Change:
        return cls(
            Ref(*document["ref"]),
            document["labels"],
            document["before"],
            document["uid"],
            tuple(document["path"]),
        )


@dataclass(frozen=True, slots=True)
class Sight:
    """What is in the namespaces of the targets."""

    namespaces: Mapping[str, KubeObject]
    services: Mapping[Ref, KubeObject] = field(default_factory=dict)
    workloads: Mapping[Ref, KubeObject] = field(default_factory=dict)

    def labels(self, namespace: str) -> Mapping[str, str]:
        return labels_of(self.namespaces.get(namespace) or {"metadata": {}})

    def behind(self, service: Ref) -> list[Ref]:
        """The workloads whose pods a Service means."""
        selector = (self.services[service].get("spec") or {}).get("selector") or {}
        if not selector:
            return []
        wanted = {"spec": {"selector": {"matchLabels": selector}}}
        return [
            ref
            for ref, one in self.workloads.items()
            if ref.namespace == service.namespace and selects(wanted, template_labels(one))
        ]


async def see(cluster: Connection, namespaces: list[str]) -> Sight:
    """Reads the namespaces and what stands in them, but for gateways; raises `NamespaceMissing`."""
    spaces: dict[str, KubeObject] = {}
    services: dict[Ref, KubeObject] = {}
    workloads: dict[Ref, KubeObject] = {}
    for name in namespaces:
        ref = Ref("v1", "Namespace", "", name)
        space = await cluster.get(ref)
        if space is None or space["metadata"].get("deletionTimestamp"):
            raise NamespaceMissing(f"namespace {name} does not exist", subject=str(ref))
        spaces[name] = space
        services.update(_own(await cluster.objects("", "Service", name)))
        for kind in WORKLOADS:
            workloads.update(_own(await cluster.objects("apps", kind, name)))
    return Sight(spaces, services, workloads)


def _own(found: Mapping[Ref, KubeObject]) -> dict[Ref, KubeObject]:
    """Without what stands for a Gateway: a waypoint uses no waypoint."""
    return {ref: obj for ref, obj in found.items() if MADE_FOR not in labels_of(obj)}


def template_labels(workload: KubeObject) -> Mapping[str, str]:
    return labels_of((workload.get("spec") or {}).get("template") or {"metadata": {}})


def template_notes(workload: KubeObject) -> Mapping[str, str]:
    """Labels and annotations of a template: some of Istio's words may be either."""
    template = (workload.get("spec") or {}).get("template") or {"metadata": {}}
    return {**annotations_of(template), **labels_of(template)}


def changes(request: AmbientRequest, sight: Sight) -> list[Change]:
    """What is to be labelled otherwise than it is; raises `ObjectNotFound` for a Service or a
    workload that is not there."""
    wanted = _Wanted(request, sight)
    found = []
    for ref, labels in wanted.all():
        obj = wanted.live(ref)
        own = template_labels(obj) if ref.group == "apps" else labels_of(obj)
        differing = {name: value for name, value in labels.items() if own.get(name) != value}
        if differing:
            before = {name: own.get(name) for name in differing}
            path = OF_TEMPLATE if ref.group == "apps" else OF_OBJECT
            uid = str(obj["metadata"].get("uid") or "")
            found.append(Change(ref, differing, before, uid, path))
    return found


@dataclass(frozen=True, slots=True)
class _Wanted:
    request: AmbientRequest
    sight: Sight

    def live(self, ref: Ref) -> KubeObject:
        if ref.kind == "Namespace":
            return self.sight.namespaces[ref.name]
        found = self.sight.services.get(ref) or self.sight.workloads.get(ref)
        if found is None:
            raise ObjectNotFound(f"{ref} is not there", subject=str(ref))
        return found

    def all(self) -> Iterator[tuple[Ref, Labels]]:
        """Each object with the labels that it is to have; each once."""
        merged: dict[Ref, dict[str, str | None]] = {}
        for ref, labels in self._each():
            merged.setdefault(ref, {}).update(labels)
        yield from merged.items()

    def _each(self) -> Iterator[tuple[Ref, Labels]]:
        options, waypoint = self.request.options, self.request.options.waypoint
        for name in options.namespaces:
            mode = AMBIENT if self.request.enrols else None
            yield Ref("v1", "Namespace", "", name), {istio.DATAPLANE_MODE: mode}
        for service in self._services():
            self.live(service)
            for workload in self.sight.behind(service):
                yield workload, self._mode(workload)
        for one in options.workloads:
            yield one.ref, self._mode(one.ref)
        if waypoint is not None:
            yield from self._binding(waypoint) if self.request.enrols else self._freeing(waypoint)

    def _services(self) -> list[Ref]:
        named = self.request.options.services
        return [Ref("v1", "Service", one.namespace, one.name) for one in named]

    def _mode(self, workload: Ref) -> Labels:
        """The label of a workload, which goes before that of its namespace."""
        own = template_labels(self.live(workload))
        space = self.sight.labels(workload.namespace)
        is_named = workload.namespace in self.request.options.namespaces
        is_enrolled = is_named or space.get(istio.DATAPLANE_MODE) == AMBIENT
        if self.request.enrols:
            mode = None if is_enrolled else AMBIENT
        else:
            mode = _OUT if is_enrolled and not is_named else None
        is_new = own.get(istio.DATAPLANE_MODE) != mode
        return {istio.DATAPLANE_MODE: mode} if is_new else {}

    def _binding(self, waypoint: WaypointOptions) -> Iterator[tuple[Ref, Labels]]:
        options = self.request.options
        for name in options.namespaces:
            if waypoint.bind == "namespace":
                yield Ref("v1", "Namespace", "", name), binding(waypoint, name)
        bound = self._services()
        if waypoint.bind == "services":
            bound += [ref for ref in self.sight.services if ref.namespace in options.namespaces]
        for ref in bound:
            yield ref, binding(waypoint, ref.namespace)
        if waypoint.serves in ("workload", "all"):
            for one in options.workloads:
                yield one.ref, binding(waypoint, one.namespace)

    def _freeing(self, waypoint: WaypointOptions) -> Iterator[tuple[Ref, Labels]]:
        """Whatever uses the waypoint in a namespace that withdraws, or is withdrawn itself."""
        named = {*self._services(), *(one.ref for one in self.request.options.workloads)}
        spaces = self.request.options.namespaces
        for name in spaces:
            ref = Ref("v1", "Namespace", "", name)
            yield ref, unbinding(waypoint, self.sight.labels(name))
        for ref, obj in {**self.sight.services, **self.sight.workloads}.items():
            if ref in named or ref.namespace in spaces:
                own = template_labels(obj) if ref.group == "apps" else labels_of(obj)
                yield ref, unbinding(waypoint, own)
