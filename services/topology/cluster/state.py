"""One cluster's objects as they are now, with indices by owner and by tag.

Pure: watches put objects in, the graph and the analysis ask. What changes comes out as `Change`s;
an event that changes nothing of what is kept comes out as nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from services.topology.cluster import kinds, tags
from services.topology.cluster.objects import Change, Key, Labels, Object, Pod, Service, Workload

_NONE: Mapping[str, Any] = {}


def matches(selector: Labels, labels: Labels) -> bool:
    """Whether labels fulfil a selector by equality; an empty selector is fulfilled by all."""
    return all(labels.get(name) == value for name, value in selector.items())


@dataclass(slots=True)
class State:
    """The objects of one cluster. `cluster` is its token, `name` people's name for it."""

    cluster: str
    name: str = ""
    _objects: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    """By kind, namespace, name."""
    _pods: dict[Key, set[Key]] = field(default_factory=dict)
    """Pods of each owner."""
    _tagged: dict[str, dict[str, set[Key]]] = field(default_factory=dict)
    """By kind and tag (`tags.py`)."""

    # --- questions ------------------------------------------------------------------------------

    def get(self, kind: str, namespace: str, name: str) -> Any:
        """The record, or None."""
        return self._objects.get(kind, _NONE).get(namespace, _NONE).get(name)

    def at(self, key: Key) -> Any:
        return self.get(key.kind, key.namespace, key.name)

    def all(self, kind: str, namespace: str | None = None) -> Iterator[Any]:
        """All records of a kind, of one namespace or of the cluster."""
        spaces = self._objects.get(kind, _NONE)
        if namespace is not None:
            yield from spaces.get(namespace, _NONE).values()
            return
        for objects in spaces.values():
            yield from objects.values()

    def count(self, kind: str) -> int:
        return sum(len(objects) for objects in self._objects.get(kind, _NONE).values())

    def namespaces(self, kind: str) -> list[str]:
        """Those that have records of a kind."""
        return list(self._objects.get(kind, _NONE))

    def kinds(self) -> list[str]:
        return sorted(self._objects)

    def pods_of(self, owner: Key) -> list[Pod]:
        """The pods that a workload made."""
        return [pod for key in self._pods.get(owner, ()) if (pod := self.at(key)) is not None]

    def workloads(self, namespace: str | None = None) -> Iterator[Workload]:
        for kind in kinds.WORKLOADS:
            yield from self.all(kind, namespace)

    def pods_with(
        self, selector: Labels, namespace: str | None = None
    ) -> tuple[str, Iterator[Pod]]:
        """Pods that a selector matches, and the tag by which they were found: the rarest of the
        selector's labels, "" without any."""
        if not selector:
            return "", self.all(kinds.POD, namespace)
        tagged = self._tagged.get(kinds.POD, _NONE)
        choice = [tags.label(*pair) for pair in selector.items()]
        tag = min(choice, key=lambda tag: len(tagged.get(tag, ())))
        found = self.tagged(kinds.POD, tag, namespace)
        return tag, (pod for pod in found if matches(selector, pod.labels))

    def tagged(self, kind: str, tag: str, namespace: str | None = None) -> Iterator[Any]:
        """Records of a kind that have a tag, of one namespace or of the cluster."""
        for key in self._tagged.get(kind, _NONE).get(tag, ()):
            if namespace is None or key.namespace == namespace:
                yield self._objects[kind][key.namespace][key.name]

    def selected_workloads(self, namespace: str, selector: Labels) -> Iterator[Workload]:
        """Workloads of a namespace whose pods a selector matches."""
        for workload in self.workloads(namespace):
            if matches(selector, workload.pod_labels):
                yield workload

    def services_of(self, namespace: str, pod_labels: Labels) -> Iterator[Service]:
        """Services of a namespace that send to pods with these labels."""
        for pair in pod_labels.items():
            for service in self.tagged(kinds.SERVICE, tags.label(*pair), namespace):
                if matches(service.selector, pod_labels):
                    yield service

    # --- changes --------------------------------------------------------------------------------

    def put(self, obj: Object) -> Change | None:
        """Stores a record; None when it equals the stored one."""
        key = obj.key
        objects = self._objects.setdefault(key.kind, {}).setdefault(key.namespace, {})
        before = objects.get(key.name)
        if before == obj:
            return None
        objects[key.name] = obj
        self._tag(key, before, obj)
        if isinstance(obj, Pod):
            self._own(before, obj)
        return Change(key, before, obj)

    def drop(self, key: Key) -> Change | None:
        """Forgets an object; None when it was not known."""
        spaces = self._objects.get(key.kind, {})
        objects = spaces.get(key.namespace, {})
        before = objects.pop(key.name, None)
        if before is None:
            return None
        if not objects:
            # Namespaces come and go for as long as a cluster is watched.
            del spaces[key.namespace]
        self._tag(key, before, None)
        if isinstance(before, Pod):
            self._own(before, None)
        return Change(key, before, None)

    def replace(
        self, kind: str, objects: Iterable[Object], *, namespace: str | None = None
    ) -> list[Change]:
        """Replaces a kind, or one namespace of it, by a list: others are dropped."""
        changes: list[Change] = []
        listed: set[Key] = set()
        for obj in objects:
            listed.add(obj.key)
            change = self.put(obj)
            if change is not None:
                changes.append(change)
        gone = [known.key for known in self.all(kind, namespace) if known.key not in listed]
        changes += [change for key in gone if (change := self.drop(key)) is not None]
        return changes

    def _tag(self, key: Key, before: Any, after: Any) -> None:
        old, new = tags.of(key.kind, before), tags.of(key.kind, after)
        if old == new:
            return
        tagged = self._tagged.setdefault(key.kind, {})
        for tag in old - new:
            tagged[tag].discard(key)
            if not tagged[tag]:
                del tagged[tag]
        for tag in new - old:
            tagged.setdefault(tag, set()).add(key)

    def _own(self, before: Pod | None, after: Pod | None) -> None:
        if before is not None and before.owner is not None:
            owned = self._pods.get(before.owner, set())
            owned.discard(before.key)
            if not owned:
                self._pods.pop(before.owner, None)
        if after is not None and after.owner is not None:
            self._pods.setdefault(after.owner, set()).add(after.key)
