"""Services: names of ports that say no protocol."""

from __future__ import annotations

from collections.abc import Iterator

from services.topology.analysis.findings import Finding, Level
from services.topology.analysis.ist.system import IGNORED_NAMESPACES, is_control_plane
from services.topology.analysis.lenses import Lens
from services.topology.analysis.rules import Entry, Rule
from services.topology.cluster import kinds
from services.topology.cluster.objects import Port, Service

NO_PROTOCOL = Entry(
    code="IST0118",
    name="PortNameIsNotUnderNamingConvention",
    level=Level.INFO,
    cause="Neither the port's name nor `appProtocol` says a protocol, so the proxy has to guess "
    "it from the first bytes.",
    remedy="Name the port `<protocol>` or `<protocol>-<more>` (http, http2, https, grpc, grpc-web, "
    "tcp, tls, mongo, redis, mysql, udp), or set `appProtocol`.",
)
EXTERNAL_TCP = Entry(
    code="IST0150",
    name="ExternalNameServiceTypeInvalidPortName",
    level=Level.WARNING,
    cause="A Service of type ExternalName has no address of its own, so the proxy takes TCP on "
    "this port for traffic to any address.",
    remedy="Name the port for the application's protocol, such as http or tls.",
)

_MANAGED = "gateway.istio.io/managed"
_MANAGERS = (
    "istio.io-gateway-controller",
    "istio.io-mesh-controller",
    "istio.io-eastwest-controller",
)
_PROTOCOLS = (
    *("tcp", "udp", "tls", "http", "http2", "https", "http_proxy", "grpc", "grpc-web"),
    *("mongo", "redis", "mysql"),
)
_APPLICATION_PROTOCOLS = ("kubernetes.io/h2c", "kubernetes.io/ws", "kubernetes.io/wss")
_WELL_KNOWN = (25, 53, 3306, 27017)
"""SMTP, DNS, MySQL, MongoDB: TCP whatever the name, for the server speaks first."""


def _ports(_: Lens, service: Service) -> Iterator[Finding]:
    if service.namespace in IGNORED_NAMESPACES or is_control_plane(service):
        return
    if service.labels.get(_MANAGED) in _MANAGERS:
        return
    is_external = service.type == "ExternalName"
    for index, port in enumerate(service.ports):
        if _says_protocol(port) and not (is_external and port.name == "tcp"):
            continue
        path = f"spec.ports[{index}].name"
        if is_external:
            message = f"Port {port.name or port.number} of an ExternalName Service may take TCP."
            yield EXTERNAL_TCP.on(service.key, message, path)
        else:
            message = f"Port {port.number} is named {port.name or '(nothing)'}, which is no "
            yield NO_PROTOCOL.on(service.key, f"{message}protocol.", path)


def _says_protocol(port: Port) -> bool:
    if port.protocol == "UDP" or port.number in _WELL_KNOWN:
        return True
    if port.app_protocol in _APPLICATION_PROTOCOLS:
        return True
    name = (port.app_protocol or port.name).lower()
    return name.startswith("grpc-web") or name.partition("-")[0] in _PROTOCOLS


ENTRIES = (NO_PROTOCOL, EXTERNAL_TCP)
RULES = (Rule(codes=("IST0118", "IST0150"), kinds=(kinds.SERVICE,), check=_ports),)
