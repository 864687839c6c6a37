"""What an EnvoyFilter's patches bring and look for: names, types and fetched code."""

from __future__ import annotations

from typing import Any

from services.translator.extensions.filternames import (
    FORMER_NAMES,
    GONE_FILTERS,
    current_name,
    is_former_type,
)
from services.translator.istio.objects import at, inner, mapping, text, walked
from services.translator.reports import Path, Report

_FILTERS = frozenset({"NETWORK_FILTER", "HTTP_FILTER", "LISTENER_FILTER"})
_INSERTIONS = frozenset({"ADD", "INSERT_BEFORE", "INSERT_AFTER", "INSERT_FIRST", "REPLACE"})


def check_matched_names(report: Report, patch: dict[str, Any], *, path: Path) -> None:
    chain: Path = ("match", "listener", "filterChain", "filter")
    for place in (
        (*chain, "name"),
        (*chain, "subFilter", "name"),
        ("match", "listener", "listenerFilter"),
        ("match", "waypoint", "filter", "name"),
        ("match", "waypoint", "filter", "subFilter", "name"),
    ):
        name = text(at(patch, place[:-1]).get(str(place[-1])))
        if name in FORMER_NAMES:
            report.warning(
                (*path, *place),
                f"Envoy renamed {name}; Istio generates no filter of that name, so the patch "
                "finds nothing",
                rule="filter/former-name",
                remedy=f"write {FORMER_NAMES[name]}",
            )
        elif name in GONE_FILTERS:
            report.warning(
                (*path, *place),
                f"there is no filter {name} any more, so the patch finds nothing",
                rule="filter/gone",
                remedy=GONE_FILTERS[name],
            )


def check_value(report: Report, patch: dict[str, Any], *, path: Path) -> None:
    value = inner(patch, "patch").get("value")
    base: Path = (*path, "patch", "value")
    if text(patch.get("applyTo")) in _FILTERS:
        operation = text(inner(patch, "patch").get("operation"))
        _check_filter_body(report, mapping(value), path=base, operation=operation)
    for place, node in walked(value, base):
        _check_typed(report, node, path=place)
        _check_names(report, node, path=place)
        _check_remote(report, node, path=place)


def _check_filter_body(
    report: Report, value: dict[str, Any], *, path: Path, operation: str
) -> None:
    if operation not in _INSERTIONS or not value:
        return
    bodies = ("typed_config", "typedConfig", "config_discovery", "configDiscovery")
    if any(body in value for body in bodies):
        return
    report.error(
        path,
        "the filter has no typed_config; Envoy does not look filters up by their name",
        rule="filter/untyped",
        remedy="add typed_config with its @type",
    )


def _check_typed(report: Report, node: dict[str, Any], *, path: Path) -> None:
    for key in ("typed_config", "typedConfig"):
        if isinstance(node.get(key), dict) and not text(node[key].get("@type")):
            report.error(
                (*path, key),
                "has no @type, so it cannot be read",
                rule="filter/untyped",
                remedy="add @type, such as "
                "type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua",
            )
    for key in ("@type", "type_url", "typeUrl"):
        if is_former_type(text(node.get(key))):
            report.error(
                (*path, key),
                f"{text(node[key])[:128]} is of Envoy's v2 API, which no supported proxy has",
                rule="filter/former-type",
                remedy="write the type and its fields as Envoy's v3 API has them",
            )


def _check_names(report: Report, node: dict[str, Any], *, path: Path) -> None:
    name = text(node.get("name"))
    body = mapping(node.get("typed_config", node.get("typedConfig")))
    if name in FORMER_NAMES and body:
        report.info(
            (*path, "name"),
            f"Envoy renamed {name}; other patches find the filter only by the name given here",
            rule="filter/former-name",
            remedy=f"write {current_name(name, type_url=text(body.get('@type')))}",
        )
    for key in ("typed_per_filter_config", "typedPerFilterConfig"):
        for former in sorted(set(map(str, mapping(node.get(key)))) & set(FORMER_NAMES)):
            report.warning(
                (*path, key, former),
                f"Envoy renamed {former}; the settings reach no filter",
                rule="filter/former-name",
                remedy=f"write {FORMER_NAMES[former]}",
            )


def _check_remote(report: Report, node: dict[str, Any], *, path: Path) -> None:
    remote = mapping(node.get("remote"))
    if ("http_uri" in remote or "httpUri" in remote) and not text(remote.get("sha256")):
        report.warning(
            (*path, "remote"),
            "fetches code or data without a checksum: who controls the address changes the proxies",
            rule="filter/unpinned",
            remedy="set sha256",
        )
