"""Former fields of DestinationRules, Gateways, Sidecars and policies, and annotations of pods.

What istiod makes of the fields: pilot/pkg/networking/core/cluster_traffic_policy.go of istio/istio;
annotations: annotation/annotations.yaml of istio/api, and the release notes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

from services.translator.deprecations.rewriting import Rewriting
from services.translator.istio.objects import at, entries, inner, mapping, pod_path
from services.translator.istio.versions import Minor
from services.translator.reports import Path

_WARMUP_SINCE: Minor = (1, 24)
_REFERENCES_SINCE: Minor = (1, 22)
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


def rewrite_destination_rule(rewriting: Rewriting) -> None:
    for path, policy in traffic_policies(rewriting.obj):
        balancer = mapping(policy.get("loadBalancer"))
        place: Path = (*path, "loadBalancer")
        _rewrite_ring(rewriting, mapping(balancer.get("consistentHash")), path=place)
        _rewrite_warmup(rewriting, balancer, path=place)
        if balancer.get("simple") == "LEAST_CONN":
            balancer["simple"] = "LEAST_REQUEST"
            rewriting.report_rewritten((*place, "simple"), "LEAST_REQUEST")
        _rewrite_outliers(rewriting, mapping(policy.get("outlierDetection")), path=path)


def traffic_policies(obj: dict[str, Any]) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Every traffic policy of a DestinationRule, those of ports and subsets too."""
    spec = inner(obj, "spec")
    yield from _with_ports(("spec", "trafficPolicy"), mapping(spec.get("trafficPolicy")))
    for index, subset in entries(spec.get("subsets")):
        yield from _with_ports(
            ("spec", "subsets", index, "trafficPolicy"), mapping(subset.get("trafficPolicy"))
        )


def _with_ports(path: Path, policy: dict[str, Any]) -> Iterator[tuple[Path, dict[str, Any]]]:
    yield path, policy
    for index, port in entries(policy.get("portLevelSettings")):
        yield (*path, "portLevelSettings", index), port


def _rewrite_ring(rewriting: Rewriting, hashing: dict[str, Any], *, path: Path) -> None:
    former = "minimumRingSize"
    if former not in hashing:
        return
    place: Path = (*path, "consistentHash", former)
    if hashing[former] == 0:
        del hashing[former]
        rewriting.report_dropped(place, "is 0, which means the default")
    elif "ringHash" not in hashing and "maglev" not in hashing:
        hashing["ringHash"] = {former: hashing.pop(former)}
        rewriting.report_rewritten(place, f"ringHash.{former}")
    else:
        rewriting.report_kept(
            place,
            "is deprecated, and Istio refuses it beside ringHash or maglev",
            "set the size in ringHash, or leave it out for maglev",
        )


def _rewrite_warmup(rewriting: Rewriting, balancer: dict[str, Any], *, path: Path) -> None:
    former = "warmupDurationSecs"
    if former in balancer and rewriting.reaches(_WARMUP_SINCE):
        # What warmup adds, an aggression of 1 and at least 10 percent, are Envoy's own defaults.
        rewriting.move(
            balancer,
            former,
            "warmup",
            {"duration": balancer[former]},
            path=path,
            names="warmup.duration",
            since=_WARMUP_SINCE,
        )


def _rewrite_outliers(rewriting: Rewriting, detection: dict[str, Any], *, path: Path) -> None:
    former = "consecutiveErrors"
    if former not in detection:
        return
    place: Path = (*path, "outlierDetection", former)
    if "consecutive5xxErrors" in detection or "consecutiveGatewayErrors" in detection:
        del detection[former]
        rewriting.report_dropped(place, "is not read, because its successor is set")
    else:
        # It counted other errors in each of the versions that read it, so nothing is the same.
        rewriting.report_kept(
            place,
            "is not read any more: hosts are ejected after five errors of any kind",
            "set consecutive5xxErrors, or consecutiveGatewayErrors for 502, 503 and 504 alone",
        )


def rewrite_gateway(rewriting: Rewriting) -> None:
    for index, server in entries(inner(rewriting.obj, "spec").get("servers")):
        _drop_target_port(rewriting, server, path=("spec", "servers", index))


def rewrite_sidecar(rewriting: Rewriting) -> None:
    spec = inner(rewriting.obj, "spec")
    for field in ("ingress", "egress"):
        for index, listener in entries(spec.get(field)):
            _drop_target_port(rewriting, listener, path=("spec", field, index))
    if "egressProxy" in mapping(spec.get("outboundTrafficPolicy")):
        rewriting.report_kept(
            ("spec", "outboundTrafficPolicy", "egressProxy"),
            "is an undocumented field that istioctl reports as deprecated (IST0002)",
            "route the traffic through an egress gateway with a VirtualService",
        )


def _drop_target_port(rewriting: Rewriting, owner: dict[str, Any], *, path: Path) -> None:
    port = mapping(owner.get("port"))
    if "targetPort" in port:
        del port["targetPort"]
        rewriting.report_dropped((*path, "port", "targetPort"), "is not read here")


def rewrite_reference(rewriting: Rewriting) -> None:
    """Writes `targetRef` into `targetRefs`; istiod reads it where that is empty."""
    spec = inner(rewriting.obj, "spec")
    if "targetRef" in spec and rewriting.reaches(_REFERENCES_SINCE):
        reference = spec["targetRef"]
        rewriting.move(
            spec,
            "targetRef",
            "targetRefs",
            [reference] if isinstance(reference, dict) else None,
            path=("spec",),
            since=_REFERENCES_SINCE,
        )


def rewrite_tokens(rewriting: Rewriting) -> None:
    """Writes `jwks_uri`, another spelling, as `jwksUri`."""
    for index, rule in entries(inner(rewriting.obj, "spec").get("jwtRules")):
        if "jwks_uri" in rule and "jwksUri" not in rule:
            rule["jwksUri"] = rule.pop("jwks_uri")
            rewriting.report_rewritten(("spec", "jwtRules", index, "jwks_uri"), "jwksUri")


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
