"""Routing configuration in one form for Istio's and the Gateway API's: which hosts it
names, which marks a service's node gets from it, and its routes from one thing to another."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from services.topology.cluster import kinds
from services.topology.cluster.forms import entries, mapping, mappings, number
from services.topology.cluster.hosts import (
    DOMAIN,
    MESH,
    destinations_of,
    expanded,
    gateway_place,
    gateways_of,
    routes_of,
)
from services.topology.cluster.objects import Config, Key

ROUTING = (kinds.VIRTUAL_SERVICE, *kinds.ROUTES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """One destination of one route."""

    path: str
    """Of the destination in the object: `spec.http[0].route[1]`."""
    host: str
    """Full."""
    subset: str = ""
    details: Mapping[str, Any]
    """What the edge tells beside: weight as written, its share in percent, fault, mirror,
    timeout."""


def hosts_named(config: Config) -> frozenset[str]:
    """Full names of the hosts that an object acts on."""
    if config.key.kind == kinds.DESTINATION_RULE:
        host = expanded(str(config.spec.get("host") or ""), config.namespace)
        return frozenset((host,) if host else ())
    return frozenset((*mesh_hosts(config), *(way.host for way in ways(config))))


def mesh_hosts(config: Config) -> list[str]:
    """Hosts whose callers in the mesh an object routes."""
    spec, space = config.spec, config.namespace
    if config.key.kind == kinds.VIRTUAL_SERVICE:
        if MESH not in gateways_of(spec):
            return []
        return [expanded(str(host), space) for host in entries(spec.get("hosts")) if host != "*"]
    return [
        _service_host(parent, space)
        for parent in mappings(spec.get("parentRefs"))
        if parent.get("kind") == "Service"
    ]


def gateways(config: Config) -> list[Key]:
    """Gateways that an object is bound to."""
    spec, space = config.spec, config.namespace
    if config.key.kind == kinds.VIRTUAL_SERVICE:
        return [
            Key(kinds.GATEWAY, *gateway_place(name, space))
            for name in gateways_of(spec)
            if name != MESH
        ]
    return [
        Key(kinds.K8S_GATEWAY, str(ref.get("namespace") or space), str(ref.get("name") or ""))
        for ref in mappings(spec.get("parentRefs"))
        if ref.get("kind", "Gateway") == "Gateway"
    ]


def ways(config: Config) -> Iterator[Way]:
    """All destinations of an object's routes."""
    if config.key.kind != kinds.VIRTUAL_SERVICE:
        yield from _gateway_api_ways(config)
        return
    routes = {path: route for path, _, route in routes_of(config.spec)}
    for path, destination, weight in destinations_of(config.spec):
        host = destination.get("host")
        if not host:
            continue
        where = path.removesuffix(".destination")
        route = next(r for p, r in routes.items() if where.startswith(f"{p}."))
        splits = mappings(route.get("route"))
        details = _weighed(weight, [number(split, "weight") for split in splits])
        if ".mirror" in where:
            details["mirror"] = True
        elif fault := fault_of(route):
            details["fault"] = fault
        if route.get("timeout"):
            details["timeout"] = str(route["timeout"])
        yield Way(
            path=where,
            host=expanded(str(host), config.namespace),
            subset=str(destination.get("subset") or ""),
            details=details,
        )


def _gateway_api_ways(config: Config) -> Iterator[Way]:
    for index, rule in enumerate(mappings(config.spec.get("rules"))):
        timeout = mapping(rule.get("timeouts")).get("request")
        refs = mappings(rule.get("backendRefs"))
        weights = [number(ref, "weight") if "weight" in ref else 1 for ref in refs]
        for at, ref in enumerate(refs):
            if ref.get("kind", "Service") != "Service" or not ref.get("name"):
                continue
            details = _weighed(ref.get("weight"), weights)
            if timeout:
                details["timeout"] = str(timeout)
            yield Way(
                path=f"spec.rules[{index}].backendRefs[{at}]",
                host=_service_host(ref, config.namespace),
                details=details,
            )
        for at, entry in enumerate(mappings(rule.get("filters"))):
            mirror: Any = mapping(entry.get("requestMirror")).get("backendRef")
            if isinstance(mirror, dict) and mirror.get("name"):
                yield Way(
                    path=f"spec.rules[{index}].filters[{at}]",
                    host=_service_host(mirror, config.namespace),
                    details={"mirror": True},
                )


def _weighed(weight: Any, all_weights: Sequence[float]) -> dict[str, Any]:
    """A destination's weight, and the percentage of the requests that it stands for: weights are
    shares of their sum, in Istio and in the Gateway API."""
    if weight is None:
        return {}
    total = sum(all_weights)
    if len(all_weights) == 1 or not total or not isinstance(weight, int | float):
        return {"weight": weight}
    return {"weight": weight, "share": round(100 * weight / total, 1)}


def fault_of(route: Mapping[str, Any]) -> str:
    """`abort 10%, delay 5s 50%`; "" without one."""
    fault = route.get("fault")
    if not isinstance(fault, dict):
        return ""
    faults = []
    for kind in ("abort", "delay"):
        entry = fault.get(kind)
        if not isinstance(entry, dict):
            continue
        share = mapping(entry.get("percentage")).get("value", 0 if "percentage" in entry else 100)
        length = f" {entry['fixedDelay']}" if entry.get("fixedDelay") else ""
        faults.append(f"{kind}{length} {share:g}%" if isinstance(share, (int, float)) else kind)
    return ", ".join(faults)


def badges(config: Config) -> dict[str, Any]:
    """Kiali's marks that an object puts on the services it routes."""
    if config.key.kind != kinds.VIRTUAL_SERVICE:
        return _gateway_api_badges(config)
    found: dict[str, Any] = {
        "hasVS": {"hostnames": [str(host) for host in entries(config.spec.get("hosts"))]}
    }
    for _, protocol, route in routes_of(config.spec):
        found["hasRequestRouting"] = True
        if len(mappings(route.get("route"))) > 1:
            shifting = "hasTrafficShifting" if protocol == "http" else "hasTCPTrafficShifting"
            found[shifting] = True
        for name, badge in (
            ("fault", "hasFaultInjection"),
            ("mirror", "hasMirroring"),
            ("mirrors", "hasMirroring"),
            ("timeout", "hasRequestTimeout"),
        ):
            if route.get(name):
                found[badge] = True
    return found


def _gateway_api_badges(config: Config) -> dict[str, Any]:
    found: dict[str, Any] = {"isK8sGatewayAPI": True}
    is_http = config.key.kind in (kinds.HTTP_ROUTE, kinds.GRPC_ROUTE)
    for rule in mappings(config.spec.get("rules")):
        found["hasRequestRouting"] = True
        if len(mappings(rule.get("backendRefs"))) > 1:
            found["hasTrafficShifting" if is_http else "hasTCPTrafficShifting"] = True
        if any(entry.get("requestMirror") for entry in mappings(rule.get("filters"))):
            found["hasMirroring"] = True
        if rule.get("timeouts"):
            found["hasRequestTimeout"] = True
    return found


def breaks_circuits(rule: Config, version: str | None) -> bool:
    """Whether a DestinationRule limits connections or ejects hosts; of the subsets only those of a
    version count when one is given."""
    spec = rule.spec
    if _limits(spec.get("trafficPolicy")):
        return True
    for subset in mappings(spec.get("subsets")):
        labels = mapping(subset.get("labels"))
        if version in (None, "", labels.get("version")) and _limits(subset.get("trafficPolicy")):
            return True
    return False


def _limits(policy: Any) -> bool:
    if not isinstance(policy, dict):
        return False
    policies = [policy, *mappings(policy.get("portLevelSettings"))]
    return any(p.get("connectionPool") or p.get("outlierDetection") for p in policies)


def subsets_of(rule: Config) -> dict[str, Mapping[str, str]]:
    """Labels by name of subset."""
    return {
        str(subset.get("name")): mapping(subset.get("labels"))
        for subset in mappings(rule.spec.get("subsets"))
    }


def _service_host(ref: Mapping[str, Any], namespace: str) -> str:
    return f"{ref.get('name')}.{ref.get('namespace') or namespace}.svc.{DOMAIN}"
