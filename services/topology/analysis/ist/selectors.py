"""Objects of a namespace that mean the same pods: what Sidecars and Telemetries have in common."""

from __future__ import annotations

from services.topology.analysis.lenses import Lens
from services.topology.cluster.objects import Config, Key, Labels, Pod
from services.topology.cluster.state import matches

_REDIRECTION = "ambient.istio.io/redirection"


def shared_pod(
    selected: list[Pod], rivals: list[tuple[Config, Labels]]
) -> tuple[Key, list[str]] | None:
    """The first of the pods that a rival selects too, and the names of these rivals."""
    for pod in sorted(selected, key=lambda pod: pod.key):
        names = [rival.name for rival, selector in rivals if matches(selector, pod.labels)]
        if names:
            return pod.key, sorted(names)
    return None


def is_ambient(pod: Pod) -> bool:
    """Whether the node's proxy handles the pod's traffic."""
    return pod.annotations.get(_REDIRECTION) == "enabled"


def is_ambient_namespace(lens: Lens, name: str) -> bool:
    """A label for sidecars goes before the one for ambient mode."""
    namespace = lens.namespace(name)
    if namespace is None:
        return False
    has = namespace.labels.get
    if has("istio-injection") == "enabled" or has("istio.io/rev"):
        return False
    return has("istio.io/dataplane-mode") == "ambient"
