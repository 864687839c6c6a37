"""What ambient needs of a cluster, and what stands against enrolling something, before a write."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from services.chassis.errors import AmbientMissing, KindUnknown, PrecheckRefused
from services.chassis.kube.objects import KubeObject, Ref
from services.chassis.kube.readiness import is_ready
from services.lifecycle.ambient.changes import Change, Sight, template_labels, template_notes
from services.lifecycle.ambient.options import AmbientRequest
from services.lifecycle.ambient.waypoints import CLASS, GATEWAY, differs, gateway, ref_of
from services.lifecycle.cluster import istio
from services.lifecycle.cluster.connections import Connection
from services.lifecycle.cluster.inventory import mesh_of, take_inventory
from services.lifecycle.cluster.versions import Version

_OLDEST = Version(1, 24, 0)
"""Before it ambient was not stable."""
_AGENTS = {"istio-cni": ("k8s-app", "istio-cni-node"), "ztunnel": ("app", "ztunnel")}
"""DaemonSets of the data plane, by the label of their pods, which no chart lets anybody change."""
_INJECT = "sidecar.istio.io/inject"
_LEFT_OUT = ("kube-system",)
"""The CNI agent leaves it out, beside the mesh's own namespace."""
_MOST_TOLD = 6


@dataclass(frozen=True, slots=True)
class Plane:
    """The data plane of ambient in a cluster."""

    version: str
    namespace: str
    """The mesh's own."""
    agents: Mapping[str, KubeObject | None]
    """DaemonSets by what they are; None for one that is not there."""
    has_gateways: bool
    """Whether the cluster knows the Gateway API."""

    def missing(self) -> list[str]:
        """What is not there, or not ready."""
        found = []
        for name, agent in self.agents.items():
            if agent is None:
                found.append(f"{name} is not there")
            elif not is_ready(agent):
                status = agent.get("status") or {}
                ready, wanted = status.get("numberReady", 0), status.get("desiredNumberScheduled")
                found.append(f"{name} is not ready: {ready} of {wanted or 0} pods")
        version = Version.parse(self.version)
        if version is not None and version < _OLDEST:
            found.append(f"Istio {version} is older than {_OLDEST}")
        return found


async def plane_of(cluster: Connection) -> Plane:
    """What the cluster has of ambient."""
    inventory = await take_inventory(cluster)
    found = (await cluster.objects("apps", "DaemonSet")).values()
    mesh = mesh_of(inventory)
    return Plane(
        mesh.version,
        mesh.namespace,
        {
            name: next((one for one in found if template_labels(one).get(key) == value), None)
            for name, (key, value) in _AGENTS.items()
        },
        await cluster.resources.preferred(*GATEWAY) is not None,
    )


def require(plane: Plane, request: AmbientRequest, sight: Sight) -> None:
    """Raises `AmbientMissing`, `KindUnknown` or `PrecheckRefused` for what cannot be enrolled, and
    for a waypoint that nothing would make."""
    if not request.enrols:
        return
    require_plane(plane, request)
    _refuse(list(_against(request, sight)))


def require_plane(plane: Plane, request: AmbientRequest) -> None:
    """Raises `AmbientMissing` or `KindUnknown` for what the cluster lacks, and `PrecheckRefused`
    for namespaces that ambient leaves out."""
    if missing := plane.missing():
        raise AmbientMissing("; ".join(missing))
    if request.options.waypoint is not None and not plane.has_gateways:
        raise KindUnknown(
            "the cluster has no Gateway of the Gateway API, which a waypoint is",
            cause="its definitions are no part of Istio",
            remedy="apply standard-install.yaml of a release of kubernetes-sigs/gateway-api",
        )
    left_out = {*_LEFT_OUT, plane.namespace} & set(request.options.targeted)
    _refuse([f"namespace {name} is left out by istio-cni" for name in sorted(left_out)])


def _refuse(reasons: list[str]) -> None:
    if reasons:
        more = f"; and {len(reasons) - _MOST_TOLD} more" if len(reasons) > _MOST_TOLD else ""
        raise PrecheckRefused(
            "; ".join(reasons[:_MOST_TOLD]) + more,
            cause="a sidecar goes before ambient, and some namespaces are left out of it",
            remedy="take namespaces from sidecars by `action: move`; leave the others out",
        )


def _against(request: AmbientRequest, sight: Sight) -> Iterator[str]:
    for name in request.options.targeted:
        if istio.asks_for_sidecars(sight.labels(name)):
            yield f"namespace {name} asks for sidecars"


def against_waypoint(request: AmbientRequest, found: Mapping[Ref, KubeObject]) -> None:
    """Raises `PrecheckRefused` for a Gateway of the waypoint's name that is another one."""
    waypoint = request.options.waypoint
    if waypoint is None or not request.enrols:
        return
    for home in request.homes():
        ref = ref_of(home, waypoint.name)
        if ref in found and (how := differs(found[ref], gateway(request, waypoint, home))):
            raise PrecheckRefused(
                f"{ref} is there and {how}",
                cause=f"a waypoint is a Gateway of class {CLASS}, and that one is in use as it is",
                remedy="give the waypoint another name, or say what that one is",
                subject=str(ref),
            )


def warnings(request: AmbientRequest, sight: Sight, planned: list[Change]) -> Iterator[str]:
    """What is enrolled and will not be captured, for people."""
    if not request.enrols:
        return
    named = {change.ref for change in planned if change.is_of_template}
    for ref, workload in sorted(sight.workloads.items()):
        if ref not in named and ref.namespace not in request.options.namespaces:
            continue
        spec = ((workload.get("spec") or {}).get("template") or {}).get("spec") or {}
        if spec.get("hostNetwork"):
            yield f"{ref} is on the network of its node: it stays out of ambient"
        elif template_notes(workload).get(_INJECT) == "true":
            yield f"{ref} asks for a sidecar in its template: it keeps it"
        elif template_notes(workload).get(istio.DATAPLANE_MODE) == "none" and ref not in named:
            yield f"{ref} opts out by {istio.DATAPLANE_MODE}=none"
