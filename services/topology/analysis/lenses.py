"""A rule's view of the cluster, and the record of what it read.

Each read leaves a mark of what it depended on, so that a change evaluates again just the rules that
looked at what changed, as a build system does. Rules ask nothing but a lens and their own object,
so a rule cannot depend on what is not recorded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from services.topology.cluster import kinds, tags
from services.topology.cluster.objects import Change, Key, Labels, Namespace, Pod, Service, Workload
from services.topology.cluster.state import State, matches
from services.topology.mesh.meshes import Mesh, mesh_of

ALL = "*"
"""As a mark's name: all objects of a kind and namespace; as its namespace: of all namespaces."""


@dataclass(slots=True)
class Lens:
    """One evaluation's view of a `State`."""

    state: State
    marks: set[Key] = field(default_factory=set)

    def get(self, kind: str, namespace: str, name: str) -> Any:
        """The record of one object, or None."""
        self.marks.add(Key(kind, namespace, name))
        return self.state.get(kind, namespace, name)

    def all(self, kind: str, namespace: str | None = None) -> Iterator[Any]:
        """All records of a kind. Dear: every change of the kind there evaluates the rule again."""
        self.marks.add(Key(kind, ALL if namespace is None else namespace, ALL))
        return self.state.all(kind, namespace)

    def namespace(self, name: str) -> Namespace | None:
        found: Namespace | None = self.get(kinds.NAMESPACE, "", name)
        return found

    def service(self, namespace: str, name: str) -> Service | None:
        found: Service | None = self.get(kinds.SERVICE, namespace, name)
        return found

    def pods(self, namespace: str | None, selector: Labels) -> Iterator[Pod]:
        """Pods that a selector selects. Cheap for one with labels: its mark is the rarest label."""
        tag, found = self.state.pods_with(selector, namespace)
        self.marks.add(Key(kinds.POD, ALL if namespace is None else namespace, tag or ALL))
        return found

    def tagged(self, kind: str, tag: str, namespace: str | None = None) -> Iterator[Any]:
        """Records of a kind that have a tag (`tags.py`); a change of others does no harm."""
        self.marks.add(Key(kind, ALL if namespace is None else namespace, tag))
        return self.state.tagged(kind, tag, namespace)

    def services(self, namespace: str, labels: Labels) -> Iterator[Service]:
        """Services of a namespace that send to pods with these labels."""
        for pair in labels.items():
            self.marks.add(Key(kinds.SERVICE, namespace, tags.label(*pair)))
        return self.state.services_of(namespace, labels)

    def workloads(self, namespace: str | None, selector: Labels) -> Iterator[Workload]:
        """Workloads whose pods a selector selects."""
        for kind in kinds.WORKLOADS:
            for workload in self.all(kind, namespace):
                if matches(selector, workload.pod_labels):
                    yield workload

    def peers(self, obj: Any, clashes: Callable[[Any], bool], namespace: str | None) -> list[Any]:
        """The other objects of `obj`'s kind for which `clashes` is true, in one namespace or in
        all (None).

        Cheap where `all` is dear: only those that clash leave a mark. It is for relations that are
        symmetric and depend on nothing but the two objects (and on what leaves marks). The rule
        has to tell about both ends: of two objects that begin to clash, the one that changed last
        is evaluated, and it alone sees it.
        """
        own = obj.key
        found = [o for o in self.state.all(own.kind, namespace) if o.key != own and clashes(o)]
        self.marks.update(o.key for o in found)
        return found

    def mesh(self) -> Mesh:
        """The mesh's own settings."""
        return mesh_of(self)


def marks_of(change: Change) -> tuple[Key, ...]:
    """The marks that a change touches.

    Readiness touches nothing but the object's own mark: a rule about pods or workloads reads what
    they are, and a rollout of a large namespace would evaluate its rules once per pod and probe.
    """
    key = change.key
    if _is_readiness(change.before, change.after):
        return (key,)
    found = [key, Key(key.kind, key.namespace, ALL), Key(key.kind, ALL, ALL)]
    for tag in tags.of(key.kind, change.before) | tags.of(key.kind, change.after):
        found += (Key(key.kind, key.namespace, tag), Key(key.kind, ALL, tag))
    return tuple(found)


def _is_readiness(before: Any, after: Any) -> bool:
    """Whether a change is one of replicas, or of a pod's condition, phase (but for its end) and
    address."""
    if isinstance(before, Workload) and isinstance(after, Workload):
        return replace(before, wanted=after.wanted, ready=after.ready) == after
    if not isinstance(before, Pod) or not isinstance(after, Pod):
        return False
    if before.has_ended != after.has_ended:
        return False
    same = replace(before, is_ready=after.is_ready, phase=after.phase, ip=after.ip)
    return bool(same == after)
