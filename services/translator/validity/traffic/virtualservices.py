"""VirtualServices: whom they are for, and their routes of TCP and TLS."""

from __future__ import annotations

from services.translator.istio.objects import namespace_of
from services.translator.validity.names import (
    check_export,
    check_host_or_address,
    check_labels,
    overlapping,
)
from services.translator.validity.parts import Part
from services.translator.validity.traffic.destinations import (
    check_destination,
    check_gateway_names,
    check_weights,
)
from services.translator.validity.traffic.httproutes import check_http_route
from services.translator.validity.traffic.reachability import check_reachable
from services.translator.validity.values import check_address_or_subnet, check_port

_MESH = "mesh"


def check_virtual_service(obj: Part) -> None:
    """Its hosts, gateways and routes, and whether each route can be reached."""
    spec = obj["spec"]
    # One without hosts is a part of another one, which names it as a delegate.
    is_delegate = not spec["hosts"].has_items
    _check_gateways(spec, is_delegate=is_delegate)
    _check_hosts(spec)
    if not any(spec[name].has_items for name in ("http", "tcp", "tls")):
        spec.tell("routes-missing")
    for route in spec["http"]:
        check_http_route(route, is_delegate=is_delegate)
    for name in ("tcp", "tls"):
        if is_delegate and spec[name].has_items:
            spec[name].tell("delegate-of-http-only", field=name)
    for route in spec["tcp"]:
        _check_tcp(route)
    hosts = [host.text for host in spec["hosts"]]
    for route in spec["tls"]:
        _check_tls(route, hosts)
    check_export(spec, namespace=namespace_of(obj.value))
    check_reachable(spec)


def _check_gateways(spec: Part, *, is_delegate: bool) -> None:
    gateways = spec["gateways"]
    if is_delegate and gateways.has_items:
        gateways.tell("delegate-with-gateways")
    check_gateway_names(gateways)


def _check_hosts(spec: Part) -> None:
    gateways = [gateway.text for gateway in spec["gateways"]]
    is_for_mesh = not gateways or _MESH in gateways
    for host in spec["hosts"]:
        check_host_or_address(host)
        if is_for_mesh and host.text == "*":
            host.tell("host-all-in-mesh")
    for host, earlier in overlapping(spec["hosts"]):
        host.tell("host-twice", earlier=earlier)


def _check_tcp(route: Part) -> None:
    for match in route["match"]:
        _check_connection(match)
    _check_connection_routes(route)


def _check_tls(route: Part, hosts: list[str]) -> None:
    if not route["match"].has_items:
        route["match"].tell("tls-match-missing")
    for match in route["match"]:
        names = match["sniHosts"]
        if not names.has_items:
            names.tell("sni-missing")
        for name in names:
            check_host_or_address(name)
            if not any(_is_below(name.text, host) for host in hosts):
                name.tell("sni-elsewhere", name=name.text)
        _check_connection(match)
    _check_connection_routes(route)


def _check_connection(match: Part) -> None:
    """What a match of TCP and one of TLS have in common."""
    for subnet in match["destinationSubnets"]:
        check_address_or_subnet(subnet)
    if match["port"].number:
        check_port(match["port"])
    check_labels(match["sourceLabels"])
    check_gateway_names(match["gateways"])


def _check_connection_routes(route: Part) -> None:
    if not route["route"].has_items:
        route["route"].tell("connection-route-missing")
    for destination in route["route"]:
        check_destination(destination["destination"])
    check_weights(route["route"])


def _is_below(name: str, host: str) -> bool:
    """Whether all that `name` stands for is of `host`."""
    if host.startswith("*"):
        return name.removeprefix("*").endswith(host[1:])
    return name == host
