"""Waypoints: the Gateways that stand for them, who uses them, and how they stand.

istiod makes a waypoint's proxy of a Gateway of class `istio-waypoint`; labels say who uses it.
https://istio.io/latest/docs/ambient/usage/waypoint/
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from services.chassis.kube.objects import KubeObject, Ref, labels_of
from services.lifecycle.ambient.options import AmbientRequest, WaypointOptions
from services.lifecycle.cluster import istio
from services.lifecycle.cluster.connections import Connection

GATEWAY = ("gateway.networking.k8s.io", "Gateway")
CLASS = "istio-waypoint"
USE = "istio.io/use-waypoint"
USE_NAMESPACE = "istio.io/use-waypoint-namespace"
FOR = "istio.io/waypoint-for"
MADE_FOR = "gateway.networking.k8s.io/gateway-name"
"""On what a controller makes of a Gateway, and on its pods."""
_PORT = 15008
_USERS = (
    ("", "Namespace"),
    ("", "Service"),
    ("", "Pod"),
    ("networking.istio.io", "ServiceEntry"),
    ("networking.istio.io", "WorkloadEntry"),
)
"""Kinds whose labels may ask for a waypoint."""


def ref_of(namespace: str, name: str) -> Ref:
    return Ref("gateway.networking.k8s.io/v1", "Gateway", namespace, name)


def gateway(request: AmbientRequest, waypoint: WaypointOptions, namespace: str) -> KubeObject:
    """The Gateway of a waypoint in a namespace, as `istioctl waypoint generate` writes it."""
    labels: dict[str, str] = {FOR: waypoint.serves}
    if waypoint.revision:
        labels[istio.REVISION] = waypoint.revision
    listener: dict[str, Any] = {"name": "mesh", "port": _PORT, "protocol": "HBONE"}
    if any(target != namespace for target in request.options.targeted):
        listener["allowedRoutes"] = {"namespaces": {"from": "All"}}
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "Gateway",
        "metadata": {"name": waypoint.name, "namespace": namespace, "labels": labels},
        "spec": {"gatewayClassName": CLASS, "listeners": [listener]},
    }


def binding(waypoint: WaypointOptions, target: str) -> dict[str, str | None]:
    """The labels by which something in the namespace `target` uses the waypoint."""
    home = waypoint.namespace
    return {USE: waypoint.name, USE_NAMESPACE: home if home not in (None, target) else None}


def unbinding(waypoint: WaypointOptions, labels: Mapping[str, str]) -> dict[str, str | None]:
    """What takes the waypoint from something with these labels; {} where it uses another one."""
    return {USE: None, USE_NAMESPACE: None} if labels.get(USE) == waypoint.name else {}


def used_by(labels: Mapping[str, str], namespace: str) -> Ref | None:
    """The waypoint that labels of something in a namespace ask for."""
    name = labels.get(USE, "")
    if name in ("", "none"):
        return None
    return ref_of(labels.get(USE_NAMESPACE) or namespace, name)


def is_waypoint(gateway: KubeObject) -> bool:
    return (gateway.get("spec") or {}).get("gatewayClassName") == CLASS


def differs(live: KubeObject, wanted: KubeObject) -> str:
    """How a Gateway that is there differs from the waypoint that is wanted; "" for not at all."""
    if not is_waypoint(live):
        return f"is of class {str((live.get('spec') or {}).get('gatewayClassName'))[:64]}"
    own, asked = labels_of(live), labels_of(wanted)
    if own.get(FOR, "service") != asked[FOR]:
        return f"is for {own.get(FOR, 'service')[:64]} and not for {asked[FOR]}"
    if _admits(wanted) and not _admits(live):
        return "is for its own namespace alone"
    if istio.REVISION in asked and own.get(istio.REVISION) != asked[istio.REVISION]:
        return f"is of revision {own.get(istio.REVISION, '(none)')[:64]}"
    return ""


def _admits(gateway: KubeObject) -> bool:
    """Whether what is in other namespaces may use it."""
    listeners = (gateway.get("spec") or {}).get("listeners") or []
    admitted = [(one.get("allowedRoutes") or {}).get("namespaces") or {} for one in listeners]
    return any(one.get("from") in ("All", "Selector") for one in admitted)


def condition(obj: KubeObject, kind: str) -> Mapping[str, Any]:
    """A condition of an object; {} without one."""
    found = (obj.get("status") or {}).get("conditions") or []
    return next((one for one in found if one.get("type") == kind), {})


async def users(cluster: Connection, waypoint: Ref) -> list[Ref]:
    """Who uses a waypoint, by labels of their own."""
    found = await cluster.select(_USERS, selector=f"{USE}={waypoint.name}")
    return [
        one.ref
        for one in found
        if used_by(one.labels, one.ref.namespace or one.ref.name) == waypoint
        and not one.obj["metadata"].get("deletionTimestamp")
    ]
