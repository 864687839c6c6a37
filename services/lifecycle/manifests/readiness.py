"""Waiting for workloads, and why one is not ready: from its conditions, pods and containers."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from services.chassis.errors import ClusterError, NotReadyInTime, shortened
from services.chassis.kube.client import KubeClient
from services.chassis.kube.objects import KubeObject, Ref
from services.chassis.kube.readiness import PREDICATES
from services.chassis.kube.resources import Resources
from services.chassis.messages import Phase
from services.lifecycle.manifests.objects import PlannedObject, listing
from services.lifecycle.manifests.work import Work

_UNKNOWN = "its pods gave no reason"


async def await_ready(work: Work, objects: Iterable[PlannedObject], *, within: timedelta) -> None:
    """Waits for the workloads among `objects`, each told when it is ready.

    Raises `NotReadyInTime` with the likeliest reason.
    """

    async def tell(ref: Ref) -> None:
        work.progress.tell(
            Phase.READY, f"{ref} is ready", numbers={"seconds": work.progress.seconds}
        )

    refs = [p.ref for p in objects if p.ref.group == "apps" and p.ref.group_kind in PREDICATES]
    if not refs:
        return
    late = await work.engine.ready(refs, within=within, on_ready=tell)
    if late:
        first = min(late)
        raise NotReadyInTime(
            f"not ready after {within.total_seconds():.0f} s: {listing(sorted(late))}",
            cause=await why_not_ready(work.cluster.client, work.cluster.resources, first),
            subject=str(first),
        )


async def why_not_ready(client: KubeClient, resources: Resources, ref: Ref) -> str:
    """The likeliest reason; never raises for a cluster that does not answer."""
    try:
        resource = await resources.find(ref.api_version, ref.kind)
        workload = await client.get(resource.path(ref), subject=str(ref))
        selector = (workload.get("spec") or {}).get("selector") or {}
        labels = ",".join(f"{k}={v}" for k, v in (selector.get("matchLabels") or {}).items())
        pods = await client.get(
            f"/api/v1/namespaces/{ref.namespace}/pods",
            query={"labelSelector": labels},
            subject=f"pods of {ref}",
        )
    except ClusterError as error:
        return f"the cluster could not be asked: {error.summary}"
    found = [text for pod in pods.get("items") or [] if (text := _pod_reason(pod))]
    return found[0] if found else _workload_reason(workload)


def _pod_reason(pod: KubeObject) -> str:
    name, status = pod["metadata"]["name"], pod.get("status") or {}
    containers = [
        *(status.get("initContainerStatuses") or []),
        *(status.get("containerStatuses") or []),
    ]
    for container in containers:
        reason = _container_reason(container)
        if reason:
            return f"pod {name}, container {container['name']}: {reason}"
    for condition in status.get("conditions") or []:
        if condition["type"] == "PodScheduled" and condition["status"] != "True":
            return f"pod {name} is not scheduled: {shortened(condition.get('message', ''))}"
    return ""


def _container_reason(container: dict[str, Any]) -> str:
    state = container.get("state") or {}
    waiting = state.get("waiting") or {}
    if waiting.get("reason") not in (None, "ContainerCreating", "PodInitializing"):
        return shortened(f"{waiting['reason']} {waiting.get('message', '')}".strip())
    ended = state.get("terminated") or {}
    if ended.get("exitCode"):
        return shortened(f"ended with {ended['exitCode']} {ended.get('reason', '')}".strip())
    return ""


def _workload_reason(workload: KubeObject) -> str:
    for condition in (workload.get("status") or {}).get("conditions") or []:
        if condition["type"] == "ReplicaFailure" and condition["status"] == "True":
            return shortened(condition.get("message", _UNKNOWN))
    for condition in (workload.get("status") or {}).get("conditions") or []:
        if condition["type"] in ("Progressing", "Available") and condition["status"] != "True":
            return shortened(condition.get("message", _UNKNOWN))
    return _UNKNOWN
