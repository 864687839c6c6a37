"""KIA0601, KIA0602, KIA0701: the ports of Services in the mesh."""

from __future__ import annotations

from collections.abc import Iterator

from services.topology.analysis.findings import Finding, Level
from services.topology.analysis.kia.selections import is_in_mesh, running
from services.topology.analysis.lenses import Lens
from services.topology.analysis.rules import Entry, Rule
from services.topology.cluster import kinds
from services.topology.cluster.objects import Change, Port, Runs, Service
from services.topology.mesh import protocols

BAD_NAME = Entry(
    code="KIA0601",
    name="port.name.mismatch",
    level=Level.ERROR,
    cause="The port's name does not begin with a protocol, so the proxy has to guess it.",
    remedy="Name the port <protocol>[-suffix], such as http-web, or set appProtocol.",
)
BAD_PROTOCOL = Entry(
    code="KIA0602",
    name="port.appprotocol.mismatch",
    level=Level.ERROR,
    cause="The port's appProtocol is none that the mesh knows, so traffic is taken for TCP.",
    remedy="Set a protocol such as http, http2, grpc or tcp.",
)
NOT_EXPOSED = Entry(
    code="KIA0701",
    name="service.deployment.port.mismatch",
    level=Level.WARNING,
    cause="No container of the Service's workloads declares the port that the Service sends to.",
    remedy="Correct targetPort, or the ports of the container.",
)


def _of_mesh(lens: Lens, service: Service) -> list[Runs]:
    """The workloads behind a Service of the mesh; none for one outside of it."""
    if not service.selector or service.namespace == lens.mesh().root_namespace:
        return []
    found = running(lens, service.namespace, service.selector)
    return found if found and is_in_mesh(lens, found[0]) else []


def ports(lens: Lens, service: Service) -> Iterator[Finding]:
    found = _of_mesh(lens, service)
    if not found:
        return
    exposed = {id(form.containers): form.containers for form in found}
    declared = [port for containers in exposed.values() for c in containers for port in c.ports]
    for index, port in enumerate(service.ports):
        path = f"spec.ports[{index}]"
        yield from _protocol(service, port, path)
        if not any(_is_target(port, one) for one in declared):
            yield NOT_EXPOSED.on(
                service.key,
                f"no container behind port {port.number} declares port {port.target}",
                f"{path}.targetPort",
            )


def _protocol(service: Service, port: Port, path: str) -> Iterator[Finding]:
    if protocols.of_port(port):
        return
    if port.app_protocol:
        yield BAD_PROTOCOL.on(
            service.key,
            f"appProtocol {port.app_protocol} of port {port.number} is unknown",
            f"{path}.appProtocol",
        )
        return
    said = f"name {port.name} of port {port.number}" if port.name else f"port {port.number}"
    what = "does not begin with a protocol" if port.name else "has no name"
    yield BAD_NAME.on(service.key, f"{said} {what}", f"{path}.name")


def _is_target(port: Port, declared: Port) -> bool:
    if port.target.isdigit():
        return declared.number == int(port.target)
    return declared.name == port.target


def _matters(change: Change) -> bool:
    before, after = change.before, change.after
    if before is None or after is None:
        return True
    return bool(before.ports != after.ports or before.selector != after.selector)


ENTRIES = (BAD_NAME, BAD_PROTOCOL, NOT_EXPOSED)
RULES = (
    Rule(
        codes=("KIA0601", "KIA0602", "KIA0701"),
        kinds=(kinds.SERVICE,),
        check=ports,
        matters=_matters,
    ),
)
