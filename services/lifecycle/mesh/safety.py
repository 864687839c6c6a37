"""What a change would take away from under those who use the mesh: refused unless forced.

Read from the cluster just before the first write. Nothing here guards against what comes after.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import orjson

from services.chassis.kube.objects import KubeObject, Ref, labels_of
from services.chassis.reading.yamls import read_yaml
from services.lifecycle.cluster import istio
from services.lifecycle.cluster.connections import Connection, Found
from services.lifecycle.cluster.facts import configuration
from services.lifecycle.manifests.objects import PlannedObject, listing
from services.lifecycle.mesh.prechecks import Findings
from services.lifecycle.mesh.requests import MeshRequest

_MESHED = "security.istio.io/tlsMode=istio"
"""Label of pods that injection has given a sidecar."""
_GATEWAY = ("networking.istio.io", "Gateway")
_SETTINGS = "istio"
"""Names of a mesh's ConfigMaps begin so, the injector's, too."""
_INJECTOR = "istio-sidecar-injector"
_IDENTITY = {
    "meshID": ("global", "meshID"),
    "network": ("global", "network"),
    "cluster name": ("global", "multiCluster", "clusterName"),
}
"""Of the injector's values; each is part of what proxies and other clusters know a mesh by."""


async def check_pruned(connection: Connection, stale: Sequence[Found]) -> Findings:
    """Refuses to prune a gateway's workload while Gateways choose it."""
    doomed = [found for found in stale if _is_gateway_workload(found)]
    if not doomed:
        return Findings()
    workloads = await asyncio.gather(*(connection.get(found.ref) for found in doomed))
    gateways = [
        obj
        for obj in await configuration(connection)
        if Ref.of(obj).group_kind == _GATEWAY and isinstance(obj.get("spec"), dict)
    ]
    refusals = []
    for found, workload in zip(doomed, workloads, strict=True):
        users = [Ref.of(one) for one in gateways if workload and _chooses(one, workload)]
        if users:
            refusals.append(f"{found.ref} would be pruned, and {_used_by(users)} it")
    return Findings(refusals=refusals)


async def check_last(connection: Connection, revisions: Iterable[str]) -> Findings:
    """Refuses to remove the last control plane while pods have its sidecars."""
    pods = await connection.select([("", "Pod")], selector=_MESHED)
    if not pods:
        return Findings()
    names = ", ".join(revisions) or "the mesh"
    where = listing([pod.ref for pod in pods])
    text = f"pods have its sidecars ({where}), and nothing would configure them when it is gone"
    return Findings(refusals=[f"revision {names}: {text}"])


async def with_identity(
    connection: Connection, request: MeshRequest, *, revision: str
) -> MeshRequest:
    """The request, with what proxies and other clusters know `revision` by where it says nothing: a
    revision beside it that had another network or trust domain would be another mesh."""
    suffix = "" if revision == istio.DEFAULT_REVISION else f"-{revision}"
    injector, settings = await asyncio.gather(
        *(
            connection.get(Ref("v1", "ConfigMap", request.namespace, f"{name}{suffix}"))
            for name in (_INJECTOR, _SETTINGS)
        )
    )
    overlay = copy.deepcopy(request.overlay)
    for path in _IDENTITY.values():
        _default(overlay, ("values", *path), _text(_document(injector or {}, "values"), path))
    domain = _text(_document(settings or {}, "mesh"), ("trustDomain",))
    _default(overlay, ("meshConfig", "trustDomain"), domain)
    return replace(request, overlay=overlay)


def _default(overlay: dict[str, Any], path: Sequence[str], value: str) -> None:
    """Sets a field that is not there; a place that is no mapping is left for istioctl to refuse."""
    if not value:
        return
    place: Any = overlay
    for step in path[:-1]:
        place = place.setdefault(step, {}) if isinstance(place, dict) else None
    if isinstance(place, dict):
        place.setdefault(path[-1], value)


async def check_identity(connection: Connection, planned: Iterable[PlannedObject]) -> Findings:
    """Refuses to change what proxies and other clusters know a mesh by."""
    settings = [
        one for one in planned if one.ref.kind == "ConfigMap" and one.ref.name.startswith(_SETTINGS)
    ]
    live = await asyncio.gather(*(connection.get(one.ref) for one in settings))
    return Findings(
        refusals=[
            f"the mesh's {name} would change from {was or '(none)'} to {will or '(none)'}"
            for one, before in zip(settings, live, strict=True)
            if before is not None
            for name, was, will in _identity_changes(one.ref.name, before, orjson.loads(one.body))
        ]
    )


def _identity_changes(
    name: str, before: KubeObject, after: KubeObject
) -> Iterator[tuple[str, str, str]]:
    if f"{name}-".startswith(f"{_INJECTOR}-"):
        was, will = _document(before, "values"), _document(after, "values")
        for what, path in _IDENTITY.items():
            pair = _text(was, path), _text(will, path)
            if pair[0] != pair[1]:
                yield what, *pair
    elif f"{name}-".startswith(f"{_SETTINGS}-"):
        was, will = _document(before, "mesh"), _document(after, "mesh")
        # Istio's default, where it is silent.
        pair = (
            _text(was, ("trustDomain",)) or "cluster.local",
            _text(will, ("trustDomain",)) or "cluster.local",
        )
        if pair[0] != pair[1]:
            yield "trustDomain", *pair


def _document(config_map: KubeObject, name: str) -> Any:
    return read_yaml((config_map.get("data") or {}).get(name) or "")


def _text(document: Any, path: Sequence[str]) -> str:
    for step in path:
        document = document.get(step) if isinstance(document, dict) else None
    return "" if document is None else str(document)


def _is_gateway_workload(found: Found) -> bool:
    return found.ref.kind == "Deployment" and found.labels.get(istio.COMPONENT) in istio.GATEWAYS


def _chooses(gateway: KubeObject, workload: KubeObject) -> bool:
    selector = gateway["spec"].get("selector") or {}
    own = labels_of(workload["spec"]["template"])
    return bool(selector) and all(own.get(name) == value for name, value in selector.items())


def _used_by(refs: Sequence[Ref]) -> str:
    first = str(refs[0])
    if len(refs) == 1:
        return f"{first} uses"
    return f"{first} and {len(refs) - 1} more use"
