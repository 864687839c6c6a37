"""What moving namespaces from sidecars to ambient would change, object by object.

A sidecar reads requests; the ztunnel reads connections, and leaves requests to a waypoint. What
speaks of requests, or configures a sidecar, means nothing to it. Each row says which object that
is, what becomes of it, and what would mend it.
https://istio.io/latest/docs/ambient/migrate/
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from services.chassis.kube.objects import KubeObject, Ref
from services.lifecycle.ambient.changes import Sight, see, template_labels, template_notes
from services.lifecycle.ambient.options import AmbientRequest
from services.lifecycle.cluster import istio
from services.lifecycle.cluster.connections import Connection

_NETWORKING, _SECURITY = "networking.istio.io", "security.istio.io"
_KINDS = (
    (_SECURITY, "AuthorizationPolicy"),
    (_SECURITY, "RequestAuthentication"),
    (_SECURITY, "PeerAuthentication"),
    (_NETWORKING, "VirtualService"),
    (_NETWORKING, "DestinationRule"),
    (_NETWORKING, "EnvoyFilter"),
    (_NETWORKING, "Sidecar"),
    (_NETWORKING, "ProxyConfig"),
    ("telemetry.istio.io", "Telemetry"),
    ("extensions.istio.io", "WasmPlugin"),
    ("extensions.istio.io", "TrafficExtension"),
    ("gateway.networking.k8s.io", "HTTPRoute"),
    ("gateway.networking.k8s.io", "GRPCRoute"),
    ("batch", "Job"),
    ("batch", "CronJob"),
)
SIDECARS = {"security.istio.io/tlsMode": "istio"}
"""The label of pods with a sidecar."""
_REQUEST_KEYS = ("request.headers", "request.auth.")
_INJECT = "sidecar.istio.io/inject"
_OF_SIDECARS = ("traffic.sidecar.istio.io/", "proxy.istio.io/", "sidecar.istio.io/")


class Effect(StrEnum):
    """What becomes of an object in ambient."""

    LOST = "lost"
    """It does nothing any more, or denies what it allowed: nobody moves past it without a word."""
    CHANGED = "changed"
    """It means something else, or nothing that protects."""


@dataclass(frozen=True, slots=True)
class Row:
    """One object that the move would change."""

    ref: Ref
    effect: Effect
    reason: str
    remedy: str

    def document(self) -> dict[str, str]:
        return {
            "object": str(self.ref),
            "effect": self.effect,
            "reason": self.reason,
            "remedy": self.remedy,
        }

    def __str__(self) -> str:
        return f"{self.ref} ({self.effect}): {self.reason}; {self.remedy}"


@dataclass(frozen=True, slots=True)
class Scene:
    """What was read for a report."""

    sight: Sight
    objects: Mapping[Ref, KubeObject] = field(default_factory=dict)


async def read_scene(cluster: Connection, namespaces: Sequence[str], *, root: str) -> Scene:
    """The namespaces, and what of Istio's configuration is about them: their own, and that of the
    mesh's namespace `root`."""
    homes = [*namespaces, *(() if root in namespaces else (root,))]
    wanted = [(kind, home) for home in homes for kind in _KINDS]
    sight = await see(cluster, list(namespaces))
    found = await asyncio.gather(*(cluster.objects(*kind, home) for kind, home in wanted))
    return Scene(sight, {ref: obj for each in found for ref, obj in each.items()})


def report(request: AmbientRequest, scene: Scene) -> list[Row]:
    """The rows, those that are lost first. A waypoint in the request mends what needs one."""
    has_waypoint = request.options.waypoint is not None
    rows: list[Row] = []
    for ref, obj in scene.objects.items():
        is_own = ref.namespace in request.options.namespaces
        judge = _JUDGES.get(ref.kind)
        if judge is None or not (is_own or ref.kind in _MESH_WIDE):
            continue
        found = judge(obj, has_waypoint)
        if found is not None:
            rows.append(Row(ref, *found))
    rows += _of_workloads(scene.sight)
    rows += _of_services(scene.sight, has_waypoint=has_waypoint)
    return sorted(rows, key=lambda row: (row.effect is not Effect.LOST, row.ref))


_Found = tuple[Effect, str, str] | None
_MESH_WIDE = frozenset(
    {"AuthorizationPolicy", "RequestAuthentication", "EnvoyFilter", "WasmPlugin", "Telemetry"}
)
"""Kinds that in the mesh's namespace are about all others."""
_ATTACH = "attach it by targetRefs to the Service or to the waypoint's Gateway"


def _authorization(obj: KubeObject, has_waypoint: bool) -> _Found:
    spec = _spec(obj)
    selected = (spec.get("selector") or {}).get("matchLabels") or {}
    if _is_attached(spec) or SIDECARS.items() <= selected.items():
        return None
    if reads_requests(spec):
        why = "it speaks of requests, which the ztunnel cannot read: its rule would deny"
        return Effect.LOST, why, _attached(has_waypoint)
    if has_waypoint and _names_callers(spec):
        why = "behind a waypoint the ztunnel sees the waypoint as the caller"
        return Effect.LOST, why, _ATTACH
    return None


def _of_requests(obj: KubeObject, has_waypoint: bool) -> _Found:
    if _is_attached(_spec(obj)):
        return None
    return Effect.LOST, "only a waypoint reads it, and only by targetRefs", _attached(has_waypoint)


def _telemetry(obj: KubeObject, has_waypoint: bool) -> _Found:
    spec = _spec(obj)
    if _is_attached(spec) or not (
        spec.get("tracing") or spec.get("accessLogging") or "metrics" in spec
    ):
        return None
    why = "the ztunnel tells of connections alone, and reads no Telemetry by labels"
    return Effect.CHANGED, why, _attached(has_waypoint)


def _peers(obj: KubeObject, has_waypoint: bool) -> _Found:
    spec = _spec(obj)
    modes = [(spec.get("mtls") or {}).get("mode")]
    modes += [(one or {}).get("mode") for one in (spec.get("portLevelMtls") or {}).values()]
    if "DISABLE" in modes:
        why = "ambient knows no DISABLE: the tunnel is used, and plain text is accepted"
        return Effect.CHANGED, why, "write PERMISSIVE, which says what will be"
    return None


def _virtual_service(obj: KubeObject, has_waypoint: bool) -> _Found:
    spec = _spec(obj)
    gateways = spec.get("gateways") or ["mesh"]
    if has_waypoint or "mesh" not in gateways or not (spec.get("http") or spec.get("tls")):
        return None
    return Effect.LOST, "its routes are a waypoint's, and there is none", _attached(True, own=True)


def _route(obj: KubeObject, has_waypoint: bool) -> _Found:
    parents = _spec(obj).get("parentRefs") or []
    if has_waypoint or not any(parent.get("kind") == "Service" for parent in parents):
        return None
    return Effect.LOST, "its routes are a waypoint's, and there is none", _attached(True, own=True)


def _destination(obj: KubeObject, has_waypoint: bool) -> _Found:
    spec = _spec(obj)
    policies = [spec.get("trafficPolicy") or {}]
    policies += [(one or {}).get("trafficPolicy") or {} for one in spec.get("subsets") or []]
    policies += [port for policy in policies for port in policy.get("portLevelSettings") or []]
    if any(
        (policy.get("tls") or {}).get("mode") not in (None, "ISTIO_MUTUAL") for policy in policies
    ):
        why = "the ztunnel sends through its own tunnel, whatever `tls` says"
        return Effect.CHANGED, why, "originate TLS at a waypoint or an egress gateway"
    if not has_waypoint and (spec.get("subsets") or any(policies)):
        why = "subsets, pools, outliers and balancing are a waypoint's, and there is none"
        return Effect.LOST, why, _attached(True, own=True)
    return None


def _of_sidecar(what: str, effect: Effect) -> Callable[[KubeObject, bool], _Found]:
    def judge(obj: KubeObject, has_waypoint: bool) -> _Found:
        if _is_attached(_spec(obj)):
            return None
        return (
            effect,
            f"{what} configures sidecars, and there will be none",
            "remove it, or say it another way",
        )

    return judge


def _job(obj: KubeObject, has_waypoint: bool) -> _Found:
    status = obj.get("status") or {}
    if obj["kind"] == "Job" and not status.get("active"):
        return None
    why = "nothing restarts it: pods that run keep their sidecars to their end"
    return Effect.CHANGED, why, "let it end; what comes after it is in ambient"


_JUDGES: Mapping[str, Callable[[KubeObject, bool], _Found]] = {
    "AuthorizationPolicy": _authorization,
    "RequestAuthentication": _of_requests,
    "WasmPlugin": _of_requests,
    "TrafficExtension": _of_requests,
    "Telemetry": _telemetry,
    "PeerAuthentication": _peers,
    "VirtualService": _virtual_service,
    "DestinationRule": _destination,
    "HTTPRoute": _route,
    "GRPCRoute": _route,
    "EnvoyFilter": _of_sidecar("an EnvoyFilter", Effect.LOST),
    "Sidecar": _of_sidecar("a Sidecar", Effect.CHANGED),
    "ProxyConfig": _of_sidecar("a ProxyConfig", Effect.CHANGED),
    "Job": _job,
    "CronJob": _job,
}


def _of_workloads(sight: Sight) -> Iterator[Row]:
    for ref, workload in sight.workloads.items():
        notes = template_notes(workload)
        spec = ((workload.get("spec") or {}).get("template") or {}).get("spec") or {}
        if notes.get(_INJECT) == "true" or istio.REVISION in template_labels(workload):
            why = "its template asks for a sidecar by itself, which goes before ambient"
            yield Row(ref, Effect.LOST, why, "take the label from its template")
        elif spec.get("hostNetwork"):
            why = "it is on the network of its node, which istio-cni leaves alone"
            yield Row(ref, Effect.CHANGED, why, "nothing is to be done: it has no sidecar either")
        elif notes.get(istio.DATAPLANE_MODE) == "none":
            why = "its template opts out of ambient: it would be out of the mesh"
            yield Row(ref, Effect.LOST, why, f"take {istio.DATAPLANE_MODE} from its template")
        else:
            told = sorted(n for n in notes if n.startswith(_OF_SIDECARS) and n != _INJECT)
            if told:
                why = f"{', '.join(told[:3])} of its template is for sidecars"
                yield Row(ref, Effect.CHANGED, why, "see whether it is needed, and remove it")


def _of_services(sight: Sight, *, has_waypoint: bool) -> Iterator[Row]:
    for ref, service in sight.services.items() if has_waypoint else ():
        if (service.get("spec") or {}).get("clusterIP") == "None":
            why = "it is headless: requests go to its pods, past a waypoint for Services"
            yield Row(ref, Effect.CHANGED, why, "use a waypoint for `all`")


def reads_requests(spec: Mapping[str, Any]) -> bool:
    """Whether an AuthorizationPolicy looks into requests, or asks somebody who does."""
    if spec.get("action") == "CUSTOM":
        return True
    for rule in spec.get("rules") or []:
        for to in rule.get("to") or []:
            fields = to.get("operation") or {}
            if any(
                fields.get(n) or fields.get(f"not{n.title()}")
                for n in ("methods", "paths", "hosts")
            ):
                return True
        for one in rule.get("from") or []:
            source = one.get("source") or {}
            if source.get("requestPrincipals") or source.get("notRequestPrincipals"):
                return True
        for one in rule.get("when") or []:
            if str(one.get("key")).startswith(_REQUEST_KEYS):
                return True
    return False


def _names_callers(spec: Mapping[str, Any]) -> bool:
    rules = spec.get("rules") or []
    return any(rule.get("from") for rule in rules) or any(
        str(one.get("key")).startswith("source.")
        for rule in rules
        for one in rule.get("when") or []
    )


def _is_attached(spec: Mapping[str, Any]) -> bool:
    return bool(spec.get("targetRefs") or spec.get("targetRef"))


def _attached(has_waypoint: bool, *, own: bool = False) -> str:
    if own:
        return "name a waypoint in the request"
    return _ATTACH if has_waypoint else f"name a waypoint in the request, and {_ATTACH}"


def _spec(obj: KubeObject) -> Mapping[str, Any]:
    spec = obj.get("spec")
    return spec if isinstance(spec, dict) else {}
