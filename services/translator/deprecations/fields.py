"""Former fields of Istio's objects, and annotations of pods.

What istiod makes of the fields: pilot/pkg/networking/core/route/route.go and
cluster_traffic_policy.go, and pilot/pkg/model/virtualservice.go of istio/istio; annotations:
annotation/annotations.yaml of istio/api, and the release notes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

from services.translator.deprecations.rewriting import (
    Rewriting,
    Rule,
    dropped,
    kept,
    moved,
    places,
)
from services.translator.istio.objects import at, group_kind, inner, mapping, pod_path, texts
from services.translator.reports import Path

_INJECT = "sidecar.istio.io/inject"
_BY_STATS_MATCHER = "use proxyStatsMatcher in the annotation proxy.istio.io/config"
_FORMER_ANNOTATIONS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "alpha.istio.io/canonical-serviceaccounts": ("is not read any more", "leave it out"),
        "alpha.istio.io/kubernetes-serviceaccounts": ("is not read any more", "leave it out"),
        "sidecar.istio.io/discoveryAddress": (
            "is deprecated",
            "use discoveryAddress in the annotation proxy.istio.io/config",
        ),
        "sidecar.istio.io/extraStatTags": ("is deprecated", "use a Telemetry with tagOverrides"),
        "sidecar.istio.io/statsCompression": (
            "is not read any more",
            "use statsCompression in the annotation proxy.istio.io/config",
        ),
        "sidecar.istio.io/statsInclusionPrefixes": ("is deprecated", _BY_STATS_MATCHER),
        "sidecar.istio.io/statsInclusionRegexps": ("is deprecated", _BY_STATS_MATCHER),
        "sidecar.istio.io/statsInclusionSuffixes": ("is deprecated", _BY_STATS_MATCHER),
        "traffic.sidecar.istio.io/kubevirtInterfaces": (
            "is deprecated since Istio 1.25",
            "use istio.io/reroute-virtual-interfaces, which ambient pods honour too",
        ),
    }
)
"""Annotation to its state and its remedy; none of them has an exact successor."""

# Former field of a route or destination: where it belongs in `headers`.
_HEADERS = {
    "appendHeaders": ("request", "add"),
    "appendRequestHeaders": ("request", "add"),
    "appendResponseHeaders": ("response", "add"),
    "removeRequestHeaders": ("request", "remove"),
    "removeResponseHeaders": ("response", "remove"),
}


def rewrite_fields(rewriting: Rewriting) -> None:
    """Rewrites the former fields of an object, in their order in it."""
    for place, rules in _FIELDS.get(group_kind(rewriting.obj), {}).items():
        for path, node in _owners(rewriting.obj, place):
            for pattern, rule in rules:
                for below, owner in places(node, pattern, path):
                    rule(rewriting, owner, below)


def _owners(obj: dict[str, Any], place: str) -> Iterator[tuple[Path, dict[str, Any]]]:
    return traffic_policies(obj) if place == _POLICIES else places(obj, place)


def traffic_policies(obj: dict[str, Any]) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Every traffic policy of a DestinationRule, those of ports and subsets too."""
    for owner in ("spec", "spec.subsets[]"):
        for path, policy in places(obj, f"{owner}.trafficPolicy"):
            yield path, policy
            yield from places(policy, "portLevelSettings[]", path)


# ---- Fields of VirtualServices -------------------------------------------------------------------


def _rewrite_mirror(rewriting: Rewriting, route: dict[str, Any], path: Path) -> None:
    is_delegate = not inner(rewriting.obj, "spec").get("hosts")
    for former in ("mirror_percent", "mirrorPercent"):
        if is_delegate or "delegate" in route:
            # Root and delegate are merged field by field, and mirrorPercentage wins over both.
            rule = kept(
                former,
                "is deprecated, but cannot be rewritten in one of two merged VirtualServices alone",
                "write mirrorPercentage in the root and in the delegate",
            )
        else:
            rule = moved(former, "mirrorPercentage", _percentage, names="mirrorPercentage.value")
        rule(rewriting, route, path)


def _rewrite_headers(rewriting: Rewriting, owner: dict[str, Any], path: Path) -> None:
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
    headers = owner.get("headers", {})
    part = mapping(headers).get(direction, {})
    if not (isinstance(headers, dict) and isinstance(part, dict)):
        return False
    there = part.get(operation, {} if operation == "add" else [])
    merged: Any
    if isinstance(value, dict) and isinstance(there, dict) and operation == "add":
        if any(name in there and there[name] != value[name] for name in value):
            return False
        merged = {**there, **value}
    elif isinstance(value, list) and isinstance(there, list) and operation == "remove":
        merged = [*there, *(name for name in value if name not in there)]
    else:
        return False
    owner["headers"] = {**headers, direction: {**part, operation: merged}}
    return True


def _percentage(value: Any) -> dict[str, int] | None:
    """The message of a percentage that is given as an integer; YAML's booleans are none."""
    is_count = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 100
    return {"value": value} if is_count else None


def _exact(origins: Any) -> list[dict[str, str]] | None:
    is_text = isinstance(origins, list) and len(texts(origins)) == len(origins)
    return [{"exact": origin} for origin in texts(origins)] if is_text else None


# ---- Fields of other kinds -----------------------------------------------------------------------


def _rewrite_ring(rewriting: Rewriting, hashing: dict[str, Any], path: Path) -> None:
    former = "minimumRingSize"
    if former not in hashing:
        return
    if hashing[former] == 0:
        del hashing[former]
        rewriting.report_dropped((*path, former), "is 0, which means the default")
    elif "ringHash" not in hashing and "maglev" not in hashing:
        hashing["ringHash"] = {former: hashing.pop(former)}
        rewriting.report_rewritten((*path, former), f"ringHash.{former}")
    else:
        rewriting.report_kept(
            (*path, former),
            "is deprecated, and Istio refuses it beside ringHash or maglev",
            "set the size in ringHash, or leave it out for maglev",
        )


def _rewrite_balancing(rewriting: Rewriting, balancer: dict[str, Any], path: Path) -> None:
    if balancer.get("simple") == "LEAST_CONN":
        balancer["simple"] = "LEAST_REQUEST"
        rewriting.report_rewritten((*path, "simple"), "LEAST_REQUEST")


def _rewrite_outliers(rewriting: Rewriting, detection: dict[str, Any], path: Path) -> None:
    former = "consecutiveErrors"
    if "consecutive5xxErrors" in detection or "consecutiveGatewayErrors" in detection:
        rule = dropped(former, "is not read, because its successor is set")
    else:
        # It counted other errors in each of the versions that read it, so nothing is the same.
        rule = kept(
            former,
            "is not read any more: hosts are ejected after five errors of any kind",
            "set consecutive5xxErrors, or consecutiveGatewayErrors for 502, 503 and 504 alone",
        )
    rule(rewriting, detection, path)


def _rewrite_keys(rewriting: Rewriting, token: dict[str, Any], path: Path) -> None:
    """Writes `jwks_uri`, another spelling, as `jwksUri`."""
    if "jwks_uri" in token and "jwksUri" not in token:
        token["jwksUri"] = token.pop("jwks_uri")
        rewriting.report_rewritten((*path, "jwks_uri"), "jwksUri")


def _as_list(reference: Any) -> list[Any] | None:
    return [reference] if isinstance(reference, dict) else None


_ORIGINS = moved("allowOrigin", "allowOrigins", _exact, names="allowOrigins, each as exact")
_DELAY = moved("percent", "percentage", _percentage, names="percentage.value")
_ABORT = moved(
    "percent",
    "percentage",
    _percentage,
    names="percentage.value",
    removed_in="its removal from the API",
)
_WEBSOCKETS = dropped("websocketUpgrade", "is not needed: WebSockets are always let through")
# What warmup adds, an aggression of 1 and at least 10 percent, are Envoy's own defaults.
_WARMUP = moved(
    "warmupDurationSecs",
    "warmup",
    lambda duration: {"duration": duration},
    names="warmup.duration",
    since=(1, 24),
)
_EGRESS_PROXY = kept(
    "egressProxy",
    "is an undocumented field that istioctl reports as deprecated (IST0002)",
    "route the traffic through an egress gateway with a VirtualService",
)
_TARGET_PORT = dropped("targetPort", "is not read here")
_REFERENCE = moved("targetRef", "targetRefs", _as_list, since=(1, 22))

_POLICIES = "traffic policies"
_FIELDS: Mapping[tuple[str, str], Mapping[str, tuple[tuple[str, Rule], ...]]] = MappingProxyType(
    {
        ("networking.istio.io", "VirtualService"): {
            "spec.http[]": (
                ("", _rewrite_mirror),
                ("corsPolicy", _ORIGINS),
                ("fault.delay", _DELAY),
                ("fault.abort", _ABORT),
                ("", _WEBSOCKETS),
                ("", _rewrite_headers),
                ("route[]", _rewrite_headers),
            ),
        },
        ("networking.istio.io", "DestinationRule"): {
            _POLICIES: (
                ("loadBalancer.consistentHash", _rewrite_ring),
                ("loadBalancer", _WARMUP),
                ("loadBalancer", _rewrite_balancing),
                ("outlierDetection", _rewrite_outliers),
            ),
        },
        ("networking.istio.io", "Gateway"): {"spec.servers[]": (("port", _TARGET_PORT),)},
        ("networking.istio.io", "Sidecar"): {
            "spec.ingress[]": (("port", _TARGET_PORT),),
            "spec.egress[]": (("port", _TARGET_PORT),),
            "spec": (("outboundTrafficPolicy", _EGRESS_PROXY),),
        },
        ("security.istio.io", "AuthorizationPolicy"): {"spec": (("", _REFERENCE),)},
        ("security.istio.io", "RequestAuthentication"): {
            "spec": (("", _REFERENCE),),
            "spec.jwtRules[]": (("", _rewrite_keys),),
        },
        ("telemetry.istio.io", "Telemetry"): {"spec": (("", _REFERENCE),)},
        ("extensions.istio.io", "WasmPlugin"): {"spec": (("", _REFERENCE),)},
    }
)
"""Group and kind to the places of mappings, each with its rules: where a rule applies below the
mapping, and the rule."""


# ---- Annotations ---------------------------------------------------------------------------------


def rewrite_annotations(rewriting: Rewriting) -> None:
    """Reports former annotations, and turns the one against injection into its label."""
    pod = pod_path(rewriting.obj)
    if pod is None:
        return
    path: Path = (*pod, "metadata")
    metadata = at(rewriting.obj, path)
    annotations = mapping(metadata.get("annotations"))
    for name in sorted(annotations.keys() & _FORMER_ANNOTATIONS.keys()):
        state, remedy = _FORMER_ANNOTATIONS[name]
        rewriting.report_kept((*path, "annotations", name), state, remedy)
    if _INJECT in annotations:
        _rewrite_injection(rewriting, metadata, annotations, path=path)


def _rewrite_injection(
    rewriting: Rewriting, metadata: dict[str, Any], annotations: dict[str, Any], *, path: Path
) -> None:
    """The label wins over the annotation; only the label reaches pods in other namespaces."""
    place: Path = (*path, "annotations", _INJECT)
    labels = metadata.get("labels")
    if isinstance(labels, dict) and _INJECT in labels:
        del annotations[_INJECT]
        rewriting.report_dropped(place, "is not read, because the label of that name is set")
    elif annotations[_INJECT] == "false" and (labels is None or isinstance(labels, dict)):
        del annotations[_INJECT]
        metadata["labels"] = {**(labels or {}), _INJECT: "false"}
        rewriting.report_rewritten(place, "the label of that name")
    else:
        rewriting.report_kept(
            place,
            "is deprecated",
            "use the label of that name; it injects the pod in every namespace, while the "
            "annotation only works where injection is on",
        )
