"""What is in ambient in a cluster, and which waypoints stand: read from the cluster itself."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from services.chassis.kube.objects import KubeObject, Ref, annotations_of, labels_of
from services.lifecycle.ambient.changes import AMBIENT, template_labels
from services.lifecycle.ambient.prerequisites import plane_of
from services.lifecycle.ambient.waypoints import (
    FOR,
    GATEWAY,
    MADE_FOR,
    USE,
    condition,
    is_waypoint,
    used_by,
)
from services.lifecycle.cluster import istio
from services.lifecycle.cluster.connections import Connection, Found
from services.lifecycle.rollouts.moving import WORKLOADS

_REDIRECTION = "ambient.istio.io/redirection"
_SIDECAR = "sidecar.istio.io/status"
_MOST = 500
"""Rows of each list: the answer is one message."""


async def standing_of(cluster: Connection) -> dict[str, Any]:
    """The data plane, the namespaces and workloads that are enrolled, with how many of their pods
    are captured, and the waypoints with who uses them. At most 500 of each are listed."""
    plane, spaces, services, pods = await asyncio.gather(
        plane_of(cluster),
        cluster.select([("", "Namespace")]),
        cluster.select([("", "Service")], selector=USE),
        cluster.select([("", "Pod")], fields="status.phase=Running"),
    )
    kinds = [GATEWAY, *(("apps", kind) for kind in WORKLOADS)]
    gateways, *workloads = await asyncio.gather(*(cluster.objects(*kind) for kind in kinds))
    used: dict[Ref, list[Ref]] = defaultdict(list)
    for one in (*spaces, *services, *pods):
        waypoint = used_by(one.labels, one.ref.namespace or one.ref.name)
        if waypoint is not None:
            used[waypoint].append(one.ref)
    waypoints = {ref: obj for ref, obj in gateways.items() if is_waypoint(obj)}
    return {
        "version": plane.version,
        "missing": plane.missing(),
        "namespaces": _listed(_namespaces(spaces, pods)),
        "workloads": _listed(_workloads([one for found in workloads for one in found.items()])),
        "services": _listed(
            {
                "namespace": one.ref.namespace,
                "name": one.ref.name,
                "waypoint": _named(used_by(one.labels, one.ref.namespace)),
            }
            for one in services
        ),
        "waypoints": _listed(_waypoint(*one, used) for one in sorted(waypoints.items())),
        "dangling": _listed(
            {"waypoint": _named(ref), "usedBy": [str(one) for one in sorted(own)[:_MOST]]}
            for ref, own in sorted(used.items())
            if ref not in waypoints
        ),
    }


def _listed(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    return list(rows)[:_MOST]


def _named(waypoint: Ref | None) -> str:
    return f"{waypoint.namespace}/{waypoint.name}" if waypoint is not None else ""


def _namespaces(spaces: Iterable[Found], pods: Iterable[Found]) -> Iterable[dict[str, Any]]:
    """Those that are enrolled by a label, or in which a pod is captured."""
    of: dict[str, list[Found]] = defaultdict(list)
    for pod in pods:
        of[pod.ref.namespace].append(pod)
    for space in spaces:
        own = [annotations_of(pod.obj) for pod in of[space.ref.name]]
        captured = sum(notes.get(_REDIRECTION) == "enabled" for notes in own)
        is_enrolled = space.labels.get(istio.DATAPLANE_MODE) == AMBIENT
        if is_enrolled or captured:
            yield {
                "name": space.ref.name,
                "enrolled": is_enrolled and not istio.asks_for_sidecars(space.labels),
                "waypoint": _named(used_by(space.labels, space.ref.name)),
                "pods": len(own),
                "captured": captured,
                "sidecars": sum(_SIDECAR in notes for notes in own),
            }


def _workloads(found: Iterable[tuple[Ref, KubeObject]]) -> Iterable[dict[str, Any]]:
    """Those that their own templates enrol or leave out, but for Istio's own."""
    for ref, obj in sorted(found, key=lambda one: one[0]):
        labels = template_labels(obj)
        is_istios = MADE_FOR in labels or istio.COMPONENT in labels_of(obj)
        if not is_istios and (istio.DATAPLANE_MODE in labels or USE in labels):
            yield {
                "namespace": ref.namespace,
                "kind": ref.kind,
                "name": ref.name,
                "mode": labels.get(istio.DATAPLANE_MODE, ""),
                "waypoint": _named(used_by(labels, ref.namespace)),
            }


def _waypoint(ref: Ref, obj: KubeObject, used: Mapping[Ref, list[Ref]]) -> dict[str, Any]:
    programmed = condition(obj, "Programmed")
    labels = labels_of(obj)
    own = used.get(ref, [])
    kinds = sorted({one.kind for one in own})
    return {
        "namespace": ref.namespace,
        "name": ref.name,
        "for": labels.get(FOR, "service"),
        "revision": labels.get(istio.REVISION, ""),
        "programmed": programmed.get("status") == "True",
        "reason": "" if programmed.get("status") == "True" else str(programmed.get("message", "")),
        "usedBy": {kind: sum(one.kind == kind for one in own) for kind in kinds},
    }
