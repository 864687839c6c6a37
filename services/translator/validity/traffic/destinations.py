"""Where routes lead and where they hold: destinations with their shares, and gateways."""

from __future__ import annotations

from services.translator.validity.names import check_host, check_subset, is_label
from services.translator.validity.parts import Part
from services.translator.validity.values import check_port


def check_destination(destination: Part) -> None:
    """Where a route leads: a host, perhaps one of its subsets or ports."""
    if not destination:
        destination.tell("destination-missing")
        return
    host = destination["host"]
    if host.text == "*":
        host.tell("destination-all")
    else:
        check_host(host)
    check_subset(destination["subset"])
    if destination["port"]:
        check_port(destination["port"]["number"])


def check_weights(routes: Part) -> None:
    """Shares of the destinations of a route: none below 0, and of several not all 0."""
    given = list(routes)
    for route in given:
        if route["weight"].number < 0:
            route["weight"].tell("weight-negative")
    if len(given) > 1 and sum(route["weight"].number for route in given) == 0:
        routes.tell("weights-zero")


def check_gateway_names(gateways: Part) -> None:
    """Gateways as `namespace/name`, or a name in the object's namespace."""
    for gateway in gateways:
        namespace, slash, name = gateway.text.partition("/")
        if slash:
            if not is_label(namespace) or not is_label(name):
                gateway.tell("gateway-malformed", name=gateway.text)
            continue
        check_host(gateway, wildcard=False)
        parts = gateway.text.split(".")
        if len(parts) > 1:
            gateway.tell("gateway-by-host", wanted=f"{parts[1]}/{parts[0]}")
