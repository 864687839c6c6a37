"""EnvoyFilters: what a patch is for, and whether it could be one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

from services.translator.istio.patterns import Pattern
from services.translator.validity.names import check_selector
from services.translator.validity.parts import Part
from services.translator.validity.values import nanoseconds

_CLUSTERS = frozenset({"CLUSTER"})
_LISTENERS = frozenset({"LISTENER", "FILTER_CHAIN", "NETWORK_FILTER", "HTTP_FILTER"})
_ROUTES = frozenset({"ROUTE_CONFIGURATION", "VIRTUAL_HOST", "HTTP_ROUTE"})
_CHAINED = frozenset({"NETWORK_FILTER", "HTTP_FILTER"})
_MATCHES: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "cluster": _CLUSTERS,
        "listener": _LISTENERS,
        "routeConfiguration": _ROUTES,
        "waypoint": frozenset(),
    }
)
"""What a match is of; that of a waypoint needs the context WAYPOINT, which nothing is asked of."""
_MANAGER = frozenset(
    {"envoy.filters.network.http_connection_manager", "envoy.http_connection_manager"}
)
_FORMER_TYPE = re.compile(r"envoy\.(?:api\.v2\.|[\w.]+\.v[12](?:alpha\d*)?\.\w+\Z)")
_ROOTS = frozenset({"envoy", "udpa", "xds", "google", "istio"})
_TYPED: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "CLUSTER": ("transport_socket", "transportSocket"),
        "FILTER_CHAIN": ("transport_socket", "transportSocket"),
        "LISTENER": ("access_log", "accessLog"),
    }
    | dict.fromkeys(("NETWORK_FILTER", "HTTP_FILTER", "LISTENER_FILTER", "EXTENSION_CONFIG"), ("",))
)
"""Where what is patched has a `typed_config`: "" is the value itself."""
_CLUSTER_TYPES = frozenset({"STATIC", "STRICT_DNS", "LOGICAL_DNS", "EDS", "ORIGINAL_DST"})
_TYPED_BY_FILTER = ("typed_per_filter_config", "typedPerFilterConfig")
_CONFIGS = ("typed_config", "typedConfig")


def check_envoy_filter(obj: Part) -> None:
    """Its selector and patches; what a patch brings is judged as far as that needs no Envoy."""
    spec = obj["spec"]
    check_selector(spec["workloadSelector"], field="labels")
    for patch in spec["configPatches"]:
        _check_patch(patch)


def _check_patch(patch: Part) -> None:
    match = patch["match"]
    if match["context"].text == "WAYPOINT":
        return
    target = patch["applyTo"].text
    if target in ("", "INVALID"):
        patch["applyTo"].tell("patch-without-target")
        return
    if not patch["patch"]:
        patch["patch"].tell("patch-missing")
        return
    operation, value = patch["patch"]["operation"], patch["patch"]["value"]
    if operation.text in ("", "INVALID"):
        operation.tell("patch-without-operation")
        return
    if operation.text != "REMOVE" and not value:
        value.tell("patch-without-value")
        return
    version = match["proxy"]["proxyVersion"]
    if version.text and Pattern.of(version.text) is None:
        version.tell("expression-unreadable")
    _check_match(match, target)
    if value:
        _check_value(value, target)


def _check_match(match: Part, target: str) -> None:
    expected = next((known for known in _MATCHES.values() if target in known), None)
    for name, targets in _MATCHES.items():
        if match[name] and expected is not None and expected is not targets:
            match[name].tell("patch-match-of-other", target=target)
    _check_chain(match["listener"]["filterChain"]["filter"], target)


def _check_chain(chained: Part, target: str) -> None:
    if not chained or target not in _LISTENERS:
        return
    inner = chained["subFilter"]
    if target not in _CHAINED:
        chained.tell("patch-filter-ignored", target=target)
    if not chained["name"].text:
        chained["name"].tell("patch-filter-unnamed")
    elif not inner:
        return
    elif target != "HTTP_FILTER":
        inner.tell("patch-subfilter-of-network")
    elif chained["name"].text not in _MANAGER:
        chained["name"].tell("patch-subfilter-of-other")
    elif not inner["name"].text:
        inner["name"].tell("patch-filter-unnamed")


def _check_value(value: Part, target: str) -> None:
    """The types in what a patch brings; all else of it Envoy's own definitions would tell."""
    if not isinstance(value.value, dict):
        value.tell("patch-value-malformed")
        return
    if target != "BOOTSTRAP" and value["name"] and not isinstance(value["name"].value, str):
        value["name"].tell("patch-name-malformed")
    if target == "CLUSTER":
        _check_cluster(value)
    for field in _TYPED.get(target, ()):
        holder = value[field] if field else value
        for part in holder if isinstance(holder.value, list) else (holder,):
            for name in _CONFIGS:
                _check_type(part[name])
    for name in _TYPED_BY_FILTER if target in _ROUTES else ():
        for _, config in value[name].fields():
            _check_type(config)


def _check_cluster(cluster: Part) -> None:
    kind, timeout = cluster["type"], cluster["connect_timeout"]
    if isinstance(kind.value, str) and kind.text not in _CLUSTER_TYPES:
        kind.tell("cluster-type", type=kind.text or '""')
    if timeout and nanoseconds(timeout.text) is None:
        timeout.tell("time-unreadable", time=timeout.value)


def _check_type(config: Part) -> None:
    if not isinstance(config.value, dict):
        return
    url = config["@type"]
    name = url.text.rpartition("/")[2]
    if not url:
        config.tell("type-missing")
    elif _FORMER_TYPE.match(name):
        url.tell("type-former", type=url.text)
    elif name.partition(".")[0] not in _ROOTS:
        url.tell("type-unknown", type=url.text or '""')
