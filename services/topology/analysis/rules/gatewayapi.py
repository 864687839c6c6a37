"""Objects of the Gateway API: references across namespaces, listeners and addresses of several; and
the trouble that controllers report in an object's status."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from services.topology.analysis.catalog import Rule, tell
from services.topology.analysis.findings import Finding
from services.topology.analysis.lenses import Lens
from services.topology.analysis.rules import known
from services.topology.analysis.rules.injection import IGNORED_NAMESPACES
from services.topology.analysis.rules.webhooks import selects
from services.topology.cluster import kinds
from services.topology.cluster.forms import number, part, parts, text
from services.topology.cluster.objects import Change, Config, Service


def _grants(lens: Lens, route: Config) -> Iterator[Finding]:
    """KIA1402: a Service in a namespace that does not let the route refer to it."""
    for path, space, name in known.backends(route):
        if space == route.namespace or lens.service(space, name) is None:
            continue
        if not _is_granted(lens, route, space, name):
            message = f"No ReferenceGrant of namespace {space} allows Service {name}."
            yield tell("KIA1402", route.key, message, f"{path}.name")


def _is_granted(lens: Lens, route: Config, space: str, name: str) -> bool:
    kind = kinds.short(route.key.kind)
    for grant in lens.all(kinds.REFERENCE_GRANT, space):
        is_from = any(
            one.get("kind") == kind and one.get("namespace") == route.namespace
            for _, one in parts(grant.spec, "from")
        )
        if is_from and any(
            one.get("kind") == "Service" and text(one, "name") in ("", name)
            for _, one in parts(grant.spec, "to")
        ):
            return True
    return False


# --- the routes that a Gateway takes --------------------------------------------------------------


def _taken(lens: Lens, route: Config) -> Iterator[Finding]:
    """KIA1401: a Gateway that is there, none of whose listeners takes routes of this namespace."""
    for index, parent in parts(route.spec, "parentRefs"):
        place = text(parent, "namespace") or route.namespace, text(parent, "name")
        gateway = lens.get(kinds.K8S_GATEWAY, *place) if _is_gateway(parent) else None
        if gateway is None:
            continue
        listeners = [one for _, one in parts(gateway.spec, "listeners") if _is_meant(parent, one)]
        if listeners and not any(_takes(lens, gateway, one, route) for one in listeners):
            message = (
                f"No listener of Gateway {'/'.join(place)} takes routes of namespace "
                f"{route.namespace}."
            )
            yield tell("KIA1401", route.key, message, f"spec.parentRefs[{index}]")


def _is_gateway(parent: Mapping[str, Any]) -> bool:
    return text(parent, "kind") in ("", "Gateway")


def _is_meant(parent: Mapping[str, Any], listener: Mapping[str, Any]) -> bool:
    """Whether a reference that names a section or a port means the listener."""
    is_section = text(parent, "sectionName") in ("", text(listener, "name"))
    return is_section and number(parent, "port") in (0, number(listener, "port"))


def _takes(lens: Lens, gateway: Config, listener: Mapping[str, Any], route: Config) -> bool:
    allowed = part(listener, "allowedRoutes", "namespaces")
    match text(allowed, "from") or "Same":
        case "All":
            return True
        case "Selector":
            space = lens.namespace(route.namespace)
            return space is not None and selects(allowed, "selector", space.labels)
        case _:
            return gateway.namespace == route.namespace


# --- Gateways -------------------------------------------------------------------------------------


def _listeners(gateway: Config) -> dict[tuple[str, int], int]:
    """Index of each listener by host name and port. Those without a host name are left out: each
    Gateway has addresses of its own, and all waypoints listen on one port."""
    return {
        (str(one["hostname"]), number(one, "port")): index
        for index, one in parts(gateway.spec, "listeners")
        if one.get("hostname")
    }


def _addresses(gateway: Config) -> dict[tuple[str, str], int]:
    return {
        (str(one.get("type") or "IPAddress"), str(one["value"])): index
        for index, one in parts(gateway.spec, "addresses")
        if one.get("value")
    }


def _several(lens: Lens, gateway: Config) -> Iterator[Finding]:
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
                    yield tell(
                        "KIA1501",
                        one.key,
                        f"{two.key} listens for {host} on port {port}, too.",
                        f"spec.listeners[{index}]",
                    )
            for (kind, value), index in _addresses(one).items():
                if (kind, value) in their_addresses:
                    yield tell(
                        "KIA1502",
                        one.key,
                        f"{two.key} asks for {kind} {value}, too.",
                        f"spec.addresses[{index}]",
                    )


def _twice(_: Lens, gateway: Config) -> Iterator[Finding]:
    counted: Counter[tuple[Any, ...]] = Counter()
    for index, one in parts(gateway.spec, "listeners"):
        same = (one.get("hostname") or "", one.get("port"), one.get("protocol"))
        counted[same] += 1
        if counted[same] > 1:
            yield tell(
                "KIA1503",
                gateway.key,
                f"A listener for {same[0] or 'all hosts'}, port {same[1]}, {same[2]} is there "
                "already.",
                f"spec.listeners[{index}]",
            )


# --- conditions of a status (IST0171) -------------------------------------------------------------


_BOUND = frozenset({"istio.io/WaypointBound"})
_ACCEPTED = frozenset({"Accepted", "Programmed", "ResolvedRefs"})
_WATCHED = {
    kinds.SERVICE: _BOUND,
    kinds.SERVICE_ENTRY: _BOUND,
    kinds.WORKLOAD_ENTRY: _BOUND,
    kinds.AUTHORIZATION_POLICY: frozenset({"ZtunnelAccepted", "WaypointAccepted"}),
    kinds.K8S_GATEWAY: _ACCEPTED,
    kinds.HTTP_ROUTE: _ACCEPTED,
    kinds.GRPC_ROUTE: _ACCEPTED,
}


def _conditions(_: Lens, obj: Service | Config) -> Iterator[Finding]:
    if obj.key.kind == kinds.SERVICE and obj.namespace in IGNORED_NAMESPACES:
        return
    for condition in obj.conditions:
        kind, reason = text(condition, "type"), text(condition, "reason")
        if kind not in _WATCHED[obj.key.kind]:
            continue
        is_partial = kind == "WaypointAccepted" and reason == "PartiallyInvalid"
        if text(condition, "status") == "False" or is_partial:
            message = f"{kind}: {reason}: {' '.join(text(condition, 'message').split())}"
            yield tell("IST0171", obj.key, message, "status.conditions")


def _conditions_changed(change: Change) -> bool:
    before, after = change.before, change.after
    return before is None or after is None or before.conditions != after.conditions


RULES = (
    Rule(finds=("KIA1402",), kinds=kinds.ROUTES, check=_grants),
    Rule(finds=("KIA1401",), kinds=kinds.ROUTES, check=_taken),
    Rule(finds=("KIA1501", "KIA1502"), kinds=(kinds.K8S_GATEWAY,), check=_several),
    Rule(finds=("KIA1503",), kinds=(kinds.K8S_GATEWAY,), check=_twice),
    Rule(finds=("IST0171",), kinds=tuple(_WATCHED), check=_conditions, matters=_conditions_changed),
)
