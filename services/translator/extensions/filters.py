"""Checks of EnvoyFilters: they patch what Istio generates, which each version may change.

Rules IST0151 to IST0155 are istioctl's (istio/istio, pkg/config/analysis/analyzers/envoyfilter);
names that Envoy renamed: Envoy's release notes of 1.14, which renamed the filters, and of later
versions, which removed some; how a version is matched: istiod's pilot/pkg/model/envoyfilter.go (an
RE2 search, not anchored).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from services.chassis.kube.objects import KubeObject
from services.translator.extensions.findings import tell
from services.translator.istio.objects import (
    at,
    entries,
    group_kind,
    inner,
    mapping,
    namespace_of,
    subject_of,
    text,
    walked,
)
from services.translator.istio.patterns import Pattern
from services.translator.istio.versions import minor_of
from services.translator.reports import Finding, Path, Report

_ROUTES = frozenset({"ROUTE_CONFIGURATION", "HTTP_ROUTE"})
_REPLACEABLE = frozenset({"NETWORK_FILTER", "HTTP_FILTER", "VIRTUAL_HOST"})
_RELATIVE = frozenset({"REMOVE", "REPLACE", "INSERT_BEFORE", "INSERT_AFTER"})
_FILTERS = frozenset({"NETWORK_FILTER", "HTTP_FILTER", "LISTENER_FILTER"})
_INSERTIONS = frozenset({"ADD", "INSERT_BEFORE", "INSERT_AFTER", "INSERT_FIRST", "REPLACE"})
_CONFIGS = ("typed_config", "typedConfig")
_BODIES = frozenset({*_CONFIGS, "config_discovery", "configDiscovery"})
_CHAIN: Path = ("match", "listener", "filterChain", "filter")
_MATCHED_NAMES: tuple[Path, ...] = (
    (*_CHAIN, "name"),
    (*_CHAIN, "subFilter", "name"),
    ("match", "listener", "listenerFilter"),
    ("match", "waypoint", "filter", "name"),
    ("match", "waypoint", "filter", "subFilter", "name"),
)
# A pattern that finds both of these tells no versions apart.
_PROBES = ("0.0.1", "9.9.9")

_HTTP = (
    *("buffer", "cors", "csrf", "ext_authz", "fault", "grpc_http1_bridge", "grpc_json_transcoder"),
    *("grpc_web", "gzip", "health_check", "ip_tagging", "lua", "router"),
)
_NETWORK = (
    *("client_ssl_auth", "echo", "http_connection_manager", "mongo_proxy", "ratelimit"),
    *("redis_proxy", "tcp_proxy"),
)
_LISTENER = ("http_inspector", "original_dst", "original_src", "proxy_protocol", "tls_inspector")

_FORMER_NAMES: Mapping[str, str] = MappingProxyType(
    {f"envoy.{name}": f"envoy.filters.http.{name}" for name in _HTTP}
    | {f"envoy.{name}": f"envoy.filters.network.{name}" for name in _NETWORK}
    | {f"envoy.listener.{name}": f"envoy.filters.listener.{name}" for name in _LISTENER}
    | {
        "envoy.http_dynamo_filter": "envoy.filters.http.dynamo",
        "envoy.rate_limit": "envoy.filters.http.ratelimit",
    }
)
"""Former name to today's."""

# Former names of which an HTTP and a network filter each had one that was used for the other too.
_TWOFOLD = frozenset({"envoy.ext_authz", "envoy.rate_limit", "envoy.ratelimit"})

_GONE_FILTERS: Mapping[str, str] = MappingProxyType(
    {
        "istio_authn": "Istio checks tokens in envoy.filters.http.jwt_authn now",
        "mixer": "Istio 1.8 removed Mixer: use Telemetry, AuthorizationPolicy and WasmPlugin",
        "envoy.filters.http.squash": "Envoy removed it without a successor",
        "envoy.squash": "Envoy removed it without a successor",
    }
)
"""Name to remedy."""

# Istio's own types start with `istio.` and keep their v2alpha1.
_FORMER_TYPE = re.compile(
    r"type\.googleapis\.com/envoy\.(api\.v2\.|[\w.]+\.v[12](alpha\d*)?\.\w+\Z)"
)


def check_filter(
    obj: KubeObject, *, target: str | None, root_namespace: str = "istio-system"
) -> list[Finding]:
    """Reports errors and fragile parts of an EnvoyFilter; other objects have no findings.

    `target` is the version that the proxies will have, such as 1.31.0; without one, patterns of
    versions are only checked for themselves. Raises `OptionsMalformed` when it is no version.
    """
    if group_kind(obj) != ("networking.istio.io", "EnvoyFilter"):
        return []
    report = Report(subject_of(obj))
    spec = inner(obj, "spec")
    for field, successor in (("filters", "configPatches"), ("workloadLabels", "workloadSelector")):
        if field in spec:
            tell(report, "former-form", ("spec", field), successor=successor)
    _check_scope(report, spec, is_root=namespace_of(obj) == root_namespace)
    versioned: set[str] = set()
    for index, patch in entries(spec.get("configPatches")):
        path = ("spec", "configPatches", index)
        _check_operation(report, spec, patch, path=path, versioned=versioned)
        _check_versions(report, patch, path=path, target=target)
        _check_matched_names(report, patch, path=path)
        _check_value(report, patch, path=path)
        if _version_pattern(patch):
            versioned.add(_patched_name(patch))
    return report.findings


def _check_scope(report: Report, spec: dict[str, Any], *, is_root: bool) -> None:
    references = spec.get("targetRefs")
    if spec.get("workloadSelector") is not None and references:
        tell(report, "two-scopes", ("spec", "targetRefs"))
    if not references and not inner(spec, "workloadSelector", "labels"):
        tell(report, "mesh-wide" if is_root else "namespace-wide", ("spec",))


def _check_operation(
    report: Report, spec: dict[str, Any], patch: dict[str, Any], *, path: Path, versioned: set[str]
) -> None:
    operation = text(inner(patch, "patch").get("operation"))
    target = text(patch.get("applyTo"))
    place: Path = (*path, "patch", "operation")
    if operation in ("ADD", "REMOVE") and target in _ROUTES:
        tell(report, f"{operation.lower()}-ignored", place, target=target)
    elif operation == "REPLACE" and target not in _REPLACEABLE:
        replaceable = ", ".join(sorted(_REPLACEABLE))
        tell(report, "replace-ignored", place, replaceable=replaceable, target=target or "nothing")
    elif operation in _RELATIVE and not spec.get("priority"):
        is_versioned = _patched_name(patch) in versioned
        name = "relative-to-versioned" if is_versioned else "relative"
        tell(report, name, place, operation=operation)


def _patched_name(patch: dict[str, Any]) -> str:
    """The name of the filter that a patch brings or, without one, changes."""
    name = text(inner(patch, "patch", "value").get("name"))
    return name or text(inner(patch, "match", "listener", "filterChain", "filter").get("name"))


def _version_pattern(patch: dict[str, Any]) -> str:
    return text(inner(patch, "match", "proxy").get("proxyVersion"))


def _check_versions(
    report: Report, patch: dict[str, Any], *, path: Path, target: str | None
) -> None:
    pattern = _version_pattern(patch)
    if not pattern:
        return
    place: Path = (*path, "match", "proxy", "proxyVersion")
    compiled = Pattern.of(pattern)
    if compiled is None:
        tell(report, "version-unreadable", place)
    elif all(compiled.finds(probe) for probe in _PROBES):
        tell(report, "version-any", place)
    elif target is not None and not compiled.finds(_full(target)):
        tell(report, "version-differs", place, target=target)


def _full(version: str) -> str:
    minor_of(version)
    return version if version.count(".") > 1 else f"{version}.0"


def _check_matched_names(report: Report, patch: dict[str, Any], *, path: Path) -> None:
    for place in _MATCHED_NAMES:
        name = text(at(patch, place[:-1]).get(str(place[-1])))
        if name in _FORMER_NAMES:
            current = _FORMER_NAMES[name]
            tell(report, "matched-former-name", (*path, *place), former=name, current=current)
        elif name in _GONE_FILTERS:
            successor = _GONE_FILTERS[name]
            tell(report, "matched-gone-filter", (*path, *place), name=name, successor=successor)


def _check_value(report: Report, patch: dict[str, Any], *, path: Path) -> None:
    base: Path = (*path, "patch", "value")
    if _brings_filter(patch) and not inner(patch, "patch", "value").keys() & _BODIES:
        tell(report, "no-typed-config", base)
    for place, node in walked(inner(patch, "patch").get("value"), base):
        _check_types(report, node, path=place)
        _check_names(report, node, path=place)
        remote = mapping(node.get("remote"))
        is_fetched = "http_uri" in remote or "httpUri" in remote
        if is_fetched and not text(remote.get("sha256")):
            tell(report, "remote-unpinned", (*place, "remote"))


def _brings_filter(patch: dict[str, Any]) -> bool:
    """Whether the patch adds a whole filter."""
    operation = text(inner(patch, "patch").get("operation"))
    is_filter = text(patch.get("applyTo")) in _FILTERS
    return is_filter and operation in _INSERTIONS and bool(inner(patch, "patch", "value"))


def _check_types(report: Report, node: dict[str, Any], *, path: Path) -> None:
    for key in _CONFIGS:
        if isinstance(node.get(key), dict) and not text(node[key].get("@type")):
            tell(report, "no-type", (*path, key))
    for key in ("@type", "type_url", "typeUrl"):
        url = text(node.get(key))
        if _is_former_type(url):
            tell(report, "former-type", (*path, key), type=url[:128])


def _check_names(report: Report, node: dict[str, Any], *, path: Path) -> None:
    name = text(node.get("name"))
    body = mapping(node.get("typed_config", node.get("typedConfig")))
    if name in _FORMER_NAMES and body:
        current = _current_name(name, type_url=text(body.get("@type")))
        tell(report, "given-former-name", (*path, "name"), former=name, current=current)
    for key in ("typed_per_filter_config", "typedPerFilterConfig"):
        for former in sorted(set(map(str, mapping(node.get(key)))) & set(_FORMER_NAMES)):
            current = _FORMER_NAMES[former]
            tell(report, "route-former-name", (*path, key, former), former=former, current=current)


def _current_name(former: str, *, type_url: str) -> str:
    """Today's name of a filter with a former name; its type decides between two filters."""
    name = _FORMER_NAMES[former]
    if former in _TWOFOLD and ".filters." in type_url:
        sort = type_url.partition(".filters.")[2].partition(".")[0]
        return f"envoy.filters.{sort}.{name.rpartition('.')[2]}"
    return name


def _is_former_type(url: str) -> bool:
    """Whether a type URL is of Envoy's v2 API."""
    return _FORMER_TYPE.match(url) is not None
