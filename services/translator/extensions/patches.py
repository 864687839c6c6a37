"""What an EnvoyFilter's patches bring and look for: names, types and fetched code."""

from __future__ import annotations

from typing import Any

from services.chassis.kube.objects import KubeObject
from services.translator.extensions.filternames import (
    FORMER_NAMES,
    GONE_FILTERS,
    current_name,
    is_former_type,
)
from services.translator.findings import Finding, Level, Path
from services.translator.istio.reading import at, inner, mapping, subject_of, text, walked

_FILTERS = frozenset({"NETWORK_FILTER", "HTTP_FILTER", "LISTENER_FILTER"})
_INSERTIONS = frozenset({"ADD", "INSERT_BEFORE", "INSERT_AFTER", "INSERT_FIRST", "REPLACE"})


class Checks:
    """The findings about one EnvoyFilter so far."""

    def __init__(self, obj: KubeObject) -> None:
        self.found: list[Finding] = []
        self._subject = subject_of(obj)

    def tell(self, level: Level, rule: str, path: Path, message: str, remedy: str = "") -> None:
        self.found.append(
            Finding(
                level=level,
                rule=rule,
                subject=self._subject,
                path=path,
                message=message,
                remedy=remedy,
            )
        )


def check_matched_names(checks: Checks, patch: dict[str, Any], *, path: Path) -> None:
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
            checks.tell(
                Level.WARNING,
                "filter/former-name",
                (*path, *place),
                f"Envoy renamed {name}; Istio generates no filter of that name, so the patch "
                "finds nothing",
                f"write {FORMER_NAMES[name]}",
            )
        elif name in GONE_FILTERS:
            checks.tell(
                Level.WARNING,
                "filter/gone",
                (*path, *place),
                f"there is no filter {name} any more, so the patch finds nothing",
                GONE_FILTERS[name],
            )


def check_value(checks: Checks, patch: dict[str, Any], *, path: Path) -> None:
    value = inner(patch, "patch").get("value")
    base: Path = (*path, "patch", "value")
    if text(patch.get("applyTo")) in _FILTERS:
        operation = text(inner(patch, "patch").get("operation"))
        _check_filter_body(checks, mapping(value), path=base, operation=operation)
    for place, node in walked(value, base):
        _check_typed(checks, node, path=place)
        _check_names(checks, node, path=place)
        _check_remote(checks, node, path=place)


def _check_filter_body(
    checks: Checks, value: dict[str, Any], *, path: Path, operation: str
) -> None:
    if operation not in _INSERTIONS or not value:
        return
    bodies = ("typed_config", "typedConfig", "config_discovery", "configDiscovery")
    if any(body in value for body in bodies):
        return
    checks.tell(
        Level.ERROR,
        "filter/untyped",
        path,
        "the filter has no typed_config; Envoy does not look filters up by their name",
        "add typed_config with its @type",
    )


def _check_typed(checks: Checks, node: dict[str, Any], *, path: Path) -> None:
    for key in ("typed_config", "typedConfig"):
        if isinstance(node.get(key), dict) and not text(node[key].get("@type")):
            checks.tell(
                Level.ERROR,
                "filter/untyped",
                (*path, key),
                "has no @type, so it cannot be read",
                "add @type, such as type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua",
            )
    for key in ("@type", "type_url", "typeUrl"):
        if is_former_type(text(node.get(key))):
            checks.tell(
                Level.ERROR,
                "filter/former-type",
                (*path, key),
                f"{text(node[key])[:128]} is of Envoy's v2 API, which no supported proxy has",
                "write the type and its fields as Envoy's v3 API has them",
            )


def _check_names(checks: Checks, node: dict[str, Any], *, path: Path) -> None:
    name = text(node.get("name"))
    body = mapping(node.get("typed_config", node.get("typedConfig")))
    if name in FORMER_NAMES and body:
        checks.tell(
            Level.INFO,
            "filter/former-name",
            (*path, "name"),
            f"Envoy renamed {name}; other patches find the filter only by the name given here",
            f"write {current_name(name, type_url=text(body.get('@type')))}",
        )
    for key in ("typed_per_filter_config", "typedPerFilterConfig"):
        for former in sorted(set(map(str, mapping(node.get(key)))) & set(FORMER_NAMES)):
            checks.tell(
                Level.WARNING,
                "filter/former-name",
                (*path, key, former),
                f"Envoy renamed {former}; the settings reach no filter",
                f"write {FORMER_NAMES[former]}",
            )


def _check_remote(checks: Checks, node: dict[str, Any], *, path: Path) -> None:
    remote = mapping(node.get("remote"))
    if ("http_uri" in remote or "httpUri" in remote) and not text(remote.get("sha256")):
        checks.tell(
            Level.WARNING,
            "filter/unpinned",
            (*path, "remote"),
            "fetches code or data without a checksum: who controls the address changes the proxies",
            "set sha256",
        )
