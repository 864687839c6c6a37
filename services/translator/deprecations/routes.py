"""Former forms in the HTTP routes of a VirtualService.

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
        _rewrite_origins(rewriting, route, path=path)
        _rewrite_faults(rewriting, route, path=path)
        if "websocketUpgrade" in route:
            del route["websocketUpgrade"]
            rewriting.dropped(
                (*path, "websocketUpgrade"), "is not needed: WebSockets are always let through"
            )
        _rewrite_headers(rewriting, route, path=path)
        for place, destination in entries(route.get("route")):
            _rewrite_headers(rewriting, destination, path=(*path, "route", place))


def _rewrite_mirror(
    rewriting: Rewriting, route: dict[str, Any], *, path: Path, is_merged: bool
) -> None:
    for former in ("mirror_percent", "mirrorPercent"):
        if former not in route:
            continue
        if is_merged:
            # Root and delegate are merged field by field, and mirrorPercentage wins over both.
            rewriting.kept(
                (*path, former),
                "is deprecated, but cannot be rewritten in one of two merged VirtualServices alone",
                "write mirrorPercentage in the root and in the delegate",
            )
        elif isinstance(route.get("mirrorPercentage"), dict):
            del route[former]
            rewriting.dropped((*path, former), "stands beside mirrorPercentage and is not read")
        elif _is_count(route[former]):
            route["mirrorPercentage"] = {"value": route.pop(former)}
            rewriting.became((*path, former), "mirrorPercentage.value")


def _rewrite_origins(rewriting: Rewriting, route: dict[str, Any], *, path: Path) -> None:
    policy = mapping(route.get("corsPolicy"))
    place: Path = (*path, "corsPolicy", "allowOrigin")
    if "allowOrigin" not in policy:
        return
    former = policy["allowOrigin"]
    if policy.get("allowOrigins"):
        del policy["allowOrigin"]
        rewriting.dropped(place, "stands beside allowOrigins and is not read")
    elif isinstance(former, list) and len(texts(former)) == len(former):
        del policy["allowOrigin"]
        policy["allowOrigins"] = [{"exact": origin} for origin in former]
        rewriting.became(place, "allowOrigins, each as exact")


def _rewrite_faults(rewriting: Rewriting, route: dict[str, Any], *, path: Path) -> None:
    for name in ("delay", "abort"):
        fault = inner(route, "fault", name)
        place: Path = (*path, "fault", name, "percent")
        if "percent" not in fault:
            continue
        if isinstance(fault.get("percentage"), dict):
            del fault["percent"]
            rewriting.dropped(place, "stands beside percentage and is not read")
        elif _is_count(fault["percent"]):
            fault["percentage"] = {"value": fault.pop("percent")}
            if name == "delay":
                rewriting.became(place, "percentage.value")
            else:
                rewriting.restored(place, "percentage.value", since="its removal from the API")


def _rewrite_headers(rewriting: Rewriting, owner: dict[str, Any], *, path: Path) -> None:
    for former, (direction, operation) in _HEADERS.items():
        if former not in owner:
            continue
        if _merge(owner, owner[former], direction=direction, operation=operation):
            del owner[former]
            rewriting.restored(
                (*path, former), f"headers.{direction}.{operation}", since="Istio 1.4"
            )
        else:
            rewriting.kept(
                (*path, former),
                f"has no effect, and headers.{direction}.{operation} already says otherwise",
                "decide which of the two is meant",
            )


def _merge(owner: dict[str, Any], value: Any, *, direction: str, operation: str) -> bool:
    """Puts former headers into `headers`; False, and nothing is changed, when they disagree."""
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


def _is_count(value: Any) -> bool:
    """Whether it is a percentage as an integer; YAML's booleans are none."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 100
