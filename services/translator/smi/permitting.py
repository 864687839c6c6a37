"""The rules of a TrafficTarget as rules of an AuthorizationPolicy.

An HTTP match is an operation (methods, paths, ports) or, with headers, a rule of its own: `when`
conditions hold for a whole rule. Ports of TCPRoutes narrow HTTP matches instead of standing beside
them: beside them, a TCPRoute for all ports would undo every path.

AuthorizationPolicies know no regular expressions (istiod, `pilot/pkg/security/authz`): paths are
exact, `/x*`, `*/x` or templates with `{*}` and `{**}`; header values exact, prefix, suffix or `*`
for presence. What is not exactly one of these, or several of them, is refused: a wider rule would
open what the target does not name, and a narrower one would break what it does.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from services.chassis.errors import shortened
from services.translator.reports import Report
from services.translator.smi.models import (
    HOST,
    HttpMatch,
    Key,
    Kind,
    PortRoute,
    RouteGroup,
    Rule,
    Surroundings,
    Target,
)
from services.translator.smi.patterns import Glob, Wild, path_globs, value_globs

_ONE = "{*}"
_REST = "{**}"
_LITERAL = re.compile(r"[A-Za-z0-9\-._~%!$&'()+,;:@=]+\Z")
_PATHS_TAKEN = (
    "paths such as /x, /x$, /x/.*, .*\\.js$, /x(/.*)?$ or /x/[^/]+/y$, and alternatives of them"
)
_VALUES_TAKEN = "values such as text, text.*, .*text or .*, and alternatives of them"


@dataclass(frozen=True, slots=True)
class Permission:
    """One rule without its sources: any of `operations` and all of `conditions`."""

    operations: tuple[dict[str, Any], ...]
    """Empty for every connection."""
    conditions: tuple[dict[str, Any], ...] = ()

    def rule(self, sources: Sequence[str]) -> dict[str, Any]:
        """As a rule of an AuthorizationPolicy."""
        rule: dict[str, Any] = {"from": [{"source": {"principals": list(sources)}}]}
        if self.operations:
            rule["to"] = [{"operation": operation} for operation in self.operations]
        if self.conditions:
            rule["when"] = list(self.conditions)
        return rule


def permissions_of(target: Target, around: Surroundings, report: Report) -> tuple[Permission, ...]:
    """The permissions of `target`; not to be used when `report` has errors."""
    matches: list[tuple[HttpMatch, Rule]] = []
    routes: list[PortRoute] = []
    for rule in target.rules:
        found = _referred(rule, target, around, report)
        if isinstance(found, RouteGroup):
            matches += [(match, rule) for match in _named(rule, found, report)]
        elif found is not None:
            routes.append(found)
            _check_named(rule, found, report)
    ports = _ports(target, routes, report)
    if all(rule.kind != Kind.HTTP_ROUTES for rule in target.rules):
        return (Permission(({"ports": ports},) if ports else ()),)
    return _http_permissions(matches, ports, report)


def _referred(
    rule: Rule, target: Target, around: Surroundings, report: Report
) -> RouteGroup | PortRoute | None:
    if rule.kind == Kind.UDP_ROUTE:
        report.error(
            (*rule.path, "kind"),
            "Istio's proxies do not see UDP, so access over it can be neither allowed nor denied",
            rule="unsupported",
            remedy="take the UDPRoute out, or use a NetworkPolicy for it",
        )
        return None
    key = Key(rule.kind, target.ref.namespace, rule.name)
    found = around.sound.get(key)
    if isinstance(found, RouteGroup | PortRoute):
        return found
    around.report_missing(key, (*rule.path, "name"), report)
    return None


def _named(rule: Rule, group: RouteGroup, report: Report) -> list[HttpMatch]:
    if not rule.matches:
        return list(group.matches)
    by_name = {match.name: match for match in group.matches}
    for named in rule.matches:
        if named.name not in by_name:
            report.error(
                named.path,
                f"{group.ref} has no match {shortened(named.name)}",
                rule="reference",
                remedy=f"name some of {', '.join(sorted(by_name))}",
            )
    return [by_name[named.name] for named in rule.matches if named.name in by_name]


def _check_named(rule: Rule, route: PortRoute, report: Report) -> None:
    """A TCPRoute has one set of matches, whose name is optional."""
    for named in rule.matches:
        if named.name != route.name:
            report.error(
                named.path,
                f"{route.ref} has no match {shortened(named.name)}",
                rule="reference",
                remedy="leave the matches out; a TCPRoute has one set of ports",
            )


def _ports(target: Target, routes: Sequence[PortRoute], report: Report) -> list[str]:
    """The ports that all rules are limited to; empty for every port."""
    listed: set[int] = set()
    if routes and all(route.ports for route in routes):
        listed = {port for route in routes for port in route.ports}
    if target.port is not None:
        if listed and target.port not in listed:
            report.error(
                (*target.place, "port"),
                f"port {target.port} is in no TCPRoute of the rules, so no access would be allowed",
                rule="ports",
            )
        listed = {target.port}
    return [str(port) for port in sorted(listed)]


# ---- HTTP ----------------------------------------------------------------------------------------


def _http_permissions(
    matches: Iterable[tuple[HttpMatch, Rule]], ports: list[str], report: Report
) -> tuple[Permission, ...]:
    plain: list[dict[str, Any]] = []
    found: list[Permission] = []
    for match, rule in matches:
        operation = _operation(match, rule, ports, report)
        conditions = _conditions(match, rule, report)
        if conditions:
            found.append(Permission((operation,), conditions))
        elif operation not in plain:
            plain.append(operation)
    together = [Permission(tuple(plain))] if plain else []
    return tuple(together + [one for at, one in enumerate(found) if one not in found[:at]])


def _operation(match: HttpMatch, rule: Rule, ports: list[str], report: Report) -> dict[str, Any]:
    operation: dict[str, Any] = {}
    paths = _paths(match, rule, report)
    if match.methods:
        operation["methods"] = list(match.methods)
    elif not paths:
        # An operation without methods and paths would allow any TCP. `*` is any method, so HTTP.
        operation["methods"] = ["*"]
    if paths:
        operation["paths"] = paths
    if ports:
        operation["ports"] = ports
    return operation


def _paths(match: HttpMatch, rule: Rule, report: Report) -> list[str]:
    """The paths that mean the same as the pattern; empty for every path."""
    pattern = match.path_regex
    if pattern is None:
        return []
    globs = path_globs(pattern)
    written = [path_patterns(glob) for glob in globs] if globs is not None else [None]
    paths: set[str] = set()
    for some in written:
        if some is None:
            _refuse(match, rule, f"the path {pattern}", _PATHS_TAKEN, report)
            return []
        if not some:
            return []
        paths.update(some)
    return sorted(paths)


def path_patterns(glob: Glob) -> list[str] | None:
    """A glob as `paths` of an operation: [] for every path, None when it cannot be written."""
    match glob:
        case (Wild.ANY,) | (Wild.SOME,):
            return []
        case (str(text),) if _is_writable(text):
            return [text]
        case (str(text), Wild.ANY) if _is_writable(text):
            return [f"{text}*"]
        case (Wild.ANY, str(text)) if _is_writable(text):
            return [f"*{text}"]
    return _templates(glob) if Wild.SEGMENT in glob else None


def _templates(glob: Glob) -> list[str] | None:
    """A glob with whole elements of a path left open, such as `/x/[^/]+/y`.

    Envoy's `{*}` is one element and not empty, `{**}` any rest; both of the letters that RFC 3986
    allows in a path, so a request that breaks it stays denied. `/x/{*}` alone ends with the
    element, so an open end after it takes a second template.
    """
    parts = {Wild.SEGMENT: _ONE, Wild.ANY: _REST}
    is_open = glob[-1] is Wild.ANY
    if is_open and glob[-2] is Wild.SEGMENT:
        closed = _templates(glob[:-1])
        return [*closed, f"{closed[0]}/{_REST}"] if closed else None
    if Wild.SOME in glob or Wild.ANY in glob[:-1]:
        return None
    template = "".join(part if isinstance(part, str) else parts[part] for part in glob)
    elements = template.split("/")
    texts = (part for part in glob if isinstance(part, str))
    if elements[0] or any(letter in text for text in texts for letter in "{}*"):
        return None
    is_written = all(
        element in (_ONE, _REST) or _LITERAL.match(element) for element in elements[1:]
    )
    return [template] if is_written else None


def _is_writable(text: str) -> bool:
    """Whether istiod reads the text as text: it has wildcards and refuses other braces."""
    return not any(letter in text for letter in "*{}")


def _conditions(match: HttpMatch, rule: Rule, report: Report) -> tuple[dict[str, Any], ...]:
    conditions: list[dict[str, Any]] = []
    for name, pattern in match.headers:
        globs = value_globs(pattern)
        written = [value_pattern(glob) for glob in globs] if globs is not None else [None]
        values = [value for value in written if value is not None]
        if len(values) < len(written):
            _refuse(match, rule, f"the header {name} {pattern}", _VALUES_TAKEN, report)
        # Envoy has no header `host`. `hosts` of an operation would ignore upper and lower case.
        key = ":authority" if name == HOST else name
        conditions.append({"key": f"request.headers[{key}]", "values": sorted(set(values))})
    return tuple(conditions)


def value_pattern(glob: Glob) -> str | None:
    """A glob as a value of a `when` condition; None when it cannot be written.

    `.+` is not `*`: that would allow an empty header as well.
    """
    match glob:
        case (Wild.ANY,):
            return "*"
        case (str(text),) if "*" not in text:
            return text
        case (str(text), Wild.ANY) if "*" not in text:
            return f"{text}*"
        case (Wild.ANY, str(text)) if "*" not in text:
            return f"*{text}"
    return None


def _refuse(match: HttpMatch, rule: Rule, what: str, taken: str, report: Report) -> None:
    report.error(
        rule.path,
        f"match {shortened(match.name)}: {shortened(what)} cannot be said in an "
        "AuthorizationPolicy, which knows no regular expressions",
        rule="regex",
        remedy=f"write {taken}",
    )
