"""What labels select: pods first, by their index, then what has no pods now.

Workloads are scanned, so they are asked only where no pod was found: of one that is scaled to
zero, or of a selector that means nothing.
"""

from __future__ import annotations

from services.topology.analysis.lenses import Lens
from services.topology.cluster import kinds
from services.topology.cluster.objects import Change, Labels, Pod, Runs
from services.topology.cluster.state import matches
from services.topology.mesh.membership import wants_ambient, wants_sidecar

_OVER = ("Succeeded", "Failed")


def pods(lens: Lens, namespace: str, selector: Labels) -> list[Pod]:
    """Pods that a selector means and that have not ended."""
    return [pod for pod in lens.pods(namespace, selector) if pod.phase not in _OVER]


def running(lens: Lens, namespace: str, selector: Labels) -> list[Runs]:
    """The pods that a selector means, else the workloads, which then have none."""
    found: list[Runs] = list(pods(lens, namespace, selector))
    return found or list(lens.workloads(namespace, selector))


def selects(lens: Lens, namespace: str, selector: Labels) -> bool:
    """Whether anything in the namespace has these labels, machines outside included."""
    if running(lens, namespace, selector):
        return True
    outside = [
        *(entry.spec.get("labels") for entry in lens.all(kinds.WORKLOAD_ENTRY, namespace)),
        *(
            (group.spec.get("metadata") or {}).get("labels")
            for group in lens.all(kinds.WORKLOAD_GROUP, namespace)
        ),
    ]
    return any(matches(selector, labels or {}) for labels in outside)


def selects_anywhere(lens: Lens, home: str, selector: Labels) -> bool:
    """The same in all namespaces; `home` and the pods of all are looked at first, to leave few
    marks."""
    if selects(lens, home, selector):
        return True
    if any(pod.phase not in _OVER for pod in lens.pods(None, selector)):
        return True
    others = [space.name for space in lens.all(kinds.NAMESPACE) if space.name != home]
    return any(selects(lens, other, selector) for other in others)


def can_both(one: Labels, other: Labels) -> bool:
    """Whether something could have the labels of both selectors."""
    return all(other.get(name, value) == value for name, value in one.items())


def is_in_mesh(lens: Lens, runs: Runs) -> bool:
    """Whether labels put a pod of this form into the mesh."""
    space = lens.namespace(runs.namespace)
    labels: Labels = space.labels if space is not None else {}
    return wants_sidecar(labels, runs) or wants_ambient(labels, runs.pod_labels)


def runs_differently(change: Change) -> bool:
    """Whether a change of a workload or pod is more than one of its status."""
    before, after = change.before, change.after
    if before is None or after is None:
        return True
    return bool(
        before.pod_labels != after.pod_labels
        or before.pod_annotations != after.pod_annotations
        or before.containers != after.containers
        or before.account != after.account
        or before.host_network != after.host_network
    )


def labels_differ(change: Change) -> bool:
    """Whether the labels by which a workload or pod is chosen have changed, or it came or went."""
    before, after = change.before, change.after
    if before is None or after is None:
        return True
    return bool(
        before.pod_labels != after.pod_labels or before.pod_annotations != after.pod_annotations
    )


def is_own(runs: Runs) -> bool:
    """Whether it is a workload: made by nothing else."""
    return not isinstance(runs, Pod) or runs.owner is None
