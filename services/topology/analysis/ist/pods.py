"""Pods and Deployments: the proxy's own user, and Services that contend for a workload's ports."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from services.topology.analysis.findings import Finding, Level
from services.topology.analysis.ist.meshed import PROXY, applications, is_in_mesh, matters
from services.topology.analysis.ist.system import IGNORED_NAMESPACES, is_control_plane
from services.topology.analysis.lenses import Lens
from services.topology.analysis.rules import Entry, Rule
from services.topology.cluster import kinds
from services.topology.cluster.objects import Runs, Service, Workload

SEVERAL_PROTOCOLS = Entry(
    code="IST0116",
    name="DeploymentAssociatedToMultipleServices",
    level=Level.WARNING,
    cause="Services send to these pods on the same port with different transport protocols, and a "
    "proxy can listen there with one only.",
    remedy="Use different ports for the protocols, or one Service.",
)
SEVERAL_PORTS = Entry(
    code="IST0137",
    name="DeploymentConflictingPorts",
    level=Level.WARNING,
    cause="Services send to one port of these pods by different ports of their own, and a proxy "
    "cannot tell which of them was meant.",
    remedy="Use the same port in all Services for this target port.",
)
PROXY_USER = Entry(
    code="IST0144",
    name="InvalidApplicationUID",
    level=Level.WARNING,
    cause="Traffic of user 1337 is the proxy's own and not sent through it, so this application "
    "is outside the mesh.",
    remedy="Run the application as another user.",
)

_UID = 1337
_MANAGED = "gateway.istio.io/managed"
_WAYPOINT = "istio.io-mesh-controller"


def _user(_: Lens, runs: Runs) -> Iterator[Finding]:
    is_pod = runs.key.kind == kinds.POD
    if is_control_plane(runs) or (is_pod and runs.namespace in IGNORED_NAMESPACES):
        return
    spec = "spec" if is_pod else "spec.template.spec"
    if runs.run_as_user == _UID:
        path = f"{spec}.securityContext.runAsUser"
        yield PROXY_USER.on(runs.key, f"The pod runs as user {_UID}.", path)
    for index, container in enumerate(applications(runs)):
        if container.run_as_user == _UID and container.name not in (PROXY, "istio-operator"):
            path = f"{spec}.containers[{index}].securityContext.runAsUser"
            message = f"Container {container.name} runs as user {_UID}."
            yield PROXY_USER.on(runs.key, message, path)


def _ports(lens: Lens, workload: Workload) -> Iterator[Finding]:
    if workload.labels.get(_MANAGED) == _WAYPOINT:
        return
    if not is_in_mesh(lens, workload, applications(workload)):
        return
    services = list(lens.services(workload.namespace, workload.pod_labels))
    for number, protocols in sorted(_by_port(services).items()):
        if len(protocols) > 1:
            names = sorted({name for found in protocols.values() for name in found})
            message = f"Port {number} has several protocols in: {', '.join(names)}."
            yield SEVERAL_PROTOCOLS.on(workload.key, message)
    for target, ports in sorted(_by_target(services).items()):
        if len(ports) > 1:
            names = sorted({name for found in ports.values() for name in found})
            listed = ", ".join(str(port) for port in sorted(ports))
            message = f"Target port {target} is behind the ports {listed} of: {', '.join(names)}."
            yield SEVERAL_PORTS.on(workload.key, message)


def _by_port(services: list[Service]) -> dict[int, dict[str, set[str]]]:
    """Names of the Services, by port and protocol."""
    found: dict[int, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for service in services:
        for port in service.ports:
            found[port.number][port.protocol].add(service.name)
    return found


def _by_target(services: list[Service]) -> dict[str, dict[int, set[str]]]:
    """Names of the Services, by target port and port."""
    found: dict[str, dict[int, set[str]]] = defaultdict(lambda: defaultdict(set))
    for service in services:
        for port in service.ports:
            found[port.target or str(port.number)][port.number].add(service.name)
    return found


ENTRIES = (SEVERAL_PROTOCOLS, SEVERAL_PORTS, PROXY_USER)
RULES = (
    Rule(codes=("IST0144",), kinds=(kinds.POD, kinds.DEPLOYMENT), check=_user, matters=matters),
    Rule(codes=("IST0116", "IST0137"), kinds=(kinds.DEPLOYMENT,), check=_ports, matters=matters),
)
