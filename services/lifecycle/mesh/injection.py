"""The operation `label-namespace`: sidecar injection for a namespace; foreign labels stay."""

from __future__ import annotations

from typing import Any

from services.chassis.errors import NamespaceMissing, ObjectNotFound
from services.chassis.kube.objects import KubeObject, Ref, labels_of
from services.chassis.messages import Verb
from services.chassis.operations.completion import Result
from services.lifecycle.cluster import istio
from services.lifecycle.manifests.work import Work
from services.lifecycle.mesh.requests import MeshRequest


async def label_namespace(work: Work, request: MeshRequest) -> Result:
    """Sets or clears the injection label; a named revision or tag uses `istio.io/rev`."""
    namespace = work.command.namespace
    wanted = labels_for(request, work.command.verb)
    ref = Ref("v1", "Namespace", "", namespace)

    async def write() -> KubeObject:
        return await work.cluster.merge(ref, {"metadata": {"labels": wanted}})

    work.fence.check()
    try:
        labelled = await work.engine.ledger.relabel(ref, wanted, write)
    except (ObjectNotFound, NamespaceMissing):
        raise NamespaceMissing(f"namespace {namespace} does not exist", subject=str(ref)) from None
    return _result(namespace, wanted, labels_of(labelled), work.command.verb)


def labels_for(request: MeshRequest, verb: Verb) -> dict[str, str | None]:
    """The labels to set; None deletes one.

    `istio-injection` wins over `istio.io/rev` in Istio, so naming a revision has to clear it.
    """
    by_revision = request.revision_given and request.revision != istio.DEFAULT_REVISION
    if verb is Verb.DELETE:
        return {istio.REVISION if by_revision else istio.INJECTION: None}
    if by_revision:
        return {istio.REVISION: request.revision, istio.INJECTION: None}
    return {istio.INJECTION: "enabled"}


def _result(namespace: str, wanted: dict[str, Any], labels: dict[str, str], verb: Verb) -> Result:
    if verb is Verb.DELETE:
        return Result(
            f"Label removed on {namespace} namespace",
            f"ISTIO-INJECTION label removed on {namespace} namespace; pods that run keep their "
            "sidecars until they restart",
        )
    name, value = next((k, v) for k, v in wanted.items() if v is not None)
    others = len([key for key in labels if key not in wanted])
    return Result(
        f"Label updated on {namespace} namespace",
        f"ISTIO-INJECTION label enabled on {namespace} namespace ({name}={value}; {others} other "
        "labels stay); pods that run get their sidecars when they restart",
    )
