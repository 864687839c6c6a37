"""What of Istio is in a cluster: one survey of labels, in parallel lists of metadata only.

The same survey tells the installed revisions, their tags, what to prune, and what is proven to be
as it should be.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from services.chassis.errors import KindUnknown, ObjectNotFound
from services.chassis.kube.client import KubeClient
from services.chassis.kube.objects import KubeObject, Ref, labels_of
from services.chassis.kube.resources import Resources
from services.lifecycle.cluster import istio
from services.lifecycle.cluster.versions import Version

_OLDEST = Version(0, 0, 0)
_HELM_VERSION = "app.kubernetes.io/version"
_HELM_CHART = "helm.sh/chart"
_METADATA_LIST = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"

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
class Found:
    """An object's metadata as the cluster has it."""

    ref: Ref
    obj: KubeObject

    @property
    def labels(self) -> dict[str, str]:
        return labels_of(self.obj)

    @property
    def revision(self) -> str | None:
        return istio.revision_of(self.obj)

    @property
    def version(self) -> str:
        return self.labels.get(istio.VERSION, "")


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

    def shared(self) -> list[Found]:
        """What goes with the last revision: CRDs, the reader's account, our namespace."""
        return [found for found in self.objects.values() if found.revision is None]

    def namespace(self, default: str) -> str:
        """The system namespace that the installed objects name."""
        named = [found.labels.get(istio.OWNER_NAMESPACE, "") for found in self.objects.values()]
        return next((name for name in named if name), default)

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


def mesh_of(inventory: Inventory) -> Mesh:
    """The unnamed revision, else the one with the default tag, else the newest.

    A control plane of another installer counts as well.
    """
    versions = inventory.revisions()
    meshes = {name: Mesh(text, _home(inventory, name)) for name, text in versions.items()}
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


def _home(inventory: Inventory, revision: str) -> str:
    """The namespace of the revision's control plane."""
    for found in inventory.of_revision(revision):
        is_plane = found.labels.get(istio.COMPONENT) == istio.PILOT
        if is_plane and found.ref.kind == "Deployment":
            return found.ref.namespace
    return inventory.namespace(istio.SYSTEM_NAMESPACE)


def _foreign_version(plane: Found) -> str:
    chart = plane.labels.get(_HELM_CHART, "").removeprefix("istiod-")
    return plane.labels.get(_HELM_VERSION) or chart


@dataclass(slots=True)
class Surveyor:
    """Reads metadata of one cluster."""

    client: KubeClient
    resources: Resources

    async def inventory(self) -> Inventory:
        """Everything with Istio's component label, and foreign control planes."""
        # A kind that was defined since we last asked would be taken for absent.
        await self.resources.refresh()
        owned, planes = await asyncio.gather(
            self.select(OWNED_KINDS, selector=istio.COMPONENT),
            self.select((("apps", "Deployment"),), selector=f"app=istiod,!{istio.COMPONENT}"),
        )
        return Inventory({found.ref: found for found in owned}, tuple(planes))

    async def select(
        self, kinds: Iterable[tuple[str, str]], *, selector: str = "", namespace: str = ""
    ) -> list[Found]:
        """Metadata of all objects of `kinds` that match; kinds the cluster lacks are left out."""
        lists = await asyncio.gather(
            *(self._list(group, kind, selector, namespace) for group, kind in kinds)
        )
        return [found for found_list in lists for found in found_list]

    async def _list(self, group: str, kind: str, selector: str, namespace: str) -> list[Found]:
        resource = await self.resources.preferred(group, kind)
        if resource is None or "list" not in resource.verbs:
            return []
        query = {"labelSelector": selector} if selector else {}
        try:
            answer = await self.client.get(
                resource.collection(namespace), query=query, accept=_METADATA_LIST
            )
        except (ObjectNotFound, KindUnknown):
            return []
        found = []
        for item in answer.get("items") or []:
            item["apiVersion"], item["kind"] = resource.api_version, kind
            found.append(Found(Ref.of(item), item))
        return found
