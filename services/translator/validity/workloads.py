"""Kubernetes' own objects: what Istio asks of them to work well.

`istioctl validate` refuses these; Kubernetes takes them and they run, so they are warnings here.
"""

from __future__ import annotations

import re

from services.translator.validity.parts import Part

_PREFIXES = (
    *("grpc", "grpc-web", "http", "http-proxy", "http2", "https", "tcp", "tls", "udp"),
    *("mongo", "redis", "mysql"),
)
_NAME = re.compile(rf"(?i:{'|'.join(_PREFIXES)})(?:-.*)?\Z", re.S)


def check_service(obj: Part) -> None:
    """Names of ports, by which Istio knows the protocol."""
    spec = obj["spec"]
    if spec["type"].text == "ExternalName":
        return
    for port in spec["ports"]:
        if port["appProtocol"].text or port["protocol"].text not in ("", "TCP"):
            continue
        name = port["name"]
        if not name.text:
            name.tell("service-port-unnamed")
        elif not _NAME.match(name.text):
            name.tell("service-port-name", name=name.text)
