"""Facts about a cluster for translations; lifecycle reads them, the translator asks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, TypeAlias

from pydantic import Field

from services.chassis.messages.grants import SignedGrant
from services.chassis.messages.models import Message, Piece

NamespaceName: TypeAlias = Annotated[
    str, Field(pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$", max_length=63)
]
"""It becomes part of a URL that is read with somebody's credential, so nothing else may pass."""


CONFIGURATION_GROUPS = (
    "networking.istio.io",
    "security.istio.io",
    "telemetry.istio.io",
    "extensions.istio.io",
    "gateway.networking.k8s.io",
)
"""API groups whose objects are a mesh's configuration."""
_EXPERIMENTAL_GROUPS = ("gateway.networking.x-k8s.io", "inference.networking.k8s.io")


def is_configuration(obj: Mapping[str, Any]) -> bool:
    """Whether an object only says how a mesh routes and protects: it gives nobody a right in the
    cluster and starts nothing there of its own."""
    group = str(obj.get("apiVersion", "")).rpartition("/")[0]
    return group in CONFIGURATION_GROUPS or group in _EXPERIMENTAL_GROUPS


_PASSING = frozenset(
    (
        "pod-template-hash",
        "pod-template-generation",
        "controller-revision-hash",
        "controller-uid",
        "job-name",
        "statefulset.kubernetes.io/pod-name",
        "apps.kubernetes.io/pod-index",
        "batch.kubernetes.io/controller-uid",
        "batch.kubernetes.io/job-name",
        "batch.kubernetes.io/job-completion-index",
        "istio.io/rev",
        "security.istio.io/tlsMode",
        "service.istio.io/canonical-name",
        "service.istio.io/canonical-revision",
    )
)
"""Labels that controllers and Istio's injection give to single pods or to one rollout of them."""


class ServicePort(Piece):
    """A port of a Service. `target_port` is a number or a container port's name, as text."""

    port: int
    name: str = ""
    protocol: str = "TCP"
    app_protocol: str = ""
    target_port: str = ""


class ServiceFact(Piece):
    """A Service, as far as routing goes."""

    namespace: str
    name: str
    ports: list[ServicePort] = Field(default_factory=list)
    selector: dict[str, str] = Field(default_factory=dict)


class WorkloadFact(Piece):
    """A workload under a service account: a Deployment, StatefulSet or DaemonSet, or a Pod without
    such a controller."""

    namespace: str
    kind: str
    name: str
    service_account: str = "default"
    labels: dict[str, str] = Field(default_factory=dict)
    """Of its pods."""
    selector: dict[str, str] = Field(default_factory=dict)
    """The controller's own `matchLabels`; a bare pod has none."""

    @property
    def selecting(self) -> dict[str, str]:
        """The labels to select its pods by: those that stay from one rollout to the next."""
        labels = self.selector or {k: v for k, v in self.labels.items() if k not in _PASSING}
        return dict(sorted(labels.items()))


class MeshFact(Piece):
    """One installed revision of Istio. `revision` is "default" for the unnamed one."""

    revision: str
    version: str = ""
    namespace: str = "istio-system"
    trust_domain: str = "cluster.local"


class ClusterFacts(Message):
    """The answer of `mesh.lifecycle.facts`; parts that were not asked for are empty."""

    meshes: list[MeshFact] = Field(default_factory=list)
    served: dict[str, list[str]] = Field(default_factory=dict)
    """Versions of each kind, `group/Kind` (`/Kind` of the core group) to versions, the server's
    preferred one first; of Istio's, the Gateway API's and SMI's groups."""
    services: list[ServiceFact] = Field(default_factory=list)
    workloads: list[WorkloadFact] = Field(default_factory=list)
    read_namespaces: list[str] = Field(default_factory=list)
    """Namespaces whose services and workloads were read: what is not listed there is not there."""
    objects: list[dict[str, Any]] = Field(default_factory=list)
    """Objects of the kinds that were asked for."""

    def configuration_kinds(self) -> list[str]:
        """The served kinds of the groups that hold a mesh's configuration."""
        return sorted(k for k in self.served if k.partition("/")[0] in CONFIGURATION_GROUPS)

    def knows(self, namespace: str) -> bool:
        """Whether the absence of a service or workload in `namespace` means something."""
        return namespace in self.read_namespaces


class ClusterQuestion(Message):
    """Which cluster a question is about, and how to reach it."""

    cluster: str
    operation: str = ""
    """With `credential`, the operation whose kubeconfig reaches the cluster."""
    credential: str = ""
    """Key in `credentials`; empty means the registered cluster's own."""
    grant: SignedGrant | None = None
    """The operation's; without it no credential of an operation is opened."""


class FactsQuestion(ClusterQuestion):
    """The question of `mesh.lifecycle.facts`."""

    namespaces: list[NamespaceName] = Field(default_factory=list)
    """Read services and workloads of these."""
    kinds: list[str] = Field(default_factory=list)
    """Read all objects of these kinds, each as `group/Kind`, of the groups that `served` tells."""
    managed_kinds: list[str] = Field(default_factory=list)
    """Read those objects of these kinds that Meshbus made out of something else."""
    planes: bool = False
    """Read istiod's Deployments and their ConfigMaps as well."""


class RightsRule(Piece):
    """A PolicyRule of `rbac.authorization.k8s.io/v1`, as its YAML has it."""

    apiGroups: list[str] = Field(max_length=20)  # noqa: N815
    resources: list[str] = Field(max_length=50)
    verbs: list[str] = Field(max_length=20)


class RightsQuestion(ClusterQuestion):
    """The question of `mesh.lifecycle.rights`: may the cluster's account do all of this?"""

    rules: list[RightsRule] = Field(max_length=100)


class DryRunQuestion(ClusterQuestion):
    """The question of `mesh.lifecycle.dryrun`: would the API server take these objects?"""

    objects: list[dict[str, Any]]
