"""The installed Istio: one survey of labels, in parallel lists of metadata only.

The same survey yields the revisions, their tags, the objects to prune, and those that are proven
to be as planned.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from services.chassis.kube.objects import Ref
from services.lifecycle.cluster import istio
from services.lifecycle.cluster.connections import Connection, Found
from services.lifecycle.cluster.versions import Version

_PLANE_KINDS = ("Deployment", "Service", "ConfigMap")
"""Of what istiod's chart has in its own namespace alone, also where istiod runs elsewhere."""
_OLDEST = Version(0, 0, 0)
_HELM_VERSION = "app.kubernetes.io/version"
_HELM_CHART = "helm.sh/chart"

# Every kind that some profile or chart of Istio renders (group, kind).
OWNED_KINDS: tuple[tuple[str, str], ...] = (
    ("", "Namespace"),
    ("apps", "Deployment"),
    ("apps", "DaemonSet"),
    ("", "Service"),
    ("", "ConfigMap"),
    ("", "Secret"),
    ("", "ServiceAccount"),
    ("rbac.authorization.k8s.io", "Role"),
    ("rbac.authorization.k8s.io", "RoleBinding"),
    ("rbac.authorization.k8s.io", "ClusterRole"),
    ("rbac.authorization.k8s.io", "ClusterRoleBinding"),
    ("policy", "PodDisruptionBudget"),
    ("autoscaling", "HorizontalPodAutoscaler"),
    ("networking.k8s.io", "NetworkPolicy"),
    ("discovery.k8s.io", "EndpointSlice"),
    ("admissionregistration.k8s.io", "MutatingWebhookConfiguration"),
    ("admissionregistration.k8s.io", "ValidatingWebhookConfiguration"),
    ("admissionregistration.k8s.io", "ValidatingAdmissionPolicy"),
    ("admissionregistration.k8s.io", "ValidatingAdmissionPolicyBinding"),
    ("apiextensions.k8s.io", "CustomResourceDefinition"),
    ("networking.istio.io", "EnvoyFilter"),
    ("telemetry.istio.io", "Telemetry"),
    ("k8s.cni.cncf.io", "NetworkAttachmentDefinition"),
)


@dataclass(frozen=True, slots=True)
class Inventory:
    """The objects that carry Istio's component label, and control planes that do not."""

    objects: Mapping[Ref, Found]
    foreign_planes: tuple[Found, ...] = ()
    """istiod Deployments that another tool (Helm, plain YAML) installed."""

    def revisions(self) -> dict[str, str]:
        """Version by revision; "" where no object tells it."""
        versions: dict[str, str] = {}
        for found in self.objects.values():
            revision = found.revision
            if revision is None:
                continue
            known = versions.setdefault(revision, "")
            is_plane = found.labels.get(istio.COMPONENT) == istio.PILOT
            if (is_plane and found.ref.kind == "Deployment") or not known:
                versions[revision] = found.version
        return versions

    def tags(self) -> dict[str, str]:
        """Revision by tag."""
        return {
            found.labels[istio.TAG]: found.labels.get(istio.REVISION, "")
            for found in self.objects.values()
            if istio.TAG in found.labels and found.ref.kind == "MutatingWebhookConfiguration"
        }

    def of_revision(self, revision: str) -> list[Found]:
        return [found for found in self.objects.values() if found.revision == revision]

    def owner(self, ref: Ref) -> str | None:
        """The revision that has an object; None for what is shared, or not there."""
        found = self.objects.get(ref)
        return found.revision if found is not None else None

    def shared(self) -> list[Found]:
        """Objects that go with the last revision: CRDs, the reader's account, our namespace."""
        return [found for found in self.objects.values() if found.revision is None]

    def namespace(self, default: str) -> str:
        """The system namespace that the installed objects name, control planes first."""
        named = [found.labels.get(istio.OWNER_NAMESPACE, "") for found in self.objects.values()]
        return next(iter(self.namespaces()), next((name for name in named if name), default))

    def namespaces(self, revision: str | None = None) -> list[str]:
        """The namespaces where a revision's control plane is, or those of all. A revision has
        several where Istio was installed several times under one name."""
        return sorted(
            {
                found.ref.namespace
                for found in self.objects.values()
                if found.labels.get(istio.COMPONENT) == istio.PILOT
                and found.ref.kind in _PLANE_KINDS
                and revision in (None, found.revision)
            }
        )

    def is_newer(self, ref: Ref, version: str) -> bool:
        """True for a definition that the cluster has from a newer Istio than `version`.

        All revisions share the definitions; an older revision beside must not turn them back.
        """
        found = self.objects.get(ref)
        if found is None or ref.kind != "CustomResourceDefinition":
            return False
        there, ours = Version.parse(found.version), Version.parse(version)
        return there is not None and ours is not None and there > ours


@dataclass(frozen=True, slots=True)
class Mesh:
    """The control plane that add-ons and samples have to fit; `version` "" when it tells none."""

    version: str = ""
    namespace: str = istio.SYSTEM_NAMESPACE


async def take_inventory(connection: Connection) -> Inventory:
    """Reads all objects with Istio's component label, and control planes of other tools."""
    # Discovery from before a definition came would miss its kind.
    await connection.resources.refresh()
    owned, planes = await asyncio.gather(
        connection.select(OWNED_KINDS, selector=istio.COMPONENT),
        connection.select((("apps", "Deployment"),), selector=f"app=istiod,!{istio.COMPONENT}"),
    )
    return Inventory({found.ref: found for found in owned}, tuple(planes))


def mesh_of(inventory: Inventory) -> Mesh:
    """The unnamed revision, else the one with the default tag, else the newest.

    A control plane of another installer counts as well.
    """
    versions = inventory.revisions()
    meshes = {name: Mesh(text, _namespace_of(inventory, name)) for name, text in versions.items()}
    for plane in inventory.foreign_planes:
        revision = plane.labels.get(istio.REVISION, istio.DEFAULT_REVISION)
        meshes.setdefault(revision, Mesh(_foreign_version(plane), plane.ref.namespace))
    if not meshes:
        return Mesh(namespace=inventory.namespace(istio.SYSTEM_NAMESPACE))
    for name in (istio.DEFAULT_REVISION, inventory.tags().get(istio.DEFAULT_TAG, "")):
        if name in meshes:
            return meshes[name]
    newest = max(meshes, key=lambda name: (Version.parse(meshes[name].version) or _OLDEST, name))
    return meshes[newest]


def _namespace_of(inventory: Inventory, revision: str) -> str:
    """The namespace of the revision's control plane."""
    for found in inventory.of_revision(revision):
        is_plane = found.labels.get(istio.COMPONENT) == istio.PILOT
        if is_plane and found.ref.kind == "Deployment":
            return found.ref.namespace
    return inventory.namespace(istio.SYSTEM_NAMESPACE)


def _foreign_version(plane: Found) -> str:
    chart = plane.labels.get(_HELM_CHART, "").removeprefix("istiod-")
    return plane.labels.get(_HELM_VERSION) or chart
