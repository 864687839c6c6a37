"""Protocols as the ports of Services name them.

A port's `appProtocol` goes before its name; a name begins with the protocol, alone or before a
dash. https://istio.io/latest/docs/ops/configuration/traffic-management/protocol-selection/
"""

from __future__ import annotations

from services.topology.cluster.objects import Port

PROTOCOLS = frozenset(
    {
        "grpc",
        "grpc-web",
        "hbone",
        "http",
        "http2",
        "https",
        "mongo",
        "mysql",
        "redis",
        "tcp",
        "tls",
        "udp",
    }
)
_OF_KUBERNETES = {
    "kubernetes.io/h2c": "http2",
    "kubernetes.io/ws": "http",
    "kubernetes.io/wss": "https",
    "ws": "http",
    "wss": "https",
}


def of_app_protocol(text: str) -> str:
    """The protocol that an `appProtocol` means; "" for an unknown one."""
    lower = text.lower()
    return lower if lower in PROTOCOLS else _OF_KUBERNETES.get(lower, "")


def of_name(name: str) -> str:
    """The protocol that a port's name begins with; "" for none."""
    lower = name.lower()
    if lower == "grpc-web" or lower.startswith("grpc-web-"):
        return "grpc-web"
    first = lower.partition("-")[0]
    return first if first in PROTOCOLS else ""


def of_port(port: Port) -> str:
    """The protocol that a Service's port declares; "" where the proxy has to find out itself."""
    if port.protocol == "UDP":
        return "udp"
    return of_app_protocol(port.app_protocol) if port.app_protocol else of_name(port.name)
