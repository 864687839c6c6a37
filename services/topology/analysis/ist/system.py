"""What istioctl leaves out: Kubernetes' own namespaces, and Istio's own workloads."""

from __future__ import annotations

from services.topology.cluster.objects import Kept

IGNORED_NAMESPACES = frozenset(
    {"kube-system", "kube-public", "kube-node-lease", "local-path-storage"}
)
"""No finding about namespaces, Services and pods here. Unlike istioctl, rules still see what is in
them: kube-dns exists."""


def is_control_plane(obj: Kept) -> bool:
    """Whether an object's labels say that it is a part of Istio."""
    return "istio" in obj.labels or obj.labels.get("release") == "istio"
