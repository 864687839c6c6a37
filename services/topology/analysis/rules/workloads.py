"""Workloads without a policy or between sidecar and ambient, the proxy's own user, contended ports.

What runs is seen on pods and told about the workload that made them: two pods that show the same
make one finding.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from services.topology.analysis.catalog import Rule, tell
from services.topology.analysis.findings import Finding
from services.topology.analysis.lenses import Lens
from services.topology.analysis.rules.ambient import is_policy_of_requests
from services.topology.analysis.rules.injection import (
    IGNORED_NAMESPACES,
    applications,
    is_control_plane,
    runs_differently,
)
from services.topology.analysis.rules.selectors import is_of_mesh
from services.topology.cluster import kinds
from services.topology.cluster.objects import Change, Labels, Pod, Runs, Service, Workload
from services.topology.mesh.images import PROXY
from services.topology.mesh.membership import (
    DATAPLANE,
    is_captured,
    is_gateway,
    is_waypoint,
    is_ztunnel,
    wants_ambient,
    wants_sidecar,
    waypoint_of,
)
from services.topology.mesh.security import policies_for, selects


def _is_own(runs: Runs) -> bool:
    """Whether it is a workload, or a pod that no other object made."""
    return not isinstance(runs, Pod) or runs.owner is None


def _labels_differ(change: Change) -> bool:
    """Whether what puts a workload or pod into the mesh has changed, or it came or went."""
    before, after = change.before, change.after
    if before is None or after is None:
        return True
    return any(
        getattr(before, name) != getattr(after, name)
        for name in ("pod_labels", "pod_annotations", "containers", "host_network")
    )


def _is_infrastructure(runs: Runs) -> bool:
    return is_waypoint(runs.pod_labels) or is_gateway(runs) or is_ztunnel(runs)


def _space_labels(lens: Lens, runs: Runs) -> Labels:
    space = lens.namespace(runs.namespace)
    return space.labels if space is not None else {}


# --- what labels ask for --------------------------------------------------------------------------


def _uncovered(lens: Lens, runs: Runs) -> Iterator[Finding]:
    if not _is_own(runs) or is_waypoint(runs.pod_labels) or not is_of_mesh(lens, runs):
        return
    root = lens.mesh().root_namespace
    if not any(True for _ in policies_for(lens, runs.namespace, runs.pod_labels, root=root)):
        yield tell("KIA1301", runs.key, "No AuthorizationPolicy selects this workload.")


def _labelled(lens: Lens, runs: Runs) -> Iterator[Finding]:
    if not _is_own(runs) or _is_infrastructure(runs):
        return
    labels = _space_labels(lens, runs)
    if not wants_ambient(labels, runs.pod_labels):
        return
    if wants_sidecar(labels, runs):
        yield tell("KIA1311", runs.key, "Labels ask for a sidecar and for ambient.")
    if not _has_waypoint(lens, runs):
        for policy in lens.all(kinds.AUTHORIZATION_POLICY, runs.namespace):
            if is_policy_of_requests(policy) and selects(
                lens, policy, runs.namespace, runs.pod_labels
            ):
                yield tell(
                    "KIA1317",
                    runs.key,
                    f"{policy.key} speaks of requests, and no waypoint reads it.",
                )


def _has_waypoint(lens: Lens, runs: Runs) -> bool:
    space = lens.namespace(runs.namespace)
    if waypoint_of(runs.pod_labels, space) is not None:
        return True
    return any(
        waypoint_of(service.labels, space) is not None
        for service in lens.services(runs.namespace, runs.pod_labels)
    )


# --- what runs ------------------------------------------------------------------------------------


def _running(lens: Lens, pod: Pod) -> Iterator[Finding]:
    if _is_infrastructure(pod):
        return
    owner = pod.owner or pod.key
    space = lens.namespace(pod.namespace)
    labels = _space_labels(lens, pod)
    if is_captured(pod) and wants_sidecar(labels, pod):
        yield tell("KIA1314", owner, "Pods are redirected to the ztunnel.")
    is_ambient = wants_ambient(labels, pod.labels)
    if pod.has_proxy and is_ambient:
        is_own_label = pod.labels.get(DATAPLANE) == "ambient"
        mistake = "KIA1315" if is_own_label else "KIA1316"
        yield tell(mistake, owner, "Pods have a sidecar.")
    waypoint = waypoint_of(pod.labels, space)
    if waypoint is None or pod.labels.get(DATAPLANE) == "none":
        return
    if not is_ambient:
        yield tell("KIA1312", owner, f"Labels ask for waypoint {'/'.join(waypoint)}.")
    if lens.get(kinds.K8S_GATEWAY, *waypoint) is None:
        yield tell("KIA1313", owner, f"Waypoint {'/'.join(waypoint)} does not exist.")


# --- users and ports ------------------------------------------------------------------------------

_UID = 1337


def _user(_: Lens, runs: Runs) -> Iterator[Finding]:
    is_pod = runs.key.kind == kinds.POD
    if is_control_plane(runs) or (is_pod and runs.namespace in IGNORED_NAMESPACES):
        return
    spec = "spec" if is_pod else "spec.template.spec"
    if runs.run_as_user == _UID:
        path = f"{spec}.securityContext.runAsUser"
        yield tell("IST0144", runs.key, f"The pod runs as user {_UID}.", path)
    for index, container in enumerate(applications(runs)):
        if container.run_as_user == _UID and container.name not in (PROXY, "istio-operator"):
            path = f"{spec}.containers[{index}].securityContext.runAsUser"
            message = f"Container {container.name} runs as user {_UID}."
            yield tell("IST0144", runs.key, message, path)


def _ports(lens: Lens, workload: Workload) -> Iterator[Finding]:
    if is_waypoint(workload.labels) or not is_of_mesh(lens, workload):
        return
    services = list(lens.services(workload.namespace, workload.pod_labels))
    for number, protocols in sorted(_by_port(services).items()):
        if len(protocols) > 1:
            names = sorted({name for found in protocols.values() for name in found})
            message = f"Port {number} has several protocols in: {', '.join(names)}."
            yield tell("IST0116", workload.key, message)
    for target, ports in sorted(_by_target(services).items()):
        if len(ports) > 1:
            names = sorted({name for found in ports.values() for name in found})
            listed = ", ".join(str(port) for port in sorted(ports))
            message = f"Target port {target} is behind the ports {listed} of: {', '.join(names)}."
            yield tell("IST0137", workload.key, message)


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


_ALL = (*kinds.WORKLOADS, kinds.POD)
RULES = (
    Rule(finds=("KIA1301",), kinds=_ALL, check=_uncovered, matters=_labels_differ),
    Rule(finds=("KIA1311", "KIA1317"), kinds=_ALL, check=_labelled, matters=_labels_differ),
    Rule(
        finds=("KIA1312", "KIA1313", "KIA1314", "KIA1315", "KIA1316"),
        kinds=(kinds.POD,),
        check=_running,
        matters=runs_differently,
    ),
    Rule(
        finds=("IST0144",),
        kinds=(kinds.POD, kinds.DEPLOYMENT),
        check=_user,
        matters=runs_differently,
    ),
    Rule(
        finds=("IST0116", "IST0137"),
        kinds=(kinds.DEPLOYMENT,),
        check=_ports,
        matters=runs_differently,
    ),
)
