"""Proxies: their Sidecars and Telemetries, EnvoyFilters whose operations have no effect where they
stand or another one after an upgrade, and how they stand with their control plane."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from services.topology.analysis.catalog import Rule, tell
from services.topology.analysis.findings import Finding
from services.topology.analysis.lenses import Lens
from services.topology.cluster import kinds
from services.topology.cluster.forms import part, parts, text
from services.topology.cluster.objects import Config, Istiod, Key, Pod, Proxy, Sync
from services.topology.mesh.images import is_supported
from services.topology.mesh.rejections import named_in
from services.topology.mesh.security import selector_of


def _sidecar(lens: Lens, sidecar: Config) -> Iterator[Finding]:
    if selector_of(sidecar) and sidecar.namespace == lens.mesh().root_namespace:
        message = "The mesh's default Sidecar has a selector."
        yield tell("KIA1006", sidecar.key, message, "spec.workloadSelector")
    policy = sidecar.spec.get("outboundTrafficPolicy")
    if isinstance(policy, dict) and not policy.get("mode"):
        message = "The outboundTrafficPolicy does not say its mode."
        yield tell("KIA1007", sidecar.key, message, "spec.outboundTrafficPolicy")


def _providers(lens: Lens, telemetry: Config) -> Iterator[Finding]:
    if part(lens.mesh().config, "defaultProviders").get("accessLogging"):
        return
    for index, logging in parts(telemetry.spec, "accessLogging"):
        if not logging.get("disabled") and not logging.get("providers"):
            message = "Access logging names no provider, and the mesh has no default one."
            path = f"spec.accessLogging[{index}].providers"
            yield tell("IST0157", telemetry.key, message, path)


# --- EnvoyFilters ---------------------------------------------------------------------------------


_ROUTES = ("ROUTE_CONFIGURATION", "HTTP_ROUTE")
_REPLACEABLE = ("NETWORK_FILTER", "HTTP_FILTER", "VIRTUAL_HOST")
_RELATIVE = ("REMOVE", "REPLACE", "INSERT_BEFORE", "INSERT_AFTER")


def _patches(lens: Lens, config: Config) -> Iterator[Finding]:
    for index, patch in _listed(config):
        path = f"spec.configPatches[{index}].patch.operation"
        operation, where = text(part(patch, "patch"), "operation"), text(patch, "applyTo")
        if operation == "ADD" and where in _ROUTES:
            yield tell("IST0153", config.key, f"ADD is ignored for {where}.", path)
        elif operation == "REMOVE" and where in _ROUTES:
            yield tell("IST0154", config.key, f"REMOVE is ignored for {where}.", path)
        elif operation == "REPLACE" and where not in _REPLACEABLE:
            yield tell("IST0152", config.key, f"REPLACE does not work for {where}.", path)
        elif operation in _RELATIVE and not config.spec.get("priority"):
            if _depends_on_version(lens, config, index, _target(patch)):
                message = f"{operation} without a priority, next to a patch with a proxyVersion."
                yield tell("IST0155", config.key, message, path)
            else:
                yield tell("IST0151", config.key, f"{operation} without a priority.", path)


def _listed(config: Config) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """The patches up to one that says no operation: istioctl stops there."""
    found = config.spec.get("configPatches")
    for index, patch in enumerate(found if isinstance(found, list) else ()):
        if not isinstance(patch, dict) or not isinstance(patch.get("patch"), dict):
            return
        yield index, patch


def _target(patch: Mapping[str, Any]) -> str:
    """The filter that a patch is about, as istioctl tells them apart; "" where it says none."""
    value = part(patch, "patch", "value")
    if not value:
        return ""
    if "name" in value:
        return json.dumps(value["name"], sort_keys=True)
    return text(part(patch, "match", "listener", "filterChain", "filter"), "name")


def _depends_on_version(lens: Lens, config: Config, index: int, target: str) -> bool:
    """Whether a patch before this one, or of another EnvoyFilter, is about the same filter and for
    one proxy version. istioctl knows just those of the others that it happened to see before."""
    for place, patch in _listed(config):
        if place < index and _has_version(patch) and _target(patch) == target:
            return True
    return any(
        _has_version(patch) and _target(patch) == target
        for other in lens.all(kinds.ENVOY_FILTER)
        if other.key != config.key
        for _, patch in _listed(other)
    )


def _has_version(patch: Mapping[str, Any]) -> bool:
    return bool(text(part(patch, "match", "proxy"), "proxyVersion"))


# --- the control plane ----------------------------------------------------------------------------

# Told of the workload that made the pods, so that all its pods make one finding; what a rejection
# names is told of that object as well.


def _proxy(lens: Lens, proxy: Proxy) -> Iterator[Finding]:
    pod: Pod | None = lens.get(kinds.POD, proxy.namespace, proxy.name)
    if pod is None:
        return
    owner = pod.owner or pod.key
    if proxy.is_lost:
        yield tell("MBS0103", owner, "No control plane of the cluster knows its proxies.")
    stale = [one.type for one in proxy.configured if one.sync is Sync.STALE]
    if stale:
        message = f"Its proxies have not acknowledged {', '.join(stale)} for over a minute."
        yield tell("MBS0101", owner, message)
    yield from _rejections(lens, proxy, pod, owner)
    if not is_supported(proxy.version, proxy.istiod_version):
        message = (
            f"Its proxies are of version {proxy.version}, their control plane of "
            f"{proxy.istiod_version}."
        )
        yield tell("MBS0104", owner, message)
    if proxy.is_expiring:
        message = "The certificate of its proxies ends within minutes and has not been renewed."
        yield tell("MBS0105", owner, message)


def _istiod(lens: Lens, istiod: Istiod) -> Iterator[Finding]:
    pod: Pod | None = lens.get(kinds.POD, istiod.namespace, istiod.name)
    if pod is not None and istiod.fails_pushes:
        message = "It has failed to make or to send configuration within the last minutes."
        yield tell("MBS0107", pod.owner or pod.key, message)


def _rejections(lens: Lens, proxy: Proxy, pod: Pod, owner: Key) -> Iterator[Finding]:
    for one in proxy.configured:
        if one.sync is not Sync.REJECTED:
            continue
        named = named_in(
            lens,
            one.error,
            namespace=pod.namespace,
            pod_labels=pod.pod_labels,
            root=lens.mesh().root_namespace,
        )
        about = f" ({', '.join(map(str, named))})" if named else ""
        message = f"Its proxies reject {one.type}{about}: {one.error}"
        yield tell("MBS0102", owner, message)
        for key in named:
            yield tell("MBS0106", key, f"Proxies reject {one.type} for it: {one.error}")


RULES = (
    Rule(finds=("KIA1006", "KIA1007"), kinds=(kinds.SIDECAR,), check=_sidecar),
    Rule(finds=("IST0157",), kinds=(kinds.TELEMETRY,), check=_providers),
    Rule(
        finds=("IST0151", "IST0152", "IST0153", "IST0154", "IST0155"),
        kinds=(kinds.ENVOY_FILTER,),
        check=_patches,
    ),
    Rule(
        finds=("MBS0101", "MBS0102", "MBS0103", "MBS0104", "MBS0105", "MBS0106"),
        kinds=(kinds.PROXY,),
        check=_proxy,
    ),
    Rule(finds=("MBS0107",), kinds=(kinds.ISTIOD,), check=_istiod),
)
