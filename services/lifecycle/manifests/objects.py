"""The order of an install: dependency waves of objects that can be applied side by side."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum

import orjson

from services.chassis.kube.objects import KubeObject, Ref, annotations_of, labels_of
from services.lifecycle.cluster import istio


class Wave(IntEnum):
    """Applied in this order, removed in the opposite one.

    Gateways come last because their pods get their image from the injection webhook, which needs
    a running istiod behind it.
    """

    FOUNDATIONS = 0
    CONFIGURATION = 1
    WORKLOADS = 2
    CUSTOM_RESOURCES = 3
    WEBHOOKS = 4
    GATEWAYS = 5

    @property
    def title(self) -> str:
        return _TITLES[self]


_TITLES = {
    Wave.FOUNDATIONS: "namespaces and definitions",
    Wave.CONFIGURATION: "accounts, roles, configuration and services",
    Wave.WORKLOADS: "workloads",
    Wave.CUSTOM_RESOURCES: "custom resources",
    Wave.WEBHOOKS: "webhooks",
    Wave.GATEWAYS: "gateways",
}

CRD = ("apiextensions.k8s.io", "CustomResourceDefinition")
NAMESPACE = ("", "Namespace")

_WORKLOADS = frozenset(
    {
        ("apps", "Deployment"),
        ("apps", "DaemonSet"),
        ("apps", "StatefulSet"),
        ("apps", "ReplicaSet"),
        ("batch", "Job"),
        ("batch", "CronJob"),
        ("", "Pod"),
        ("", "ReplicationController"),
    }
)
_BUILT_IN_GROUPS = frozenset({"", "apps", "batch", "autoscaling", "policy"})

Identity = tuple[str, str, str, str]


@dataclass(frozen=True, slots=True)
class PlannedObject:
    """One object ready to be sent: its JSON and the labels and annotations in it."""

    ref: Ref
    body: bytes
    component: str = ""
    digest: str = ""
    labels: tuple[tuple[str, str], ...] = ()
    annotations: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, obj: KubeObject) -> PlannedObject:
        body = orjson.dumps(obj)
        return cls(
            ref=Ref.of(obj),
            body=body,
            component=labels_of(obj).get(istio.COMPONENT, ""),
            digest=hashlib.sha256(body).hexdigest()[:32],
            labels=tuple(labels_of(obj).items()),
            annotations=tuple(annotations_of(obj).items()),
        )


def identity(ref: Ref) -> Identity:
    """Identifies an object across the versions of its API."""
    return (ref.group, ref.kind, ref.namespace, ref.name)


def wave_of(ref: Ref, component: str = "") -> Wave:
    """Where an object stands in the order."""
    if ref.group_kind in (NAMESPACE, CRD):
        return Wave.FOUNDATIONS
    if ref.group == "admissionregistration.k8s.io":
        return Wave.WEBHOOKS
    if ref.group_kind in _WORKLOADS:
        return Wave.GATEWAYS if component in istio.GATEWAYS else Wave.WORKLOADS
    if ref.group in _BUILT_IN_GROUPS or ref.group.endswith(".k8s.io"):
        custom = ref.group.startswith("gateway.networking.") or ref.group.startswith("inference.")
        return Wave.CUSTOM_RESOURCES if custom else Wave.CONFIGURATION
    return Wave.CUSTOM_RESOURCES


def in_waves(objects: Iterable[PlannedObject]) -> list[tuple[Wave, list[PlannedObject]]]:
    """The objects by wave, empty waves left out."""
    waves: dict[Wave, list[PlannedObject]] = {}
    for planned in objects:
        waves.setdefault(wave_of(planned.ref, planned.component), []).append(planned)
    return sorted(waves.items())


def by_kind(refs: Iterable[Ref]) -> str:
    """Such as `15 CustomResourceDefinition, 2 Deployment`."""
    counts = Counter(ref.kind for ref in refs)
    return ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items()))


def listing(refs: Sequence[Ref], *, limit: int = 12) -> str:
    """The first few by name, and how many more there are."""
    names = ", ".join(str(ref) for ref in sorted(refs)[:limit])
    more = len(refs) - limit
    return f"{names} and {more} more" if more > 0 else names
