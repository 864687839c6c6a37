"""Ambient: what needs a waypoint and has none (KIA0109, KIA0110, KIA0210 to KIA0212, KIA1109 to
KIA1117).

The ztunnel understands connections, not requests. What speaks of requests is read by a waypoint
alone, and a waypoint reads only what is attached to it (`targetRefs`) or, of routes and
DestinationRules, what stands in the namespace of the Service.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from services.topology.analysis.findings import Finding, Level
from services.topology.analysis.kia.registry import service_at
from services.topology.analysis.lenses import Lens
from services.topology.analysis.rules import Entry, Rule
from services.topology.cluster import hosts, kinds, tags
from services.topology.cluster.objects import Config
from services.topology.mesh.membership import WAYPOINT_CLASSES, wants_ambient, waypoint_of
from services.topology.mesh.security import selector_of, targets_of

_ENROL = "Label the namespace or the Service istio.io/use-waypoint=<name of a waypoint>."
_NO_WAYPOINT = (
    "It speaks of requests, which only a waypoint understands; the ambient namespace uses none."
)


def _entry(code: str, name: str, cause: str, remedy: str) -> Entry:
    return Entry(code=code, name=name, level=Level.WARNING, cause=cause, remedy=remedy)


def _without_waypoint(code: str, name: str) -> Entry:
    return _entry(code, f"{name}.ambient.nowaypoint", _NO_WAYPOINT, _ENROL)


def _without_targets(code: str, name: str) -> Entry:
    return _entry(
        code,
        f"{name}.ambient.notargetrefs",
        "A waypoint ignores objects that choose workloads by labels or by namespace.",
        "Attach it by targetRefs to the Service or to the waypoint's Gateway.",
    )


def _of_host(codes: tuple[str, str, str], name: str) -> tuple[Entry, Entry, Entry]:
    """No waypoint, Service not captured by it, other namespace than the Service's."""
    return (
        _without_waypoint(codes[0], name),
        _entry(
            codes[1],
            f"{name}.ambient.servicenotcaptured",
            "The Service does not use the waypoint that its namespace has.",
            _ENROL,
        ),
        _entry(
            codes[2],
            f"{name}.ambient.othernamespace",
            "A waypoint reads routes and rules of the Service's own namespace alone.",
            "Move the object to the namespace of the Service.",
        ),
    )


OF_POLICIES = {
    kinds.AUTHORIZATION_POLICY: (
        _without_waypoint("KIA0109", "authorizationpolicy"),
        _without_targets("KIA0110", "authorizationpolicy"),
    ),
    kinds.REQUEST_AUTHENTICATION: (
        _without_waypoint("KIA1110", "requestauthentication"),
        _without_targets("KIA1115", "requestauthentication"),
    ),
    kinds.WASM_PLUGIN: (
        _without_waypoint("KIA1111", "wasmplugin"),
        _without_targets("KIA1116", "wasmplugin"),
    ),
    kinds.TELEMETRY: (
        _without_waypoint("KIA1112", "telemetry"),
        _without_targets("KIA1117", "telemetry"),
    ),
}
OF_RULES = _of_host(("KIA0210", "KIA0211", "KIA0212"), "destinationrules")
OF_ROUTES = _of_host(("KIA1109", "KIA1113", "KIA1114"), "virtualservices")

_REQUEST_KEYS = ("request.headers", "request.auth.")


# --- what speaks of requests ----------------------------------------------------------------------


def is_policy_of_requests(policy: Config) -> bool:
    """Whether an AuthorizationPolicy looks into requests."""
    for rule in policy.spec.get("rules") or ():
        rule = rule or {}
        for to in rule.get("to") or ():
            fields = (to or {}).get("operation") or {}
            if any(fields.get(name) or fields.get(f"not{name.title()}") for name in _OPERATION):
                return True
        for origin in rule.get("from") or ():
            source = (origin or {}).get("source") or {}
            if source.get("requestPrincipals") or source.get("notRequestPrincipals"):
                return True
        for condition in rule.get("when") or ():
            if str(condition.get("key") or "").startswith(_REQUEST_KEYS):
                return True
    return False


_OPERATION = ("methods", "paths", "hosts")


def _is_telemetry_of_requests(telemetry: Config) -> bool:
    spec = telemetry.spec
    if spec.get("tracing") or spec.get("accessLogging"):
        return True
    return any((metric or {}).get("overrides") for metric in spec.get("metrics") or ())


_OF_REQUESTS: dict[str, Callable[[Config], bool]] = {
    kinds.AUTHORIZATION_POLICY: is_policy_of_requests,
    kinds.TELEMETRY: _is_telemetry_of_requests,
}
"""Of the other kinds every object speaks of requests."""


def _has_request_settings(policy: Any) -> bool:
    policy = policy or {}
    hashing = (policy.get("loadBalancer") or {}).get("consistentHash") or {}
    return bool(
        hashing.get("httpHeaderName")
        or hashing.get("httpCookie")
        or (policy.get("connectionPool") or {}).get("http")
        or policy.get("outlierDetection")
    )


def _is_rule_of_requests(rule: Config) -> bool:
    subsets = rule.spec.get("subsets") or ()
    policies = [rule.spec.get("trafficPolicy"), *(s.get("trafficPolicy") for s in subsets)]
    return any(_has_request_settings(policy) for policy in policies)


# --- checks ---------------------------------------------------------------------------------------


def policies(lens: Lens, config: Config) -> Iterator[Finding]:
    space = lens.namespace(config.namespace)
    if space is None or not wants_ambient(space.labels, {}):
        return
    asks = _OF_REQUESTS.get(config.key.kind)
    if (asks is not None and not asks(config)) or _means_proxies(lens, config):
        return
    no_waypoint, no_targets = OF_POLICIES[config.key.kind]
    targets = targets_of(config)
    if not targets:
        yield no_targets.on(config.key, "is attached to no waypoint and to no Service", "spec")
    if not _is_enrolled(lens, config, space, targets):
        yield no_waypoint.on(config.key, f"namespace {config.namespace} uses no waypoint")


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


def rules(lens: Lens, rule: Config) -> Iterator[Finding]:
    if _is_rule_of_requests(rule):
        yield from _of_service(lens, rule, str(rule.spec.get("host") or ""), "spec.host", OF_RULES)


def routes(lens: Lens, service: Config) -> Iterator[Finding]:
    spec = service.spec
    if not (spec.get("http") or spec.get("tls")) or hosts.MESH not in hosts.gateways_of(spec):
        return
    for index, host in enumerate(tags.texts(spec, "hosts")):
        yield from _of_service(lens, service, host, f"spec.hosts[{index}]", OF_ROUTES)


def _of_service(
    lens: Lens, config: Config, host: str, path: str, entries: tuple[Entry, Entry, Entry]
) -> Iterator[Finding]:
    service = service_at(lens, host, config.namespace)
    space = lens.namespace(service.namespace) if service is not None else None
    if service is None or space is None or not wants_ambient(space.labels, {}):
        return
    no_waypoint, not_captured, other_namespace = entries
    if config.namespace != service.namespace:
        yield other_namespace.on(
            config.key, f"{service.key} is in the ambient namespace {service.namespace}", path
        )
    elif waypoint_of(service.labels, space) is None:
        entry = not_captured if _has_waypoint(lens, space) else no_waypoint
        yield entry.on(config.key, f"{service.key} uses no waypoint", path)


def _has_waypoint(lens: Lens, space: Any) -> bool:
    """Whether there is one to use."""
    if waypoint_of({}, space) is not None:
        return True
    return any(
        gateway.spec.get("gatewayClassName") in WAYPOINT_CLASSES
        for gateway in lens.all(kinds.K8S_GATEWAY, space.name)
    )


ENTRIES = (*(entry for pair in OF_POLICIES.values() for entry in pair), *OF_RULES, *OF_ROUTES)


def _codes(entries: tuple[Entry, ...]) -> tuple[str, ...]:
    return tuple(entry.code for entry in entries)


RULES = (
    *(
        Rule(codes=_codes(pair), kinds=(kind,), check=policies)
        for kind, pair in OF_POLICIES.items()
    ),
    Rule(codes=_codes(OF_RULES), kinds=(kinds.DESTINATION_RULE,), check=rules),
    Rule(codes=_codes(OF_ROUTES), kinds=(kinds.VIRTUAL_SERVICE,), check=routes),
)
