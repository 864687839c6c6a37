"""Workloads as the graph sees them: by name, with what their pods tell about them.

Istio's telemetry and Kiali know a workload by namespace and name only, so objects of several kinds
that share a name are one. Pods that no Deployment, StatefulSet or DaemonSet owns make a workload
of their owner's name, or of their own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from services.topology.cluster import kinds
from services.topology.cluster.objects import Key, Labels, Pod, Runs, Workload
from services.topology.cluster.state import State
from services.topology.graph.ids import Name
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

    @property
    def key(self) -> Name:
        return self.namespace, self.name


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
    )
