"""From a component to its Kubernetes object.

Settings come in two shapes. Models of Istio up to 1.18 describe the spec, so settings are the spec;
later models, and every other kind, describe the object, so settings have `spec` (or `data`, `rules`
and so on) in them. The older adapter put both below `spec`, which made `spec.spec` of the second.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from services.chassis.kube.objects import KubeObject
from services.translator.designs.components import Component, quoted
from services.translator.reports import Report

# Names become parts of a URL and of a line of text; the API server knows each kind's own rule.
_NAME = re.compile(r"(?!\.{1,2}\Z)(?:(?![/%?#])[!-~]){1,253}\Z")
_NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?\Z")
_KIND = re.compile(r"[A-Za-z][A-Za-z0-9]{0,62}\Z")
_API_VERSION = re.compile(r"([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?v[a-z0-9]{1,62}\Z")

# What no object takes from its settings; stray `annotations` are Meshery's notes.
_NOT_COPIED = frozenset({"annotations", "apiVersion", "kind", "metadata", "namespace", "status"})
# What may stand beside a spec in settings that are an object, and says nothing.
_BESIDE_SPEC = _NOT_COPIED | {"labels"}
# Fields of specs that have the name of an object's field.
_SPEC_FIELDS = {"WorkloadGroup": frozenset({"metadata"})}


def is_namespace(text: str) -> bool:
    return bool(_NAMESPACE.match(text))


def build(component: Component, *, default_namespace: str, report: Report) -> KubeObject | None:
    """The component's object; None when it has errors, which are added to `report`."""
    api_version = component.api_version or api_version_of(
        component.kind, model=component.model, settings=component.settings
    )
    namespace = component.namespace or default_namespace
    if is_cluster_scoped(api_version, component.kind):
        namespace = ""
    faults = list(_identity_faults(component, api_version=api_version, namespace=namespace))
    body, more = _body(component, api_version=api_version)
    for fault in faults + more:
        report.error((), fault)
    if faults or more:
        return None
    metadata: dict[str, Any] = {"name": component.name}
    if namespace:
        metadata["namespace"] = namespace
    for name, pairs in (("labels", component.labels), ("annotations", component.annotations)):
        if pairs:
            metadata[name] = dict(pairs)
    return {"apiVersion": api_version, "kind": component.kind, "metadata": metadata, **body}


def _identity_faults(component: Component, *, api_version: str, namespace: str) -> list[str]:
    faults = []
    if not _KIND.match(component.kind):
        faults.append(f"{quoted(component.kind)} is not a kind")
    elif not api_version:
        faults.append("it has no api version, and the kind is not one that is known without")
    if api_version and not _API_VERSION.match(api_version):
        faults.append(f"{quoted(api_version)} is not an api version")
    if not _NAME.match(component.name):
        faults.append("its name cannot be an object's")
    if namespace and not is_namespace(namespace):
        faults.append(f"{quoted(namespace)} is not a namespace's name")
    return faults


def _body(component: Component, *, api_version: str) -> tuple[dict[str, Any], list[str]]:
    settings = component.settings
    if not has_only_spec(api_version, component.kind):
        return {key: settings[key] for key in settings if key not in _NOT_COPIED}, []
    spec, fault = _spec(settings, kind=component.kind)
    return {"spec": spec}, [fault] if fault else []


def _spec(settings: Mapping[str, Any], *, kind: str) -> tuple[dict[str, Any], str]:
    """The spec in either shape, and what is wrong with it."""
    if "spec" not in settings:
        left_out = _NOT_COPIED - _SPEC_FIELDS.get(kind, frozenset())
        return {key: settings[key] for key in settings if key not in left_out}, ""
    others = sorted(key for key in settings if key != "spec" and key not in _BESIDE_SPEC)
    if others:
        return (
            {},
            f"its settings have {quoted(others[0])} beside spec, and only one can be its spec",
        )
    spec = settings["spec"]
    # An earlier adapter's spec.spec, which some designs were imported with.
    while isinstance(spec, dict) and set(spec) == {"spec"}:
        spec = spec["spec"]
    if spec is not None and not isinstance(spec, dict):
        return {}, "its spec is not a mapping"
    if kind == "PeerAuthentication" and spec and "mTLS" in spec and "mtls" not in spec:
        # The prettifier's word for the field.
        spec = {("mtls" if key == "mTLS" else key): part for key, part in spec.items()}
    return spec or {}, ""


# ---- Kinds by name -------------------------------------------------------------------------------

# Old designs tell a type and nothing else. The versions here are the newest of Istio 1.31 and of
# the Gateway API 1.6 and the last of SMI; the caller exchanges them for what its cluster serves.

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
