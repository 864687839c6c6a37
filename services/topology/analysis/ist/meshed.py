"""Whether pods are in the mesh, as istioctl's analyzers decide it."""

from __future__ import annotations

from services.topology.analysis.lenses import Lens
from services.topology.cluster.objects import Change, Container, Runs

PROXY = "istio-proxy"
INJECTION = "istio-injection"
REVISION = "istio.io/rev"
INJECT = "sidecar.istio.io/inject"


def is_in_mesh(lens: Lens, runs: Runs, containers: tuple[Container, ...]) -> bool:
    """A proxy among the containers; else what the pod says; else the namespace's label. The label
    of a revision is not looked at: istioctl does not."""
    if has_proxy(containers):
        return True
    for where in (runs.pod_labels, runs.pod_annotations):
        if INJECT in where:
            return where[INJECT] == "true"
    namespace = lens.namespace(runs.namespace)
    return namespace is not None and namespace.labels.get(INJECTION) == "enabled"


def has_proxy(containers: tuple[Container, ...]) -> bool:
    return any(container.name == PROXY and container.image for container in containers)


def applications(runs: Runs) -> tuple[Container, ...]:
    """Without init containers."""
    return tuple(container for container in runs.containers if not container.is_init)


def matters(change: Change) -> bool:
    """Whether what a pod or template is has changed, and not just how it fares."""
    before, after = change.before, change.after
    return before is None or after is None or _shape(before) != _shape(after)


def _shape(runs: Runs) -> tuple[object, ...]:
    return (
        runs.labels,
        runs.pod_labels,
        runs.pod_annotations,
        runs.containers,
        runs.host_network,
        runs.run_as_user,
    )
