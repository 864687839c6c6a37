"""Sidecars: the listeners of a proxy and what they let through."""

from __future__ import annotations

from services.translator.validity.names import (
    check_placed_host,
    check_port_name,
    check_selector,
    is_host,
)
from services.translator.validity.parts import Part
from services.translator.validity.traffic.destinations import check_destination
from services.translator.validity.traffic.gateways import (
    check_bind,
    check_protocol,
    check_server_tls,
)
from services.translator.validity.traffic.policies import check_pool
from services.translator.validity.values import SOCKET, check_address, check_port, check_socket

_OWN_ADDRESSES = frozenset({"127.0.0.1", "0.0.0.0", "[::1]", "[::]"})
_NAMESPACES = frozenset({"*", ".", "~"})
_LARGEST_PORT = 65535
_DIGITS = "0123456789"


def check_sidecar(obj: Part) -> None:
    """Its selector, listeners and outbound policy."""
    spec = obj["spec"]
    check_selector(spec["workloadSelector"], field="labels")
    ingress, egress, outbound = spec["ingress"], spec["egress"], spec["outboundTrafficPolicy"]
    listens = ingress.has_items or egress.has_items
    if not listens and not outbound and not spec["inboundConnectionPool"]:
        spec.tell("sidecar-empty")
    ports: set[float] = set()
    for listener in ingress:
        _check_ingress(listener)
        _check_port_once(listener, ports)
    _check_egresses(list(egress))
    check_pool(spec["inboundConnectionPool"])
    _check_outbound(outbound)


def _check_port_once(listener: Part, known: set[float]) -> None:
    number = listener["port"]["number"]
    if listener["bind"].text.startswith(SOCKET):
        return
    if number.number and number.number in known:
        number.tell("listener-port-twice")
    known.add(number.number)


def _check_ingress(listener: Part) -> None:
    port = listener["port"]
    if not port:
        port.tell("listener-port-missing")
    else:
        check_port(port["number"])
        _check_name_and_protocol(port)
    if listener["bind"].text:
        check_address(listener["bind"])
    if listener["defaultEndpoint"].text:
        _check_endpoint(listener["defaultEndpoint"])
    tls = listener["tls"]
    if tls:
        check_server_tls(listener, is_gateway=False)
        if tls["mode"].text == "ISTIO_MUTUAL":
            tls["mode"].tell("listener-tls-mode")
        if tls["httpsRedirect"].is_true:
            tls["httpsRedirect"].tell("listener-redirect")
        for name in ("credentialName", "credentialNames"):
            if tls[name].text or tls[name].has_items:
                tls[name].tell("listener-credential")
    check_pool(listener["connectionPool"])


def _check_endpoint(endpoint: Part) -> None:
    text = endpoint.text
    if text.startswith(SOCKET):
        check_socket(endpoint)
        return
    address, _, port = text.rpartition(":")
    is_port = bool(port) and not port.strip(_DIGITS) and 1 <= int(port[:6]) <= _LARGEST_PORT
    if address not in _OWN_ADDRESSES or not is_port:
        endpoint.tell("listener-endpoint", endpoint=text)


def _check_egresses(listeners: list[Part]) -> None:
    ports: set[float] = set()
    known: set[str] = set()
    sockets: set[str] = set()
    for place, listener in enumerate(listeners):
        port, bind = listener["port"], listener["bind"]
        if not port and place < len(listeners) - 1:
            listener.tell("egress-without-port-not-last")
        if port:
            _check_egress_port(listener)
            check_bind(bind)
        if bind.text.startswith(SOCKET):
            if port and listener["captureMode"].text not in ("", "DEFAULT", "NONE"):
                listener["captureMode"].tell("egress-socket-captured")
            if port and bind.text in sockets:
                bind.tell("listener-socket-twice")
            sockets.add(bind.text)
        elif port:
            _check_port_once(listener, ports)
        _check_egress_hosts(listener["hosts"], known)


def _check_egress_port(listener: Part) -> None:
    port = listener["port"]
    is_socket = listener["bind"].text.startswith(SOCKET)
    if not port["number"].number:
        if not is_socket:
            port["number"].tell("egress-port-zero")
    else:
        check_port(port["number"])
        if is_socket:
            listener["bind"].tell("address-malformed", address=listener["bind"].text)
    _check_name_and_protocol(port)


def _check_name_and_protocol(port: Part) -> None:
    if port["name"].text:
        check_port_name(port["name"], port["name"].text)
    check_protocol(port["protocol"])


def _check_egress_hosts(hosts: Part, known: set[str]) -> None:
    if not hosts.has_items:
        hosts.tell("egress-hosts-missing")
    own: set[str] = set()
    for host in hosts:
        check_placed_host(host, rule="egress-host-namespace", namespaces=_NAMESPACES)
        if host.text in own:
            host.tell("egress-host-twice")
        own.add(host.text)
    if "*/*" in own and len(own) > 1:
        hosts.tell("egress-host-all")


def _check_outbound(policy: Part) -> None:
    proxy = policy["egressProxy"]
    if not proxy:
        return
    if policy["mode"].text != "ALLOW_ANY":
        proxy.tell("proxy-of-registry")
    if not is_host(proxy["host"].text):
        proxy["host"].tell("host-malformed", host=proxy["host"].text or '""')
    if not proxy["port"]:
        proxy["port"].tell("proxy-port-missing")
    check_destination(proxy)
