"""What Istio takes a Service's port for, because only HTTP ports have paths, methods and headers.

The rules are those of istiod's protocol selection (`pkg/config/kube/conversion.go` of Istio): the
application protocol wins over the port's name, a name counts up to its first hyphen, and a port
that says nothing is looked into at run time unless its number is one of a few where the server
speaks first.
"""

from __future__ import annotations

from enum import Enum

from services.chassis.messages.facts import ServicePort


class Protocol(Enum):
    """How a port can be routed."""

    HTTP = "HTTP"
    TLS = "TLS"
    TCP = "TCP"
    DETECTED = "a protocol that Istio finds out at run time"
    UNROUTABLE = "no protocol of the mesh"

    @property
    def carries_http(self) -> bool:
        return self in (Protocol.HTTP, Protocol.DETECTED)

    @property
    def carries_tcp(self) -> bool:
        return self in (Protocol.TCP, Protocol.DETECTED)


_BY_NAME = {
    **dict.fromkeys(("http", "http2", "http_proxy", "grpc"), Protocol.HTTP),
    **dict.fromkeys(("https", "tls"), Protocol.TLS),
    **dict.fromkeys(("tcp", "mongo", "redis", "mysql"), Protocol.TCP),
    # A name says nothing about the transport; Istio does not route what calls itself UDP.
    "udp": Protocol.UNROUTABLE,
}
_BY_APP_PROTOCOL = {
    "kubernetes.io/h2c": Protocol.HTTP,
    "kubernetes.io/ws": Protocol.HTTP,
    "kubernetes.io/wss": Protocol.TLS,
}
_SERVER_SPEAKS_FIRST = (25, 53, 3306, 27017)


def protocol_of(port: ServicePort) -> Protocol:
    """What Istio takes the port for."""
    if port.protocol not in ("", "TCP"):
        return Protocol.UNROUTABLE
    if port.app_protocol in _BY_APP_PROTOCOL:
        return _BY_APP_PROTOCOL[port.app_protocol]
    name = (port.app_protocol or port.name).lower()
    if name.startswith("grpc-web"):
        return Protocol.HTTP
    known = _BY_NAME.get(name.partition("-")[0])
    if known is not None:
        return known
    return Protocol.TCP if port.port in _SERVER_SPEAKS_FIRST else Protocol.DETECTED
