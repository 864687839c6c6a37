"""Objects of a mesh as a cluster has them, for tests of the rules about them."""

from __future__ import annotations

from typing import Any

from services.chassis.kube.objects import KubeObject, Ref
from services.lifecycle.cluster import istio
from services.lifecycle.cluster.connections import Found
from services.lifecycle.cluster.inventory import Inventory

API_VERSIONS = {
    "Deployment": "apps/v1",
    "MutatingWebhookConfiguration": "admissionregistration.k8s.io/v1",
    "CustomResourceDefinition": "apiextensions.k8s.io/v1",
    "ClusterRole": "rbac.authorization.k8s.io/v1",
    "EnvoyFilter": "networking.istio.io/v1alpha3",
}


def thing(
    kind: str, name: str, labels: dict[str, str] | None = None, **metadata: Any
) -> KubeObject:
    """An object of a kind; its labels may be left out altogether."""
    filled = {"name": name, **metadata}
    if labels is not None:
        filled["labels"] = labels
    return {"apiVersion": API_VERSIONS.get(kind, "v1"), "kind": kind, "metadata": filled}


def found(obj: KubeObject) -> Found:
    return Found(Ref.of(obj), obj)


def plane(revision: str, version: str, namespace: str = "istio-system") -> Found:
    """A control plane that istioctl or Meshbus installed."""
    labels = {
        istio.COMPONENT: istio.PILOT,
        istio.REVISION: revision,
        istio.VERSION: version,
    }
    return found(thing("Deployment", f"istiod-{revision}", labels, namespace=namespace))


def foreign_plane(revision: str | None) -> Found:
    """A control plane that another tool installed."""
    labels = {"app": "istiod"} | ({istio.REVISION: revision} if revision else {})
    return found(thing("Deployment", "istiod", labels, namespace="istio-system"))


def tag(name: str, revision: str) -> Found:
    labels = {
        istio.COMPONENT: istio.PILOT,
        istio.TAG: name,
        istio.REVISION: revision,
    }
    return found(thing("MutatingWebhookConfiguration", f"istio-revision-tag-{name}", labels))


def definition(name: str, version: str) -> Found:
    labels = {istio.COMPONENT: istio.BASE, istio.VERSION: version}
    return found(thing("CustomResourceDefinition", name, labels))


def inventory(*objects: Found, foreign: tuple[Found, ...] = ()) -> Inventory:
    return Inventory({one.ref: one for one in objects}, foreign)
