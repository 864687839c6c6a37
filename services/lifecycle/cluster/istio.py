"""Istio's labels and names: the component and revision that an object belongs to.

Install sets the labels that istioctl sets, so that either tool recognizes what the other installed
(operator/pkg/manifest/name.go in istio/istio names them).
"""

from __future__ import annotations

from collections.abc import Mapping

from services.chassis.kube.objects import KubeObject, labels_of

COMPONENT = "operator.istio.io/component"
MANAGED = "operator.istio.io/managed"
VERSION = "operator.istio.io/version"
OWNER_NAMESPACE = "install.operator.istio.io/owning-resource-namespace"
NOT_PRUNED = "install.operator.istio.io/owning-resource-not-pruned"
REVISION = "istio.io/rev"
"""On istiod's objects: the revision that they belong to. On a namespace or pod: the revision or tag
whose sidecars it gets."""
TAG = "istio.io/tag"
INJECTION = "istio-injection"
"""On a namespace; wins over `istio.io/rev`."""
DATAPLANE_MODE = "istio.io/dataplane-mode"
CREATED_BY = "meshbus.io/created-by"

DEFAULT_REVISION = "default"
"""The name that an unnamed revision goes by in labels."""
DEFAULT_TAG = "default"
SYSTEM_NAMESPACE = "istio-system"

BASE = "Base"
PILOT = "Pilot"
GATEWAYS = ("IngressGateways", "EgressGateways")

_CHARTS = {
    "base": BASE,
    "istiod": PILOT,
    "cni": "Cni",
    "ztunnel": "Ztunnel",
    "istio-ingress": "IngressGateways",
    "istio-egress": "EgressGateways",
}


def component_of(obj: KubeObject) -> str:
    """The Istio component, from its label or from the chart that made the object."""
    labels = labels_of(obj)
    named = labels.get(COMPONENT)
    if named:
        return named
    chart = labels.get("helm.sh/chart", "").rpartition("-")[0]
    component = _CHARTS.get(chart, PILOT)
    # The base chart also makes the default validator, which belongs to one revision.
    return PILOT if component == BASE and labels.get(REVISION) else component


def claim(obj: KubeObject, *, revision: str, version: str, namespace: str) -> None:
    """Puts the owner's labels on a rendered object, in place.

    What all revisions share (CRDs, the reader's account) carries no revision.
    """
    component = component_of(obj)
    labels = obj["metadata"].setdefault("labels", {})
    labels[MANAGED] = "Reconcile"
    labels[COMPONENT] = component
    labels[VERSION] = version
    labels[OWNER_NAMESPACE] = namespace
    if component == BASE:
        labels.pop(REVISION, None)
    else:
        labels[REVISION] = revision


def claim_namespace(obj: KubeObject) -> None:
    """Marks a namespace that an install made, so that the last uninstall finds it."""
    metadata = obj["metadata"]
    metadata["labels"] = {
        **metadata.get("labels", {}),
        MANAGED: "Reconcile",
        COMPONENT: BASE,
        OWNER_NAMESPACE: metadata["name"],
    }


def revision_of(obj: KubeObject) -> str | None:
    """The revision that owns the object; None for objects that all revisions share."""
    labels = labels_of(obj)
    if labels.get(COMPONENT) == BASE and REVISION not in labels:
        return None
    return labels.get(REVISION) or DEFAULT_REVISION


def asks_for_sidecars(labels: Mapping[str, str]) -> bool:
    """Whether pods of a namespace with these labels get sidecars."""
    if INJECTION in labels:
        return labels[INJECTION] == "enabled"
    return bool(labels.get(REVISION))


def is_in_mesh(labels: Mapping[str, str]) -> bool:
    """Whether pods of a namespace with these labels get sidecars or the ambient mesh."""
    return asks_for_sidecars(labels) or labels.get(DATAPLANE_MODE) == "ambient"
