"""HTTPRouteGroup, TCPRoute and UDPRoute of every version."""

from __future__ import annotations

import re
from typing import Any

from services.chassis.errors import shortened
from services.chassis.kube.objects import KubeObject
from services.translator.reports import Path, Report
from services.translator.smi.fields import SpecFields
from services.translator.smi.models import HttpMatch, PortRoute, RouteGroup
from services.translator.smi.patterns import problem_of

METHODS = ("GET", "HEAD", "PUT", "POST", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH")
_ANY_METHOD = "*"
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,256}\Z")
_FLAT_VERSIONS = ("v1alpha1", "v1alpha2")


def read_route_group(obj: KubeObject, report: Report) -> RouteGroup:
    """An HTTPRouteGroup; its matches moved below `spec` in v1alpha3."""
    version = report.subject.api_version.rpartition("/")[2]
    is_flat = version in _FLAT_VERSIONS
    if not is_flat and obj.get("spec") is None and "matches" in obj:
        report.error(
            ("matches",),
            f"stands beside spec, where {version} does not look",
            remedy="move it below spec",
        )
        return RouteGroup(ref=report.subject, matches=())
    if is_flat:
        holder = SpecFields(obj, (), report)
    else:
        holder = SpecFields.of(obj.get("spec"), ("spec",), report)
    matches = [_read_match(item) for item in holder.mappings("matches", is_required=True)]
    seen: set[str] = set()
    for match in matches:
        if match.name and match.name in seen:
            report.error((*match.path, "name"), f"there is another match {shortened(match.name)}")
        seen.add(match.name)
    return RouteGroup(ref=report.subject, matches=tuple(matches))


def _read_match(match: SpecFields) -> HttpMatch:
    name = match.text("name")
    pattern = match.value.get("pathRegex")
    if pattern is not None:
        _check_pattern(pattern, (*match.path, "pathRegex"), match.report)
    return HttpMatch(
        name=name,
        path_regex=pattern or None,
        methods=_read_methods(match),
        headers=_read_headers(match),
        path=match.path,
    )


def _check_pattern(pattern: Any, path: Path, report: Report) -> None:
    problem = problem_of(pattern) if isinstance(pattern, str) else "is not text"
    if problem:
        report.error(path, problem, rule="regex")


def _read_methods(match: SpecFields) -> tuple[str, ...]:
    methods = match.names("methods")
    for method in methods:
        if method.name not in (*METHODS, _ANY_METHOD):
            match.report.error(
                method.path,
                f"{shortened(method.name)} is no method of SMI",
                remedy=f"use * or one of {', '.join(METHODS)}",
            )
    names = {method.name for method in methods}
    return () if _ANY_METHOD in names else tuple(sorted(names))


def _read_headers(match: SpecFields) -> tuple[tuple[str, str], ...]:
    """Headers stand in a list of mappings or, since v1alpha4, in one mapping; all have to fit."""
    value = match.value.get("headers")
    if value is None:
        return ()
    if match.version == "v1alpha1":
        match.error("headers", "HTTPRouteGroup has headers only since v1alpha2")
        return ()
    parts = [match.inner("headers")] if isinstance(value, dict) else match.mappings("headers")
    headers: set[tuple[str, str]] = set()
    for part in parts:
        for name, pattern in part.value.items():
            _check_header(name, pattern, (*part.path, name), match.report)
            headers.add((str(name).lower(), str(pattern)))
    return tuple(sorted(headers))


def _check_header(name: str, pattern: Any, path: Path, report: Report) -> None:
    if not _HEADER_NAME.match(str(name)):
        report.error(path, "is no name of a header")
    if pattern == "":
        report.error(path, "is empty", rule="regex", remedy="write .* for any value")
    else:
        _check_pattern(pattern, path, report)


def read_port_route(obj: KubeObject, report: Report) -> PortRoute:
    """A TCPRoute or a UDPRoute; before v1alpha4 a TCPRoute was empty and meant every port."""
    spec = obj.get("spec")
    if spec is not None and not isinstance(spec, dict):
        report.error(("spec",), "is not a mapping")
    matches = spec.get("matches") if isinstance(spec, dict) else None
    if matches is None:
        return PortRoute(ref=report.subject)
    path: Path = ("spec", "matches")
    kind, version = report.subject.kind, report.subject.api_version.rpartition("/")[2]
    if version != "v1alpha4":
        report.error(
            path,
            f"{kind} has ports only since v1alpha4, this is {version}",
            remedy="write it as v1alpha4",
        )
    holder = SpecFields.of(matches, path, report)
    ports = {holder.port(item, at) for at, item in holder.items("ports")}
    return PortRoute(
        ref=report.subject,
        ports=tuple(sorted(port for port in ports if port is not None)),
        name=str(holder.value.get("name") or ""),
    )
