"""KIA1301, KIA1311 to KIA1317: workloads without a policy, and those between sidecar and ambient.

What runs is seen on pods and told about the workload that made them: two pods that show the same
make one finding.
"""

from __future__ import annotations

from collections.abc import Iterator

from services.topology.analysis.findings import Finding, Level
from services.topology.analysis.kia.ambient import is_policy_of_requests
from services.topology.analysis.kia.selections import (
    is_in_mesh,
    is_own,
    labels_differ,
    runs_differently,
)
from services.topology.analysis.lenses import Lens
from services.topology.analysis.rules import Entry, Rule
from services.topology.cluster import kinds
from services.topology.cluster.objects import Labels, Pod, Runs
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
from services.topology.mesh.security import means, policies_for

UNCOVERED = Entry(
    code="KIA1301",
    name="workload.authorizationpolicy.needstobecovered",
    level=Level.WARNING,
    cause="No AuthorizationPolicy means the workload, so everybody may call it.",
    remedy="Add an AuthorizationPolicy that selects it, or one for the namespace or the mesh.",
)
BOTH_LABELS = Entry(
    code="KIA1311",
    name="workload.ambient.sidecarandlabel",
    level=Level.ERROR,
    cause="Labels ask for a sidecar and for ambient at once; the sidecar wins.",
    remedy="Remove one: istio-injection, istio.io/rev or sidecar.istio.io/inject, or "
    "istio.io/dataplane-mode.",
)
WAYPOINT_OUTSIDE = Entry(
    code="KIA1312",
    name="workload.ambient.waypointandnotambient",
    level=Level.WARNING,
    cause="Labels ask for a waypoint, but the workload is not in ambient.",
    remedy="Label the namespace or the pods istio.io/dataplane-mode=ambient, or remove the label.",
)
NO_WAYPOINT = Entry(
    code="KIA1313",
    name="workload.ambient.waypointnotfound",
    level=Level.ERROR,
    cause="The waypoint that the labels name does not exist.",
    remedy="Create it (a Gateway of class istio-waypoint), or correct istio.io/use-waypoint.",
)
CAPTURED_WITH_LABEL = Entry(
    code="KIA1314",
    name="workload.ambient.podsidecarlabelandambientredirection",
    level=Level.ERROR,
    cause="Labels ask for a sidecar, but the pod's traffic is redirected to the ztunnel.",
    remedy="Remove the labels for one of the two and restart the pods.",
)
SIDECAR_WITH_LABEL = Entry(
    code="KIA1315",
    name="workload.ambient.podsidecarinjectandambientlabel",
    level=Level.ERROR,
    cause="The pod is labelled for ambient but has a sidecar, which wins.",
    remedy="Remove the labels that inject, or istio.io/dataplane-mode, and restart the pods.",
)
SIDECAR_IN_AMBIENT = Entry(
    code="KIA1316",
    name="workload.ambient.sidecarinambientnamespace",
    level=Level.ERROR,
    cause="The namespace is in ambient, but the pod has a sidecar, which wins.",
    remedy="Restart the pods without a sidecar, or label them istio.io/dataplane-mode=none.",
)
POLICY_WITHOUT_WAYPOINT = Entry(
    code="KIA1317",
    name="workload.ambient.authpolicybutnowaypoint",
    level=Level.WARNING,
    cause="A policy for the workload speaks of requests, but the workload is in ambient and no "
    "waypoint is there to understand it.",
    remedy="Label the namespace or the Service istio.io/use-waypoint=<name of a waypoint>.",
)


def _is_infrastructure(runs: Runs) -> bool:
    return is_waypoint(runs.pod_labels) or is_gateway(runs) or is_ztunnel(runs)


def _space_labels(lens: Lens, runs: Runs) -> Labels:
    space = lens.namespace(runs.namespace)
    return space.labels if space is not None else {}


# --- what labels ask for --------------------------------------------------------------------------


def uncovered(lens: Lens, runs: Runs) -> Iterator[Finding]:
    if not is_own(runs) or is_waypoint(runs.pod_labels) or not is_in_mesh(lens, runs):
        return
    root = lens.mesh().root_namespace
    if not any(True for _ in policies_for(lens, runs.namespace, runs.pod_labels, root=root)):
        yield UNCOVERED.on(runs.key, "no AuthorizationPolicy means this workload")


def labelled(lens: Lens, runs: Runs) -> Iterator[Finding]:
    if not is_own(runs) or _is_infrastructure(runs):
        return
    labels = _space_labels(lens, runs)
    if not wants_ambient(labels, runs.pod_labels):
        return
    if wants_sidecar(labels, runs):
        yield BOTH_LABELS.on(runs.key, "labels ask for a sidecar and for ambient")
    if not _has_waypoint(lens, runs):
        for policy in lens.all(kinds.AUTHORIZATION_POLICY, runs.namespace):
            if is_policy_of_requests(policy) and means(
                lens, policy, runs.namespace, runs.pod_labels
            ):
                yield POLICY_WITHOUT_WAYPOINT.on(
                    runs.key, f"{policy.key} speaks of requests, and no waypoint reads it"
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


def running(lens: Lens, pod: Pod) -> Iterator[Finding]:
    if _is_infrastructure(pod):
        return
    owner = pod.owner or pod.key
    space = lens.namespace(pod.namespace)
    labels: Labels = space.labels if space is not None else {}
    if is_captured(pod) and wants_sidecar(labels, pod):
        yield CAPTURED_WITH_LABEL.on(owner, "pods are redirected to the ztunnel")
    is_ambient = wants_ambient(labels, pod.labels)
    if pod.has_proxy and is_ambient:
        is_own_label = pod.labels.get(DATAPLANE) == "ambient"
        entry = SIDECAR_WITH_LABEL if is_own_label else SIDECAR_IN_AMBIENT
        yield entry.on(owner, "pods have a sidecar")
    waypoint = waypoint_of(pod.labels, space)
    if waypoint is None or pod.labels.get(DATAPLANE) == "none":
        return
    if not is_ambient:
        yield WAYPOINT_OUTSIDE.on(owner, f"labels ask for waypoint {'/'.join(waypoint)}")
    if lens.get(kinds.K8S_GATEWAY, *waypoint) is None:
        yield NO_WAYPOINT.on(owner, f"waypoint {'/'.join(waypoint)} does not exist")


ENTRIES = (
    UNCOVERED,
    BOTH_LABELS,
    WAYPOINT_OUTSIDE,
    NO_WAYPOINT,
    CAPTURED_WITH_LABEL,
    SIDECAR_WITH_LABEL,
    SIDECAR_IN_AMBIENT,
    POLICY_WITHOUT_WAYPOINT,
)
_ALL = (*kinds.WORKLOADS, kinds.POD)
RULES = (
    Rule(codes=("KIA1301",), kinds=_ALL, check=uncovered, matters=labels_differ),
    Rule(codes=("KIA1311", "KIA1317"), kinds=_ALL, check=labelled, matters=labels_differ),
    Rule(
        codes=("KIA1312", "KIA1313", "KIA1314", "KIA1315", "KIA1316"),
        kinds=(kinds.POD,),
        check=running,
        matters=runs_differently,
    ),
)
