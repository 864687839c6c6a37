"""Which pods are in the mesh, and which labels ask for a sidecar, for ambient, for a waypoint.

Labels say what is wanted; containers and the CNI agent's annotation say what is. This is the one
place that decides either: `is_in_mesh` for pods that run, `is_meant_for_mesh` for rules about
configuration, which hold for a workload before its pods are there. The rules of the
injection webhook: https://istio.io/latest/docs/setup/additional-setup/sidecar-injection/
(a namespace's `istio-injection` goes before its `istio.io/rev`, a pod's own label before neither of
them when the namespace says `disabled`). The annotations of the webhook's selectors that an
administrator may have changed are not read.
"""

from __future__ import annotations

from typing import Any

from services.topology.cluster.objects import Labels, Runs

INJECTION = "istio-injection"
REVISION = "istio.io/rev"
INJECT = "sidecar.istio.io/inject"
DATAPLANE = "istio.io/dataplane-mode"
USE_WAYPOINT = "istio.io/use-waypoint"
USE_WAYPOINT_NAMESPACE = "istio.io/use-waypoint-namespace"
REDIRECTION = "ambient.istio.io/redirection"
GATEWAY_NAME = "gateway.networking.k8s.io/gateway-name"
MANAGED = "gateway.istio.io/managed"
NETWORK = "topology.istio.io/network"
COMPONENT = "operator.istio.io/component"
WAYPOINT_CLASSES = ("istio-waypoint", "agentgateway-waypoint")

_GATEWAY_COMPONENTS = ("IngressGateways", "EgressGateways")
_MESH_CONTROLLER = "istio.io-mesh-controller"


def asks_for_sidecars(namespace: Labels) -> bool:
    """Whether a namespace's labels make its pods get a sidecar."""
    injection = namespace.get(INJECTION)
    return injection == "enabled" if injection else bool(namespace.get(REVISION))


def is_ambient_namespace(namespace: Labels) -> bool:
    """Whether a namespace's labels enrol its pods in ambient; those for sidecars go first."""
    return namespace.get(DATAPLANE) == "ambient" and not asks_for_sidecars(namespace)


def wants_sidecar(namespace: Labels, runs: Runs) -> bool:
    """Whether the webhook gives a pod of this form a sidecar."""
    asked = runs.pod_labels.get(INJECT) or runs.pod_annotations.get(INJECT)
    if runs.host_network or asked == "false" or namespace.get(INJECTION) == "disabled":
        return False
    if asked == "true" or asks_for_sidecars(namespace):
        return True
    return bool(runs.pod_labels.get(REVISION))


def wants_ambient(namespace: Labels, pod: Labels) -> bool:
    """Whether labels enrol a pod in ambient; the pod's own goes first."""
    return (pod.get(DATAPLANE) or namespace.get(DATAPLANE)) == "ambient"


def is_captured(runs: Runs) -> bool:
    """Whether the CNI agent has redirected a pod's traffic to the ztunnel."""
    return runs.pod_annotations.get(REDIRECTION) == "enabled"


def is_in_mesh(runs: Runs) -> bool:
    """Whether a pod is in the mesh: with a proxy of its own, or by the ztunnel."""
    return (runs.has_proxy and not is_ztunnel(runs)) or is_captured(runs)


def is_meant_for_mesh(runs: Runs, namespace: Labels) -> bool:
    """Whether a pod is in the mesh, or labels ask for it: its own, or those of its namespace.

    A pod that asks for a sidecar in a namespace that forbids it counts, as it does for istioctl.
    """
    asks = runs.pod_labels.get(INJECT) == "true"
    return (
        is_in_mesh(runs)
        or asks
        or wants_sidecar(namespace, runs)
        or wants_ambient(namespace, runs.pod_labels)
    )


def waypoint_of(own: Labels, namespace: Any) -> tuple[str, str] | None:
    """Namespace and name of the waypoint that the labels of a Service or pod ask for, else those
    of its namespace (the record of it, or None); None for none."""
    space_labels: Labels = namespace.labels if namespace is not None else {}
    labels = own if own.get(USE_WAYPOINT) else space_labels
    name = labels.get(USE_WAYPOINT, "")
    if name in ("", "none"):
        return None
    home = namespace.name if namespace is not None else ""
    return labels.get(USE_WAYPOINT_NAMESPACE) or home, name


def is_waypoint(labels: Labels) -> bool:
    """Whether pods with these labels are a waypoint."""
    return labels.get(MANAGED) == _MESH_CONTROLLER


def is_gateway(runs: Runs) -> bool:
    """Whether it is a gateway: made for a Gateway of the Gateway API, one of an installation's
    profile, or a proxy of its own, which the webhook fills in by the template `gateway`."""
    if runs.pod_labels.get(COMPONENT) in _GATEWAY_COMPONENTS:
        return True
    if runs.pod_labels.get(GATEWAY_NAME):
        return not is_waypoint(runs.pod_labels)
    return "gateway" in runs.pod_annotations.get("inject.istio.io/templates", "").split(",")


def is_ztunnel(runs: Runs) -> bool:
    """The ztunnel's container bears the name of a sidecar's."""
    return runs.pod_labels.get("app") == "ztunnel"
