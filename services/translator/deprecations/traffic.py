"""Former forms in DestinationRules, Gateways and Sidecars.

What istiod makes of the fields: pilot/pkg/networking/core/cluster_traffic_policy.go of istio/istio.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from services.translator.deprecations.rewriting import Rewriting
from services.translator.istio.objects import entries, inner, mapping
from services.translator.istio.versions import Minor
from services.translator.reports import Path

_WARMUP_SINCE: Minor = (1, 24)


def rewrite_destination_rule(rewriting: Rewriting) -> None:
    for path, policy in traffic_policies(rewriting.obj):
        balancer = mapping(policy.get("loadBalancer"))
        place: Path = (*path, "loadBalancer")
        _rewrite_ring(rewriting, mapping(balancer.get("consistentHash")), path=place)
        _rewrite_warmup(rewriting, balancer, path=place)
        if balancer.get("simple") == "LEAST_CONN":
            balancer["simple"] = "LEAST_REQUEST"
            rewriting.became((*place, "simple"), "LEAST_REQUEST")
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
        rewriting.dropped(place, "is 0, which means the default")
    elif "ringHash" not in hashing and "maglev" not in hashing:
        hashing["ringHash"] = {former: hashing.pop(former)}
        rewriting.became(place, f"ringHash.{former}")
    else:
        rewriting.kept(
            place,
            "is deprecated, and Istio refuses it beside ringHash or maglev",
            "set the size in ringHash, or leave it out for maglev",
        )


def _rewrite_warmup(rewriting: Rewriting, balancer: dict[str, Any], *, path: Path) -> None:
    former = "warmupDurationSecs"
    if former not in balancer or not rewriting.reaches(_WARMUP_SINCE):
        return
    place: Path = (*path, former)
    if isinstance(balancer.get("warmup"), dict):
        del balancer[former]
        rewriting.dropped(place, "stands beside warmup and is not read")
    else:
        # What warmup adds, an aggression of 1 and at least 10 percent, are Envoy's own defaults.
        balancer["warmup"] = {"duration": balancer.pop(former)}
        rewriting.became(place, "warmup.duration", since=_WARMUP_SINCE)


def _rewrite_outliers(rewriting: Rewriting, detection: dict[str, Any], *, path: Path) -> None:
    former = "consecutiveErrors"
    if former not in detection:
        return
    place: Path = (*path, "outlierDetection", former)
    if "consecutive5xxErrors" in detection or "consecutiveGatewayErrors" in detection:
        del detection[former]
        rewriting.dropped(place, "stands beside its successor and is not read")
    else:
        # It counted other errors in each of the versions that read it, so nothing is the same.
        rewriting.kept(
            place,
            "is not read any more: hosts are ejected after five errors of any kind, whatever it "
            "says",
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
        rewriting.kept(
            ("spec", "outboundTrafficPolicy", "egressProxy"),
            "is an undocumented field that istioctl reports as deprecated (IST0002)",
            "lead the traffic through an egress gateway by a VirtualService",
        )


def _drop_target_port(rewriting: Rewriting, owner: dict[str, Any], *, path: Path) -> None:
    port = mapping(owner.get("port"))
    if "targetPort" in port:
        del port["targetPort"]
        rewriting.dropped((*path, "port", "targetPort"), "is not read here")
