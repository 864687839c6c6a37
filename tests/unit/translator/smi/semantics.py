"""What SMI allows, and what AuthorizationPolicies allow: two models written apart from each other.

`smi_allows` reads SMI objects as the traffic-access and traffic-specs documents say.
`istio_allows` reads policies as Istio's reference of AuthorizationPolicy and Envoy's RBAC do.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import re2  # type: ignore[import-untyped]  # the package has no types

from services.chassis.kube.objects import KubeObject

# Elements of a path template take what RFC 3986 allows in one; asked of Envoy itself.
_ELEMENT = r"[A-Za-z0-9\-._~%!$&'()*+,;:@=]+"
_REST = r"[A-Za-z0-9\-._~%!$&'()+,;:@=/]*"


@dataclass(frozen=True, slots=True)
class Attempt:
    """A request or, without a path, a plain TCP connection."""

    source: tuple[str, str]
    """Namespace and ServiceAccount."""
    account: str
    """The destination's ServiceAccount."""
    labels: Mapping[str, str]
    """Of the destination's pod."""
    port: int
    path: str | None = None
    method: str = "GET"
    headers: Mapping[str, str] = field(default_factory=dict)


def smi_allows(objects: Iterable[KubeObject], attempt: Attempt, *, namespace: str) -> bool:
    """Whether some target lets the attempt in; all objects are of one namespace."""
    by_name = {(one["kind"], one["metadata"]["name"]): one for one in objects}
    return any(
        _target_allows(one["spec"], by_name, attempt, namespace)
        for (kind, _), one in by_name.items()
        if kind == "TrafficTarget"
    )


def _target_allows(
    spec: dict[str, Any],
    by_name: Mapping[tuple[str, str], KubeObject],
    attempt: Attempt,
    namespace: str,
) -> bool:
    sources = {(one.get("namespace", namespace), one["name"]) for one in spec["sources"]}
    if spec["destination"]["name"] != attempt.account or attempt.source not in sources:
        return False
    http: list[dict[str, Any]] = []
    ports: list[set[int]] = []
    for rule in spec["rules"]:
        body = by_name[rule["kind"], rule["name"]]["spec"]["matches"]
        if rule["kind"] == "TCPRoute":
            ports.append(set(body["ports"]))
        else:
            http += [one for one in body if one["name"] in rule.get("matches", [one["name"]])]
    if ports and all(ports) and attempt.port not in set().union(*ports):
        return False
    is_http_only = any(rule["kind"] == "HTTPRouteGroup" for rule in spec["rules"])
    return not is_http_only or any(_match_allows(one, attempt) for one in http)


def _match_allows(match: dict[str, Any], attempt: Attempt) -> bool:
    if attempt.path is None:
        return False
    # Kubernetes does not tell an empty list from none.
    methods = match.get("methods") or ["*"]
    return (
        re2.match(match.get("pathRegex", ""), attempt.path) is not None
        and ("*" in methods or attempt.method in methods)
        and all(
            name.lower() in attempt.headers
            and re2.fullmatch(pattern, attempt.headers[name.lower()]) is not None
            for name, pattern in match.get("headers", {}).items()
        )
    )


# ---- Istio ---------------------------------------------------------------------------------------


def istio_allows(policies: Iterable[KubeObject], attempt: Attempt, *, trust_domain: str) -> bool:
    """ALLOW policies that select the pod: one has to fit, if there is any."""
    selecting = [one["spec"] for one in policies if _selects(one["spec"], attempt.labels)]
    principal = f"{trust_domain}/ns/{attempt.source[0]}/sa/{attempt.source[1]}"
    return not selecting or any(
        _rule_allows(rule, principal, attempt)
        for spec in selecting
        for rule in spec.get("rules", [])
    )


def _selects(spec: dict[str, Any], labels: Mapping[str, str]) -> bool:
    wanted: dict[str, str] = spec.get("selector", {}).get("matchLabels", {})
    return wanted.items() <= labels.items()


def _rule_allows(rule: dict[str, Any], principal: str, attempt: Attempt) -> bool:
    sources = [one["source"]["principals"] for one in rule["from"]]
    return (
        any(_string_fits(value, principal) for some in sources for value in some)
        and ("to" not in rule or any(_to_allows(one["operation"], attempt) for one in rule["to"]))
        and all(_when_allows(one, attempt) for one in rule.get("when", []))
    )


def _to_allows(operation: dict[str, Any], attempt: Attempt) -> bool:
    is_http = attempt.path is not None
    for name, values in operation.items():
        if name == "ports":
            fits = str(attempt.port) in values
        elif name == "methods":
            fits = is_http and any(_string_fits(value, attempt.method) for value in values)
        elif name == "paths":
            fits = is_http and any(_path_fits(value, attempt.path or "") for value in values)
        else:
            raise AssertionError(f"the model does not know {name}")
        if not fits:
            return False
    return True


def _when_allows(condition: dict[str, Any], attempt: Attempt) -> bool:
    name = condition["key"].removeprefix("request.headers[").removesuffix("]")
    if attempt.path is None or name not in attempt.headers:
        return False
    return any(_string_fits(value, attempt.headers[name]) for value in condition["values"])


def _path_fits(value: str, path: str) -> bool:
    if "{*}" in value or "{**}" in value:
        parts = {"{*}": _ELEMENT, "{**}": _REST}
        pieces = re.split(r"(\{\*\*?\})", value)
        return (
            re.fullmatch("".join(parts.get(one, re.escape(one)) for one in pieces), path)
            is not None
        )
    return _string_fits(value, path)


def _string_fits(value: str, text: str) -> bool:
    if value == "*":
        return True
    if value.startswith("*"):
        return text.endswith(value[1:])
    if value.endswith("*"):
        return text.startswith(value[:-1])
    return text == value
