"""What a rule sees of the cluster, and the record of what it looked at.

Each read leaves a mark of what it depended on, so that a change evaluates again just the rules that
looked at what changed, as a build system does. Rules ask nothing but a lens and their own object,
so a rule cannot depend on what is not recorded.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from services.topology import kinds
from services.topology.objects import Change, Key, Labels, Namespace, Pod, Service, Workload
from services.topology.state import State, matches

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
        """Pods that a selector means."""
        return (p for p in self.all(kinds.POD, namespace) if matches(selector, p.labels))

    def workloads(self, namespace: str | None, selector: Labels) -> Iterator[Workload]:
        """Workloads whose pods a selector means."""
        for kind in kinds.WORKLOADS:
            for workload in self.all(kind, namespace):
                if matches(selector, workload.pod_labels):
                    yield workload

    def mesh(self) -> Mesh:
        """The mesh's own settings."""
        found = self.get(kinds.CONFIG_MAP, SYSTEM_NAMESPACE, "istio")
        return Mesh.of(found.spec if found is not None else {})


SYSTEM_NAMESPACE = "istio-system"


@dataclass(frozen=True, slots=True)
class Mesh:
    """What MeshConfig says, as far as rules ask; Istio's defaults where it is silent."""

    root_namespace: str = SYSTEM_NAMESPACE
    trust_domain: str = "cluster.local"
    auto_mtls: bool = True
    is_known: bool = False
    """Whether a MeshConfig was found."""
    config: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Mesh:
        """From the record of the ConfigMap: `reading.py` has parsed its YAML."""
        config = data.get("mesh")
        if not isinstance(config, dict):
            return cls()
        return cls(
            root_namespace=str(config.get("rootNamespace") or SYSTEM_NAMESPACE),
            trust_domain=str(config.get("trustDomain") or "cluster.local"),
            auto_mtls=config.get("enableAutoMtls") is not False,
            is_known=True,
            config=config,
        )


def marks_of(change: Change) -> tuple[Key, ...]:
    """The marks that a change touches."""
    key = change.key
    return (
        key,
        Key(key.kind, key.namespace, ALL),
        Key(key.kind, ALL, ALL),
    )
