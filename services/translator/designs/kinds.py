"""Kinds that designs name without their api version, and what is known of kinds by name.

Old designs tell a type and nothing else. The versions here are the newest of Istio 1.31 and of the
Gateway API 1.6 and the last of SMI; the caller exchanges them for what its cluster serves.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

GATEWAY_API = "gateway.networking.k8s.io"
NETWORKING = "networking.istio.io"
SMI_SPECS = "specs.smi-spec.io"
SMI_ACCESS = "access.smi-spec.io"

_BY_VERSION: dict[str, tuple[str, ...]] = {
    f"{NETWORKING}/v1": (
        "DestinationRule",
        "Gateway",
        "ServiceEntry",
        "Sidecar",
        "VirtualService",
        "WorkloadEntry",
        "WorkloadGroup",
    ),
    f"{NETWORKING}/v1alpha3": ("EnvoyFilter",),
    f"{NETWORKING}/v1beta1": ("ProxyConfig",),
    "security.istio.io/v1": (
        "AuthorizationPolicy",
        "PeerAuthentication",
        "RequestAuthentication",
    ),
    "telemetry.istio.io/v1": ("Telemetry",),
    "extensions.istio.io/v1alpha1": ("TrafficExtension", "WasmPlugin"),
    f"{GATEWAY_API}/v1": (
        "BackendTLSPolicy",
        "GRPCRoute",
        "GatewayClass",
        "HTTPRoute",
        "ListenerSet",
        "ReferenceGrant",
        "TLSRoute",
    ),
    "split.smi-spec.io/v1alpha4": ("TrafficSplit",),
    f"{SMI_ACCESS}/v1alpha3": ("TrafficTarget",),
    f"{SMI_SPECS}/v1alpha4": ("HTTPRouteGroup", "TCPRoute", "UDPRoute"),
    "v1": (
        "ConfigMap",
        "Endpoints",
        "LimitRange",
        "Namespace",
        "Node",
        "PersistentVolume",
        "PersistentVolumeClaim",
        "Pod",
        "ReplicationController",
        "ResourceQuota",
        "Secret",
        "Service",
        "ServiceAccount",
    ),
    "apps/v1": ("DaemonSet", "Deployment", "ReplicaSet", "StatefulSet"),
    "batch/v1": ("CronJob", "Job"),
    "autoscaling/v2": ("HorizontalPodAutoscaler",),
    "policy/v1": ("PodDisruptionBudget",),
    "rbac.authorization.k8s.io/v1": (
        "ClusterRole",
        "ClusterRoleBinding",
        "Role",
        "RoleBinding",
    ),
    "networking.k8s.io/v1": ("Ingress", "IngressClass", "NetworkPolicy"),
    "storage.k8s.io/v1": ("StorageClass",),
    "scheduling.k8s.io/v1": ("PriorityClass",),
    "apiextensions.k8s.io/v1": ("CustomResourceDefinition",),
    "admissionregistration.k8s.io/v1": (
        "MutatingWebhookConfiguration",
        "ValidatingWebhookConfiguration",
    ),
}
_VERSION_OF = {kind: version for version, kinds in _BY_VERSION.items() for kind in kinds}

_CLUSTER_SCOPED = frozenset(
    {
        ("", "Namespace"),
        ("", "Node"),
        ("", "PersistentVolume"),
        ("admissionregistration.k8s.io", "MutatingWebhookConfiguration"),
        ("admissionregistration.k8s.io", "ValidatingAdmissionPolicy"),
        ("admissionregistration.k8s.io", "ValidatingAdmissionPolicyBinding"),
        ("admissionregistration.k8s.io", "ValidatingWebhookConfiguration"),
        ("apiextensions.k8s.io", "CustomResourceDefinition"),
        ("apiregistration.k8s.io", "APIService"),
        ("flowcontrol.apiserver.k8s.io", "FlowSchema"),
        ("flowcontrol.apiserver.k8s.io", "PriorityLevelConfiguration"),
        (GATEWAY_API, "GatewayClass"),
        ("networking.k8s.io", "IngressClass"),
        ("node.k8s.io", "RuntimeClass"),
        ("rbac.authorization.k8s.io", "ClusterRole"),
        ("rbac.authorization.k8s.io", "ClusterRoleBinding"),
        ("scheduling.k8s.io", "PriorityClass"),
        ("storage.k8s.io", "CSIDriver"),
        ("storage.k8s.io", "StorageClass"),
        ("storage.k8s.io", "VolumeAttachment"),
    }
)
_SPEC_GROUPS = (".istio.io", ".smi-spec.io")

# Versions of SMI whose objects have their fields at the top, without a spec.
_WITHOUT_SPEC = frozenset(
    {
        (f"{SMI_ACCESS}/v1alpha1", "TrafficTarget"),
        (f"{SMI_SPECS}/v1alpha1", "HTTPRouteGroup"),
        (f"{SMI_SPECS}/v1alpha2", "HTTPRouteGroup"),
    }
)


def api_version_of(kind: str, *, model: str, settings: Mapping[str, Any]) -> str:
    """The api version of a kind that came without one; "" for a kind that is not known here.

    `Gateway`, `TCPRoute` and `UDPRoute` are names of two kinds each: the model decides, then the
    fields that only one of the two has.
    """
    spec = settings.get("spec")
    fields = spec if isinstance(spec, Mapping) else settings
    if kind == "Gateway" and ("gateway-api" in model or "gatewayClassName" in fields):
        return f"{GATEWAY_API}/v1"
    if kind in ("TCPRoute", "UDPRoute") and (
        "gateway-api" in model or "rules" in fields or "parentRefs" in fields
    ):
        return f"{GATEWAY_API}/v1"
    return _VERSION_OF.get(kind, "")


def group_of(api_version: str) -> str:
    return api_version.rpartition("/")[0]


def is_cluster_scoped(api_version: str, kind: str) -> bool:
    """True for the kinds of Kubernetes and the Gateway API that live in no namespace."""
    return (group_of(api_version), kind) in _CLUSTER_SCOPED


def has_only_spec(api_version: str, kind: str) -> bool:
    """True for Istio's, the Gateway API's and SMI's kinds: all that they say stands in `spec`."""
    group = group_of(api_version)
    return (group == GATEWAY_API or group.endswith(_SPEC_GROUPS)) and (
        (api_version, kind) not in _WITHOUT_SPEC
    )
