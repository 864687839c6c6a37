"""ServiceEntries, WorkloadEntries and WorkloadGroups: what is not in the cluster."""

from __future__ import annotations

from services.translator.istio.objects import namespace_of
from services.translator.validity.names import (
    check_export,
    check_host,
    check_labels,
    check_plain_header,
    check_port_name,
    check_selector,
    is_host,
)
from services.translator.validity.parts import Part
from services.translator.validity.traffic.gateways import check_protocol
from services.translator.validity.values import (
    SOCKET,
    check_address_or_subnet,
    check_not_negative,
    check_port,
    check_socket,
    is_address,
)

_BY_NAME = frozenset({"DNS", "DNS_ROUND_ROBIN"})
_DYNAMIC = "DYNAMIC_DNS"
_DYNAMIC_PROTOCOLS = frozenset({"HTTP", "TLS", "GRPC", "HTTP2"})

_NAMING_PROTOCOLS = frozenset({"HTTP", "HTTP2", "HTTP_PROXY", "GRPC", "GRPC-WEB", "HTTPS", "TLS"})


def check_service_entry(obj: Part) -> None:
    """Its hosts, addresses and ports, and how its endpoints are found."""
    spec = obj["spec"]
    if not spec["hosts"].has_items:
        spec["hosts"].tell("hosts-missing")
    for host in spec["hosts"]:
        if host.text == "*":
            host.tell("host-all")
        else:
            check_host(host)
    resolution = spec["resolution"].text or "NONE"
    _check_selection(spec, resolution)
    for address in spec["addresses"]:
        check_address_or_subnet(address)
        if "/" in address.text and resolution not in ("NONE", "STATIC"):
            address.tell("subnet-of-names", resolution=resolution)
    _check_ports(spec)
    _check_resolution(spec, resolution)
    check_export(spec, namespace=namespace_of(obj.value), to_nobody=True)


def _check_selection(spec: Part, resolution: str) -> None:
    selector = spec["workloadSelector"]
    if selector and spec["endpoints"].has_items:
        spec["endpoints"].tell("settings-excluded", one="workloadSelector", other="endpoints")
    check_selector(selector, field="labels")
    if selector.has_items and resolution == "NONE":
        selector.tell("selector-without-resolution")


def _check_ports(spec: Part) -> None:
    numbers: set[float] = set()
    names: set[str] = set()
    for port in spec["ports"]:
        name, number = port["name"], port["number"]
        if name.text in names:
            name.tell("port-name-twice", name=name.text)
        if number.number in numbers:
            number.tell("port-twice")
        names.add(name.text)
        numbers.add(number.number)
        check_port_name(name, name.text)
        check_protocol(port["protocol"])
        check_port(number)
        if port["targetPort"].number:
            check_port(port["targetPort"])


def _check_resolution(spec: Part, resolution: str) -> None:
    endpoints = list(spec["endpoints"])
    if resolution == "NONE":
        if endpoints:
            spec["endpoints"].tell("endpoints-unresolved")
        _check_addressed(spec)
        return
    for endpoint in endpoints:
        _check_endpoint_ports(spec, endpoint)
        check_workload(endpoint, is_named=resolution in _BY_NAME, is_address_only=True)
    if resolution == _DYNAMIC:
        _check_dynamic(spec)
    if resolution in _BY_NAME:
        if not endpoints:
            for host in spec["hosts"]:
                if host.text and not is_host(host.text):
                    host.tell("host-unresolvable", host=host.text)
        _check_told_apart(spec)
        if resolution == "DNS_ROUND_ROBIN" and len(endpoints) > 1:
            spec["endpoints"].tell("endpoints-of-round-robin")


def _check_told_apart(spec: Part) -> None:
    """Several hosts share ports only where a request names its host."""
    protocols = {port["protocol"].text.upper() for port in spec["ports"]}
    if len(list(spec["hosts"])) > 1 and protocols - _NAMING_PROTOCOLS:
        spec["hosts"].tell("hosts-of-connections")


def _check_addressed(spec: Part) -> None:
    """TCP can only be told apart by addresses."""
    if spec["addresses"].has_items:
        return
    for port in spec["ports"]:
        if port["protocol"].text.upper() in ("", "TCP"):
            port.tell("tcp-without-address")


def _check_dynamic(spec: Part) -> None:
    if spec["endpoints"].has_items:
        spec["endpoints"].tell("endpoints-of-dynamic")
    for host in spec["hosts"]:
        if not host.text.startswith("*"):
            host.tell("dynamic-without-wildcard")
    for port in spec["ports"]:
        if port["protocol"].text.upper() not in _DYNAMIC_PROTOCOLS:
            port["protocol"].tell("dynamic-protocol")


def _check_endpoint_ports(spec: Part, endpoint: Part) -> None:
    is_socket = endpoint["address"].text.startswith(SOCKET)
    if is_socket and len(list(spec["ports"])) != 1:
        endpoint["address"].tell("socket-of-ports")
    names = {port["name"].text for port in spec["ports"]}
    for name, port in endpoint["ports"].fields():
        if name not in names and not is_socket:
            port.tell("endpoint-port-unknown", name=name)


def check_workload_entry(obj: Part) -> None:
    """Its address, ports and labels."""
    check_workload(obj["spec"], is_named=True)


def check_workload(entry: Part, *, is_named: bool, is_address_only: bool = False) -> None:
    """An address with ports and labels; `is_named` where it may be a name."""
    address = entry["address"]
    if address.text.startswith(SOCKET):
        if is_named and is_address_only:
            address.tell("endpoint-malformed", address=address.text)
        check_socket(address)
        if entry["ports"].has_items:
            entry["ports"].tell("socket-with-ports")
    elif not address.text:
        _check_unaddressed(entry, is_named=is_named and is_address_only)
    elif not is_address(address.text) and not (is_named and is_host(address.text)):
        address.tell("endpoint-malformed", address=address.text)
    for name, port in entry["ports"].fields():
        check_port_name(port, name)
        check_port(port)
    check_labels(entry["labels"])


def _check_unaddressed(entry: Part, *, is_named: bool) -> None:
    if is_named or not entry["network"].text:
        entry["address"].tell("address-missing")
    else:
        entry["address"].tell("address-of-network", network=entry["network"].text)


def check_workload_group(obj: Part) -> None:
    """Its template, labels and probe."""
    spec = obj["spec"]
    if not spec["template"]:
        spec["template"].tell("template-missing")
    check_labels(spec["metadata"]["labels"])
    _check_probe(spec["probe"])


def _check_probe(probe: Part) -> None:
    if not probe:
        return
    check_not_negative(
        probe,
        *("initialDelaySeconds", "timeoutSeconds", "periodSeconds"),
        *("successThreshold", "failureThreshold"),
    )
    http, tcp, command = probe["httpGet"], probe["tcpSocket"], probe["exec"]
    if http:
        check_port(http["port"])
        if http["scheme"].text not in ("", "HTTP", "HTTPS"):
            http["scheme"].tell("probe-scheme")
        for header in http["httpHeaders"]:
            check_plain_header(header["name"])
    elif tcp:
        check_port(tcp["port"])
    elif command:
        if not command["command"].has_items:
            command["command"].tell("probe-command-missing")
    else:
        probe.tell("probe-unknown")
