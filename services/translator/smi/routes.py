"""HTTPRouteGroup, TCPRoute and UDPRoute of every version."""

from __future__ import annotations

import re
from typing import Any

from services.chassis.errors import shortened
from services.chassis.kube.objects import KubeObject
from services.translator.reports import Path
from services.translator.smi.fields import Fields
from services.translator.smi.models import HttpMatch, PortRoute, RouteGroup
from services.translator.smi.patterns import problem_of

METHODS = ("GET", "HEAD", "PUT", "POST", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH")
_ANY_METHOD = "*"
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,256}\Z")
_FLAT_VERSIONS = ("v1alpha1", "v1alpha2")


def read_route_group(obj: KubeObject, fields: Fields) -> RouteGroup:
    """An HTTPRouteGroup; its matches moved below `spec` in v1alpha3."""
    is_flat = fields.version in _FLAT_VERSIONS
    base: Path = () if is_flat else ("spec",)
    if not is_flat and obj.get("spec") is None and "matches" in obj:
        fields.error(
            ("matches",),
            f"stands beside spec, where {fields.version} does not look",
            remedy="move it below spec",
        )
        return RouteGroup(ref=fields.subject, matches=())
    holder = obj if is_flat else fields.mapping(obj.get("spec"), base)
    matches = [
        _read_match(fields.mapping(item, path), path, fields)
        for path, item in fields.items(holder, "matches", base, is_required=True)
    ]
    seen: set[str] = set()
    for match in matches:
        if match.name and match.name in seen:
            fields.error((*match.path, "name"), f"there is another match {shortened(match.name)}")
        seen.add(match.name)
    return RouteGroup(ref=fields.subject, matches=tuple(matches))


def _read_match(holder: dict[str, Any], path: Path, fields: Fields) -> HttpMatch:
    name = fields.text(holder, "name", path)
    pattern = holder.get("pathRegex")
    if pattern is not None:
        _check_pattern(pattern, (*path, "pathRegex"), fields)
    return HttpMatch(
        name=name,
        path_regex=pattern or None,
        methods=_read_methods(holder, path, fields),
        headers=_read_headers(holder, path, fields),
        path=path,
    )


def _check_pattern(pattern: Any, path: Path, fields: Fields) -> None:
    problem = problem_of(pattern) if isinstance(pattern, str) else "is not text"
    if problem:
        fields.error(path, problem, rule="regex")


def _read_methods(holder: dict[str, Any], path: Path, fields: Fields) -> tuple[str, ...]:
    methods = fields.names(holder, "methods", path)
    for method in methods:
        if method.name not in (*METHODS, _ANY_METHOD):
            fields.error(
                method.path,
                f"{shortened(method.name)} is no method of SMI",
                remedy=f"use * or one of {', '.join(METHODS)}",
            )
    names = {method.name for method in methods}
    return () if _ANY_METHOD in names else tuple(sorted(names))


def _read_headers(
    holder: dict[str, Any], path: Path, fields: Fields
) -> tuple[tuple[str, str], ...]:
    """Headers stand in a list of mappings or, since v1alpha4, in one mapping; all have to fit."""
    value = holder.get("headers")
    place = (*path, "headers")
    if value is None:
        return ()
    if fields.version == "v1alpha1":
        fields.error(place, "HTTPRouteGroup has headers only since v1alpha2")
        return ()
    if isinstance(value, dict):
        parts = [(place, value)]
    else:
        parts = [
            (at, fields.mapping(item, at)) for at, item in fields.items(holder, "headers", path)
        ]
    headers: list[tuple[str, str]] = []
    for at, part in parts:
        for name, pattern in part.items():
            _check_header(name, pattern, (*at, name), fields)
            headers.append((str(name).lower(), str(pattern)))
    return tuple(sorted(set(headers)))


def _check_header(name: str, pattern: Any, path: Path, fields: Fields) -> None:
    if not _HEADER_NAME.match(str(name)):
        fields.error(path, "is no name of a header")
    if pattern == "":
        fields.error(path, "is empty", rule="regex", remedy="write .* for any value")
    else:
        _check_pattern(pattern, path, fields)


def read_port_route(obj: KubeObject, fields: Fields) -> PortRoute:
    """A TCPRoute or a UDPRoute; before v1alpha4 a TCPRoute was empty and meant every port."""
    spec = obj.get("spec")
    matches = spec.get("matches") if isinstance(spec, dict) else None
    if spec is not None and not isinstance(spec, dict):
        fields.error(("spec",), "is not a mapping")
    if matches is None:
        return PortRoute(ref=fields.subject)
    path: Path = ("spec", "matches")
    if fields.version != "v1alpha4":
        fields.error(
            path,
            f"{fields.subject.kind} has ports only since v1alpha4, this is {fields.version}",
            remedy="write it as v1alpha4",
        )
    holder = fields.mapping(matches, path)
    ports = [fields.port(item, at) for at, item in fields.items(holder, "ports", path)]
    return PortRoute(
        ref=fields.subject,
        ports=tuple(sorted({port for port in ports if port is not None})),
        name=str(holder.get("name") or ""),
    )
