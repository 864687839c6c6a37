"""KIA1401, KIA1402, KIA1501 to KIA1504, KIA1601: objects of the Gateway API."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from services.topology.analysis.findings import Finding, Level
from services.topology.analysis.lenses import Lens
from services.topology.analysis.rules import Entry, Rule
from services.topology.cluster import kinds
from services.topology.cluster.objects import Config

NO_PARENT = Entry(
    code="KIA1401",
    name="k8sroutes.nok8sgateway",
    level=Level.ERROR,
    cause="The Gateway that the route belongs to does not exist, so the route holds nowhere.",
    remedy="Correct parentRefs, or create the Gateway.",
)
NO_SERVICE = Entry(
    code="KIA1402",
    name="k8sroutes.nohost.namenotfound",
    level=Level.ERROR,
    cause="The Service does not exist, or it is in a namespace that does not let the route refer "
    "to it; requests to it get status 500.",
    remedy="Correct backendRefs, create the Service, or add a ReferenceGrant to its namespace.",
)
SAME_LISTENER = Entry(
    code="KIA1501",
    name="k8sgateways.multimatch.listener",
    level=Level.WARNING,
    cause="Two Gateways listen for the same host on the same port.",
    remedy="Merge them, or remove the listener from one.",
)
SAME_ADDRESS = Entry(
    code="KIA1502",
    name="k8sgateways.multimatch.ip",
    level=Level.WARNING,
    cause="Two Gateways ask for the same address.",
    remedy="Merge them, or give each an address of its own.",
)
TWICE = Entry(
    code="KIA1503",
    name="k8sgateways.unique.listener",
    level=Level.ERROR,
    cause="Two listeners of one Gateway have the same host name, port and protocol.",
    remedy="Change or remove one of them.",
)
NO_CLASS = Entry(
    code="KIA1504",
    name="k8sgateways.gatewayclassnotfound",
    level=Level.ERROR,
    cause="The GatewayClass does not exist, so no controller takes care of the Gateway.",
    remedy="Name an existing class, such as istio.",
)
NO_NAMESPACE = Entry(
    code="KIA1601",
    name="k8sreferencegrants.from.namespacenotfound",
    level=Level.ERROR,
    cause="The namespace that may refer to this one does not exist.",
    remedy="Correct the name, or create the namespace.",
)

_GROUP = "gateway.networking.k8s.io"


def _dicts(spec: Any, name: str) -> Iterator[tuple[int, dict[str, Any]]]:
    for index, item in enumerate((spec or {}).get(name) or ()):
        if isinstance(item, dict):
            yield index, item


# --- routes ---------------------------------------------------------------------------------------


def parents(lens: Lens, route: Config) -> Iterator[Finding]:
    for index, parent in _dicts(route.spec, "parentRefs"):
        if parent.get("kind", "Gateway") != "Gateway" or parent.get("group", _GROUP) != _GROUP:
            continue
        space, name = str(parent.get("namespace") or route.namespace), str(parent.get("name"))
        if lens.get(kinds.K8S_GATEWAY, space, name) is None:
            path = f"spec.parentRefs[{index}]"
            yield NO_PARENT.on(route.key, f"Gateway {space}/{name} does not exist", path)


def _backends(route: Config) -> Iterator[tuple[str, dict[str, Any]]]:
    """Path and reference of each, those of mirrors too."""
    for index, rule in _dicts(route.spec, "rules"):
        path = f"spec.rules[{index}]"
        for at, backend in _dicts(rule, "backendRefs"):
            yield f"{path}.backendRefs[{at}]", backend
        for at, step in _dicts(rule, "filters"):
            mirrored = (step.get("requestMirror") or {}).get("backendRef")
            if mirrored:
                yield f"{path}.filters[{at}].requestMirror.backendRef", mirrored


def backends(lens: Lens, route: Config) -> Iterator[Finding]:
    for path, backend in _backends(route):
        if backend.get("kind", "Service") != "Service" or backend.get("group"):
            continue
        space, name = str(backend.get("namespace") or route.namespace), str(backend.get("name"))
        if lens.service(space, name) is None:
            message = f"Service {space}/{name} does not exist"
        elif space != route.namespace and not _is_granted(lens, route, space, name):
            message = f"no ReferenceGrant of namespace {space} allows Service {name}"
        else:
            continue
        yield NO_SERVICE.on(route.key, message, f"{path}.name")


def _is_granted(lens: Lens, route: Config, space: str, name: str) -> bool:
    kind = kinds.short(route.key.kind)
    for grant in lens.all(kinds.REFERENCE_GRANT, space):
        is_from = any(
            one.get("kind") == kind and one.get("namespace") == route.namespace
            for _, one in _dicts(grant.spec, "from")
        )
        if is_from and any(
            one.get("kind") == "Service" and one.get("name") in (None, "", name)
            for _, one in _dicts(grant.spec, "to")
        ):
            return True
    return False


# --- Gateways -------------------------------------------------------------------------------------


def _listeners(gateway: Config) -> dict[tuple[str, int], int]:
    """Index of each listener by host name and port. Those without a host name are left out: each
    Gateway has addresses of its own, and all waypoints listen on one port."""
    return {
        (str(one["hostname"]), int(one.get("port") or 0)): index
        for index, one in _dicts(gateway.spec, "listeners")
        if one.get("hostname")
    }


def _addresses(gateway: Config) -> dict[tuple[str, str], int]:
    return {
        (str(one.get("type") or "IPAddress"), str(one["value"])): index
        for index, one in _dicts(gateway.spec, "addresses")
        if one.get("value")
    }


def several(lens: Lens, gateway: Config) -> Iterator[Finding]:
    listeners, addresses = _listeners(gateway), _addresses(gateway)

    def clashes(other: Config) -> bool:
        return bool(
            listeners.keys() & _listeners(other).keys()
            or addresses.keys() & _addresses(other).keys()
        )

    for other in lens.peers(gateway, clashes, None):
        for one, two in ((gateway, other), (other, gateway)):
            theirs, their_addresses = _listeners(two), _addresses(two)
            for (host, port), index in _listeners(one).items():
                if (host, port) in theirs:
                    yield SAME_LISTENER.on(
                        one.key,
                        f"{two.key} listens for {host} on port {port} too",
                        f"spec.listeners[{index}]",
                    )
            for (kind, value), index in _addresses(one).items():
                if (kind, value) in their_addresses:
                    yield SAME_ADDRESS.on(
                        one.key,
                        f"{two.key} asks for {kind} {value} too",
                        f"spec.addresses[{index}]",
                    )


def itself(lens: Lens, gateway: Config) -> Iterator[Finding]:
    counted: Counter[tuple[Any, ...]] = Counter()
    for index, one in _dicts(gateway.spec, "listeners"):
        same = (one.get("hostname") or "", one.get("port"), one.get("protocol"))
        counted[same] += 1
        if counted[same] > 1:
            yield TWICE.on(
                gateway.key,
                f"a listener for {same[0] or 'all hosts'}, port {same[1]}, {same[2]} is there "
                "already",
                f"spec.listeners[{index}]",
            )
    name = str(gateway.spec.get("gatewayClassName") or "")
    if name and lens.get(kinds.GATEWAY_CLASS, "", name) is None:
        yield NO_CLASS.on(
            gateway.key, f"GatewayClass {name} does not exist", "spec.gatewayClassName"
        )


def grants(lens: Lens, grant: Config) -> Iterator[Finding]:
    for index, one in _dicts(grant.spec, "from"):
        name = str(one.get("namespace") or "")
        if name and lens.namespace(name) is None:
            yield NO_NAMESPACE.on(
                grant.key, f"namespace {name} does not exist", f"spec.from[{index}].namespace"
            )


ENTRIES = (NO_PARENT, NO_SERVICE, SAME_LISTENER, SAME_ADDRESS, TWICE, NO_CLASS, NO_NAMESPACE)
RULES = (
    Rule(codes=("KIA1401",), kinds=kinds.ROUTES, check=parents),
    Rule(codes=("KIA1402",), kinds=kinds.ROUTES, check=backends),
    Rule(codes=("KIA1501", "KIA1502"), kinds=(kinds.K8S_GATEWAY,), check=several),
    Rule(codes=("KIA1503", "KIA1504"), kinds=(kinds.K8S_GATEWAY,), check=itself),
    Rule(codes=("KIA1601",), kinds=(kinds.REFERENCE_GRANT,), check=grants),
)
