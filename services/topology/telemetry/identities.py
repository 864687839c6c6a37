"""The workload of a proxy: from the proxy's own node metadata, or from the pod that it runs in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from services.topology.cluster import kinds
from services.topology.cluster.objects import Pod, canonical_name, canonical_revision
from services.topology.cluster.state import State
from services.topology.mesh.membership import is_waypoint
from services.topology.telemetry.edges import IsWaypoint, is_named_waypoint
from services.topology.telemetry.traffic import Peer

_RUNNING = "Running"


@dataclass(frozen=True, slots=True)
class ProxiedPod:
    """A pod with a proxy in it."""

    namespace: str
    name: str
    uid: str
    peer: Peer


def peer_of_node(server_info: Mapping[str, Any]) -> Peer:
    """Answer of `/server_info`. A vanilla node id such as `sidecar~10.0.0.1~pod.ns~ns.svc.x` is
    enough; the metadata that Istio's agent adds tells workload and app."""
    node = server_info.get("node") or {}
    metadata = node.get("metadata") or {}
    labels = metadata.get("LABELS") or {}
    parts = str(node.get("id") or "").split("~")
    pod, _, namespace = (parts[2] if len(parts) == 4 else "").rpartition(".")
    owner = str(metadata.get("OWNER") or "").rpartition("/")[2]
    workload = str(metadata.get("WORKLOAD_NAME") or owner or metadata.get("NAME") or pod)
    return Peer(
        cluster=str(metadata.get("CLUSTER_ID") or ""),
        namespace=str(metadata.get("NAMESPACE") or namespace),
        workload=workload,
        app=str(canonical_name(labels)) or workload,
        version=str(canonical_revision(labels)),
    )


def waypoints_of(state: State) -> IsWaypoint:
    """Knows a cluster's waypoints by what istiod labels them, whatever they are called; workloads
    that the cluster does not have, by their names."""

    def is_known(peer: Peer) -> bool:
        workload = state.get(kinds.DEPLOYMENT, peer.namespace, peer.workload)
        return is_named_waypoint(peer) if workload is None else is_waypoint(workload.pod_labels)

    return is_known


def proxied_pods(state: State, *, cluster: str = "") -> Iterator[ProxiedPod]:
    """Pods of a cluster whose proxies can be asked. `cluster` is the mesh's name of it."""
    for pod in state.all(kinds.POD):
        if pod.has_proxy and pod.phase == _RUNNING and not pod.is_terminating:
            yield ProxiedPod(pod.namespace, pod.name, pod.uid, _peer_of_pod(pod, cluster))


def _peer_of_pod(pod: Pod, cluster: str) -> Peer:
    workload = pod.owner.name if pod.owner is not None else pod.name
    return Peer(cluster, pod.namespace, workload, pod.app or workload, pod.version)
