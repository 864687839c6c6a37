"""Ambient: what needs a waypoint and has none.

The ztunnel understands connections, not requests. What speaks of requests is read by a waypoint
alone, and a waypoint reads only what is attached to it (`targetRefs`) or, of routes and
DestinationRules, what stands in the namespace of the Service.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from services.topology.analysis.catalog import Rule, tell
from services.topology.analysis.findings import Finding
from services.topology.analysis.lenses import Lens
from services.topology.analysis.rules.known import service_for
from services.topology.cluster import hosts, kinds
from services.topology.cluster.forms import part, parts, text, texts
from services.topology.cluster.objects import Config
from services.topology.mesh.membership import (
    USE_WAYPOINT,
    WAYPOINT_CLASSES,
    is_ambient_namespace,
    waypoint_of,
)
from services.topology.mesh.security import selector_of, targets_of

_OF_POLICIES = {
    kinds.AUTHORIZATION_POLICY: ("KIA0109", "KIA0110"),
    kinds.REQUEST_AUTHENTICATION: ("KIA1110", "KIA1115"),
    kinds.WASM_PLUGIN: ("KIA1111", "KIA1116"),
    kinds.TELEMETRY: ("KIA1112", "KIA1117"),
}
"""Kiali's codes for no waypoint, and for no `targetRefs`."""
_OF_HOSTS = {
    kinds.DESTINATION_RULE: ("KIA0210", "KIA0211", "KIA0212"),
    kinds.VIRTUAL_SERVICE: ("KIA1109", "KIA1113", "KIA1114"),
}
"""Kiali's codes for no waypoint, a Service not captured by it, and the wrong namespace."""

_REQUEST_KEYS = ("request.headers", "request.auth.")


# --- what speaks of requests ----------------------------------------------------------------------


def is_policy_of_requests(policy: Config) -> bool:
    """Whether an AuthorizationPolicy looks into requests."""
    for _, rule in parts(policy.spec, "rules"):
        for _, to in parts(rule, "to"):
            fields = part(to, "operation")
            if any(fields.get(name) or fields.get(f"not{name.title()}") for name in _OPERATION):
                return True
        for _, origin in parts(rule, "from"):
            source = part(origin, "source")
            if source.get("requestPrincipals") or source.get("notRequestPrincipals"):
                return True
        for _, condition in parts(rule, "when"):
            if text(condition, "key").startswith(_REQUEST_KEYS):
                return True
    return False


_OPERATION = ("methods", "paths", "hosts")


def _is_telemetry_of_requests(telemetry: Config) -> bool:
    spec = telemetry.spec
    if spec.get("tracing") or spec.get("accessLogging"):
        return True
    return any(metric.get("overrides") for _, metric in parts(spec, "metrics"))


_OF_REQUESTS: dict[str, Callable[[Config], bool]] = {
    kinds.AUTHORIZATION_POLICY: is_policy_of_requests,
    kinds.TELEMETRY: _is_telemetry_of_requests,
}
"""Of the other kinds every object speaks of requests."""


def _is_rule_of_requests(rule: Config) -> bool:
    policies = [rule.spec, *(subset for _, subset in parts(rule.spec, "subsets"))]
    return any(_has_request_settings(part(holder, "trafficPolicy")) for holder in policies)


def _has_request_settings(policy: Mapping[str, Any]) -> bool:
    hashing = part(policy, "loadBalancer", "consistentHash")
    return bool(
        hashing.get("httpHeaderName")
        or hashing.get("httpCookie")
        or part(policy, "connectionPool", "http")
        or policy.get("outlierDetection")
    )


# --- checks ---------------------------------------------------------------------------------------


def _policies(lens: Lens, config: Config) -> Iterator[Finding]:
    space = lens.namespace(config.namespace)
    if space is None or not is_ambient_namespace(space.labels):
        return
    asks = _OF_REQUESTS.get(config.key.kind)
    if (asks is not None and not asks(config)) or _means_proxies(lens, config):
        return
    no_waypoint, no_targets = _OF_POLICIES[config.key.kind]
    targets = targets_of(config)
    if not targets:
        message = "It is attached to no waypoint and to no Service."
        yield tell("no-target-refs", config.key, message, "spec", codes=(no_targets,))
    if not _is_enrolled(lens, config, space, targets):
        message = f"Namespace {config.namespace} uses no waypoint."
        yield tell("no-waypoint", config.key, message, codes=(no_waypoint,))


def _unread(lens: Lens, config: Config) -> Iterator[Finding]:
    """MBS0201: what is attached, and nobody's proxy reads."""
    targets = targets_of(config)
    space = lens.namespace(config.namespace)
    if not targets or space is None:
        return
    services = [target for target in targets if target.get("kind") != "Gateway"]
    if len(services) == len(targets) and is_ambient_namespace(space.labels):
        return  # told as `no-waypoint`
    unread = []
    for target in targets:
        name = str(target.get("name"))
        why = _why_unread(lens, target, name, space)
        if not why:
            return
        unread.append(why)
    yield tell("MBS0201", config.key, f"{'; '.join(unread)}.", "spec.targetRefs")


def _why_unread(lens: Lens, target: Mapping[str, Any], name: str, space: Any) -> str:
    """Why a target makes nobody read the policy; "" where somebody does, or another rule tells."""
    if target.get("kind") == "Service":
        service = lens.service(space.name, name)
        if service is None or waypoint_of(service.labels, space) is not None:
            return ""
        return f"{service.key} uses no waypoint"
    if target.get("kind") != "Gateway":
        return ""
    gateway = lens.get(kinds.K8S_GATEWAY, space.name, name)
    if gateway is None or gateway.spec.get("gatewayClassName") not in WAYPOINT_CLASSES:
        return ""
    return "" if _is_used(lens, gateway) else f"nobody uses waypoint {name}"


def _is_used(lens: Lens, gateway: Config) -> bool:
    """Whether labels of anything ask for a waypoint; other namespaces may where it admits them."""
    home, wanted = gateway.namespace, (gateway.namespace, gateway.key.name)
    space = lens.namespace(home)
    if waypoint_of({}, space) == wanted or any(lens.pods(home, {USE_WAYPOINT: wanted[1]})):
        return True
    admits = any(
        part(listener, "allowedRoutes", "namespaces").get("from") in ("All", "Selector")
        for _, listener in parts(gateway.spec, "listeners")
    )
    spaces = lens.all(kinds.NAMESPACE) if admits else iter((space,) if space is not None else ())
    for each in spaces:
        if waypoint_of({}, each) == wanted:
            return True
        of_kinds = (kinds.SERVICE, kinds.SERVICE_ENTRY, kinds.WORKLOAD_ENTRY)
        for one in (one for kind in of_kinds for one in lens.all(kind, each.name)):
            if one.labels.get(USE_WAYPOINT) and waypoint_of(one.labels, each) == wanted:
                return True
    if not admits:
        return False
    return any(
        waypoint_of(pod.labels, lens.namespace(pod.namespace)) == wanted
        for pod in lens.pods(None, {USE_WAYPOINT: wanted[1]})
    )


def _is_enrolled(lens: Lens, config: Config, space: Any, targets: list[Mapping[str, Any]]) -> bool:
    if waypoint_of({}, space) is not None or any(t.get("kind") == "Gateway" for t in targets):
        return True
    services = [lens.service(config.namespace, str(target.get("name"))) for target in targets]
    return any(s is not None and waypoint_of(s.labels, space) is not None for s in services)


def _means_proxies(lens: Lens, config: Config) -> bool:
    """Whether a selector means gateways or sidecars, which read such objects themselves."""
    selector = selector_of(config)
    if not selector:
        return False
    found = list(lens.pods(config.namespace, selector))
    return bool(found) and all(pod.has_proxy for pod in found)


def _rules(lens: Lens, rule: Config) -> Iterator[Finding]:
    if _is_rule_of_requests(rule):
        yield from _of_service(lens, rule, text(rule.spec, "host"), "spec.host")


def _routes(lens: Lens, service: Config) -> Iterator[Finding]:
    spec = service.spec
    if not (spec.get("http") or spec.get("tls")) or hosts.MESH not in hosts.gateways_of(spec):
        return
    for index, host in enumerate(texts(spec, "hosts")):
        yield from _of_service(lens, service, host, f"spec.hosts[{index}]")


def _of_service(lens: Lens, config: Config, host: str, path: str) -> Iterator[Finding]:
    service = service_for(lens, host, config.namespace)
    space = lens.namespace(service.namespace) if service is not None else None
    if service is None or space is None or not is_ambient_namespace(space.labels):
        return
    no_waypoint, not_captured, other_namespace = _OF_HOSTS[config.key.kind]
    if config.namespace != service.namespace:
        message = f"{service.key} is in the ambient namespace {service.namespace}."
        codes = (other_namespace,)
        yield tell("host-in-other-namespace", config.key, message, path, codes=codes)
    elif waypoint_of(service.labels, space) is None:
        message = f"{service.key} uses no waypoint."
        if _has_waypoint(lens, space):
            yield tell("host-not-captured", config.key, message, path, codes=(not_captured,))
        else:
            yield tell("host-without-waypoint", config.key, message, path, codes=(no_waypoint,))


def _has_waypoint(lens: Lens, space: Any) -> bool:
    """Whether there is one to use."""
    if waypoint_of({}, space) is not None:
        return True
    return any(
        gateway.spec.get("gatewayClassName") in WAYPOINT_CLASSES
        for gateway in lens.all(kinds.K8S_GATEWAY, space.name)
    )


_HOST_MISTAKES = ("host-without-waypoint", "host-not-captured", "host-in-other-namespace")
RULES = (
    Rule(finds=("no-waypoint", "no-target-refs"), kinds=tuple(_OF_POLICIES), check=_policies),
    Rule(finds=("MBS0201",), kinds=tuple(_OF_POLICIES), check=_unread),
    Rule(finds=_HOST_MISTAKES, kinds=(kinds.DESTINATION_RULE,), check=_rules),
    Rule(finds=_HOST_MISTAKES, kinds=(kinds.VIRTUAL_SERVICE,), check=_routes),
)
