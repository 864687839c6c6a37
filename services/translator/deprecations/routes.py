"""Rewrites former fields in the HTTP routes of a VirtualService.

What istiod makes of the fields: pilot/pkg/networking/core/route/route.go and, for delegates,
pilot/pkg/model/virtualservice.go of istio/istio.
"""

from __future__ import annotations

from typing import Any

from services.translator.deprecations.rewriting import Rewriting
from services.translator.istio.objects import entries, inner, mapping, texts
from services.translator.reports import Path

# Former field of a route or destination: where it belongs in `headers`.
_HEADERS = {
    "appendHeaders": ("request", "add"),
    "appendRequestHeaders": ("request", "add"),
    "appendResponseHeaders": ("response", "add"),
    "removeRequestHeaders": ("request", "remove"),
    "removeResponseHeaders": ("response", "remove"),
}


def rewrite_virtual_service(rewriting: Rewriting) -> None:
    spec = inner(rewriting.obj, "spec")
    is_delegate = not spec.get("hosts")
    for index, route in entries(spec.get("http")):
        path: Path = ("spec", "http", index)
        _rewrite_mirror(rewriting, route, path=path, is_merged=is_delegate or "delegate" in route)
        _rewrite_origins(rewriting, mapping(route.get("corsPolicy")), path=(*path, "corsPolicy"))
        _rewrite_faults(rewriting, route, path=path)
        if "websocketUpgrade" in route:
            del route["websocketUpgrade"]
            rewriting.report_dropped(
                (*path, "websocketUpgrade"), "is not needed: WebSockets are always let through"
            )
        _rewrite_headers(rewriting, route, path=path)
        for place, destination in entries(route.get("route")):
            _rewrite_headers(rewriting, destination, path=(*path, "route", place))


def _rewrite_mirror(
    rewriting: Rewriting, route: dict[str, Any], *, path: Path, is_merged: bool
) -> None:
    for former in ("mirror_percent", "mirrorPercent"):
        if former in route and is_merged:
            # Root and delegate are merged field by field, and mirrorPercentage wins over both.
            rewriting.report_kept(
                (*path, former),
                "is deprecated, but cannot be rewritten in one of two merged VirtualServices alone",
                "write mirrorPercentage in the root and in the delegate",
            )
        elif former in route:
            rewriting.move(
                route,
                former,
                "mirrorPercentage",
                _percentage(route[former]),
                path=path,
                names="mirrorPercentage.value",
            )


def _rewrite_origins(rewriting: Rewriting, policy: dict[str, Any], *, path: Path) -> None:
    origins = policy.get("allowOrigin")
    if "allowOrigin" in policy:
        is_text = isinstance(origins, list) and len(texts(origins)) == len(origins)
        rewriting.move(
            policy,
            "allowOrigin",
            "allowOrigins",
            [{"exact": origin} for origin in texts(origins)] if is_text else None,
            path=path,
            names="allowOrigins, each as exact",
        )


def _rewrite_faults(rewriting: Rewriting, route: dict[str, Any], *, path: Path) -> None:
    for name, removed_in in (("delay", ""), ("abort", "its removal from the API")):
        fault = inner(route, "fault", name)
        if "percent" in fault:
            rewriting.move(
                fault,
                "percent",
                "percentage",
                _percentage(fault["percent"]),
                path=(*path, "fault", name),
                names="percentage.value",
                removed_in=removed_in,
            )


def _rewrite_headers(rewriting: Rewriting, owner: dict[str, Any], *, path: Path) -> None:
    for former, (direction, operation) in _HEADERS.items():
        if former not in owner:
            continue
        if _merge(owner, owner[former], direction=direction, operation=operation):
            del owner[former]
            rewriting.report_restored(
                (*path, former), f"headers.{direction}.{operation}", since="Istio 1.4"
            )
        else:
            rewriting.report_kept(
                (*path, former),
                f"has no effect, and headers.{direction}.{operation} already says otherwise",
                "decide which of the two is meant",
            )


def _merge(owner: dict[str, Any], value: Any, *, direction: str, operation: str) -> bool:
    """Merges former headers into `headers`; returns False without a change when they disagree."""
    headers = owner.get("headers") if "headers" in owner else {}
    part = mapping(headers).get(direction, {})
    there = mapping(part).get(operation, {} if operation == "add" else [])
    merged: Any
    if operation == "add":
        if not (isinstance(value, dict) and isinstance(there, dict)):
            return False
        if any(name in there and there[name] != value[name] for name in value):
            return False
        merged = {**there, **value}
    else:
        if not (isinstance(value, list) and isinstance(there, list)):
            return False
        merged = [*there, *(name for name in value if name not in there)]
    if not (isinstance(headers, dict) and isinstance(part, dict)):
        return False
    owner["headers"] = {**headers, direction: {**part, operation: merged}}
    return True


def _percentage(value: Any) -> dict[str, int] | None:
    """The message of a percentage that is given as an integer; YAML's booleans are none."""
    is_count = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 100
    return {"value": value} if is_count else None
