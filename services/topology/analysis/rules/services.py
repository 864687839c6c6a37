"""Services: ports that say no protocol, and ports that no container declares."""

from __future__ import annotations

from collections.abc import Iterator

from services.topology.analysis.catalog import Rule, tell, those
from services.topology.analysis.findings import Finding
from services.topology.analysis.lenses import Lens
from services.topology.analysis.rules.injection import IGNORED_NAMESPACES, is_control_plane
from services.topology.analysis.rules.selectors import is_of_mesh, running
from services.topology.cluster import kinds
from services.topology.cluster.objects import Change, Port, Runs, Service
from services.topology.mesh import protocols
from services.topology.mesh.membership import MANAGED

_MANAGERS = (
    "istio.io-gateway-controller",
    "istio.io-mesh-controller",
    "istio.io-eastwest-controller",
)
_OF_ISTIOCTL = (
    *("tcp", "udp", "tls", "http", "http2", "https", "http_proxy", "grpc", "grpc-web"),
    *("mongo", "redis", "mysql"),
)
_APPLICATION_PROTOCOLS = ("kubernetes.io/h2c", "kubernetes.io/ws", "kubernetes.io/wss")
_WELL_KNOWN = (25, 53, 3306, 27017)
"""SMTP, DNS, MySQL, MongoDB: TCP whatever the name, for the server speaks first."""


def _ports(lens: Lens, service: Service) -> Iterator[Finding]:
    """istioctl looks at the ports of all Services, Kiali at those of the mesh."""
    found = _workloads(lens, service)
    is_looked_at = not (
        service.namespace in IGNORED_NAMESPACES
        or is_control_plane(service)
        or service.labels.get(MANAGED) in _MANAGERS
    )
    declared = [port for one in found for container in one.containers for port in container.ports]
    for index, port in enumerate(service.ports):
        path = f"spec.ports[{index}]"
        if service.type == "ExternalName":
            if is_looked_at and (port.name == "tcp" or not _says_protocol(port)):
                message = (
                    f"Port {port.name or port.number} of an ExternalName Service may take TCP."
                )
                yield tell("IST0150", service.key, message, f"{path}.name")
            continue
        is_unsaid = is_looked_at and not _says_protocol(port)
        is_unknown = bool(found) and not protocols.of_port(port)
        if port.app_protocol and (is_unsaid or is_unknown):
            message = f"The appProtocol {port.app_protocol} of port {port.number} is unknown."
            codes = those(IST0118=is_unsaid, KIA0602=is_unknown)
            at = f"{path}.appProtocol"
            yield tell("unknown-app-protocol", service.key, message, at, codes=codes)
        elif is_unsaid or is_unknown:
            named = f"({port.name})" if port.name else "without a name"
            message = f"The port {port.number} {named} does not say its protocol."
            codes = those(IST0118=is_unsaid, KIA0601=is_unknown)
            yield tell(
                "port-name-without-protocol", service.key, message, f"{path}.name", codes=codes
            )
        if found and not any(_is_target(port, one) for one in declared):
            message = f"No container behind port {port.number} declares port {port.target}."
            yield tell("KIA0701", service.key, message, f"{path}.targetPort")


def _workloads(lens: Lens, service: Service) -> list[Runs]:
    """The workloads behind a Service of the mesh, one of each form; none for one outside of it."""
    if not service.selector or service.namespace == lens.mesh().root_namespace:
        return []
    found = running(lens, service.namespace, service.selector)
    if not found or not is_of_mesh(lens, found[0]):
        return []
    return list({id(one.containers): one for one in found}.values())


def _says_protocol(port: Port) -> bool:
    """As istioctl has it."""
    if port.protocol == "UDP" or port.number in _WELL_KNOWN:
        return True
    if port.app_protocol in _APPLICATION_PROTOCOLS:
        return True
    name = (port.app_protocol or port.name).lower()
    return name.startswith("grpc-web") or name.partition("-")[0] in _OF_ISTIOCTL


def _is_target(port: Port, declared: Port) -> bool:
    if port.target.isdigit():
        return declared.number == int(port.target)
    return declared.name == port.target


def _matters(change: Change) -> bool:
    before, after = change.before, change.after
    if before is None or after is None:
        return True
    return any(
        getattr(before, name) != getattr(after, name)
        for name in ("ports", "selector", "labels", "type")
    )


RULES = (
    Rule(
        finds=("port-name-without-protocol", "unknown-app-protocol", "IST0150", "KIA0701"),
        kinds=(kinds.SERVICE,),
        check=_ports,
        matters=_matters,
    ),
)
