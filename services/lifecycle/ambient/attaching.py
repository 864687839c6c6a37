"""Policies that choose workloads by labels, attached to a waypoint instead.

The policy itself stays for the sidecars that are left, and for the way back: it is narrowed to pods
with a sidecar, which carry a label of their own, since a ztunnel would make a rule about requests
one that denies. A copy of it is attached by `targetRefs`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from services.chassis.kube.objects import KubeObject, Ref, annotations_of, labels_of
from services.lifecycle.ambient.changes import Change, template_labels
from services.lifecycle.ambient.options import WaypointOptions
from services.lifecycle.ambient.reports import SIDECARS, Effect, Row, Scene
from services.lifecycle.rollouts.moving import selects

_COPY_OF = "meshbus.io/ambient-copy-of"
"""On a copy: the name of its policy, in the same namespace."""
COPIED = (
    ("security.istio.io", "AuthorizationPolicy"),
    ("security.istio.io", "RequestAuthentication"),
    ("extensions.istio.io", "WasmPlugin"),
)
"""Kinds that a waypoint reads by `targetRefs`, and that can be copied for it."""
_SELECTOR = ("spec", "selector", "matchLabels")
_MOST_TARGETS = 16


ATTACHED = (
    *COPIED,
    ("telemetry.istio.io", "Telemetry"),
    ("extensions.istio.io", "TrafficExtension"),
)
"""Kinds that a waypoint reads by `targetRefs`."""


@dataclass(frozen=True, slots=True)
class Attachment:
    """A policy's copy for the waypoint, and what narrows the policy itself."""

    ref: Ref
    copy: KubeObject
    narrowing: Change | None


def attachments(
    rows: list[Row], scene: Scene, waypoint: WaypointOptions
) -> tuple[list[Attachment], list[Row]]:
    """What can be attached of the rows that are lost, and the rows that are left."""
    made, left = [], []
    for row in rows:
        found = _attachment(row, scene, waypoint) if row.effect is Effect.LOST else None
        if found is None:
            left.append(row)
        else:
            made.append(found)
    return made, left


def _attachment(row: Row, scene: Scene, waypoint: WaypointOptions) -> Attachment | None:
    """None for what cannot be said of Services, is of another namespace, or would take the place
    of somebody's own."""
    ref = row.ref
    if (ref.group, ref.kind) not in COPIED or ref.namespace not in scene.sight.namespaces:
        return None
    obj = scene.objects[ref]
    spec = dict(obj["spec"])
    selector = (spec.pop("selector", None) or {}).get("matchLabels") or {}
    home = waypoint.namespace or ref.namespace
    if selector:
        targets = _services(scene, ref.namespace, selector)
    elif home == ref.namespace:
        group = "gateway.networking.k8s.io"
        targets = [{"group": group, "kind": "Gateway", "name": waypoint.name}]
    else:
        return None
    if not 0 < len(targets) <= _MOST_TARGETS or spec.get("action") == "CUSTOM":
        return None
    name = f"{ref.name[:240]}-waypoint"
    there = scene.objects.get(Ref(ref.api_version, ref.kind, ref.namespace, name))
    if there is not None and copy_of(there) != ref.name:
        return None
    copy = {
        "apiVersion": ref.api_version,
        "kind": ref.kind,
        "metadata": {
            "name": name,
            "namespace": ref.namespace,
            "labels": {_COPY_OF: "true"},
            "annotations": {_COPY_OF: ref.name},
        },
        "spec": {**spec, "targetRefs": targets},
    }
    return Attachment(ref, copy, narrowing(ref, obj))


def narrowing(ref: Ref, obj: KubeObject) -> Change | None:
    """What lets an AuthorizationPolicy select pods with sidecars alone; the ztunnel reads no other
    kind."""
    if ref.kind != "AuthorizationPolicy":
        return None
    own = ((obj.get("spec") or {}).get("selector") or {}).get("matchLabels") or {}
    before = {name: own.get(name) for name in SIDECARS}
    return Change(ref, SIDECARS, before, str(obj["metadata"]["uid"]), _SELECTOR)


def widening(ref: Ref, obj: KubeObject) -> Change | None:
    """What undoes a narrowing that is there."""
    made = narrowing(ref, obj)
    if made is None or made.before != SIDECARS:
        return None
    return Change(ref, dict.fromkeys(SIDECARS), made.before, made.uid, _SELECTOR)


def _services(scene: Scene, namespace: str, selector: Mapping[str, str]) -> list[Mapping[str, Any]]:
    """The Services that together mean just the workloads that a selector selects; none where one
    means others too, or a workload is behind none: a policy for them would be about more, or
    less."""
    wanted = {"spec": {"selector": {"matchLabels": selector}}}
    selected = {
        ref
        for ref, workload in scene.sight.workloads.items()
        if ref.namespace == namespace and selects(wanted, template_labels(workload))
    }
    behind = {
        ref: set(scene.sight.behind(ref))
        for ref in scene.sight.services
        if ref.namespace == namespace
    }
    found = {ref: own for ref, own in behind.items() if own & selected}
    if not selected or set().union(*found.values()) != selected:
        return []
    return [{"group": "", "kind": "Service", "name": ref.name} for ref in sorted(found)]


def copy_of(obj: KubeObject) -> str:
    """The name of the policy whose copy it is; "" for one that is none."""
    return annotations_of(obj).get(_COPY_OF, "") if _COPY_OF in labels_of(obj) else ""
