"""Kinds that the topology of a mesh is made of, each named `group/Kind` (`/Pod` in the core group).

Secrets are not among them on purpose: nothing here needs one, and what is not read cannot leak.
"""

from __future__ import annotations

from services.chassis.messages.facts import CONFIGURATION_GROUPS

NAMESPACE = "/Namespace"
SERVICE = "/Service"
POD = "/Pod"
CONFIG_MAP = "/ConfigMap"
ENDPOINTS = "discovery.k8s.io/EndpointSlice"
DEPLOYMENT = "apps/Deployment"
STATEFUL_SET = "apps/StatefulSet"
DAEMON_SET = "apps/DaemonSet"
WEBHOOK = "admissionregistration.k8s.io/MutatingWebhookConfiguration"

PROXY = "meshbus.io/Proxy"
ISTIOD = "meshbus.io/Istiod"
"""No objects of the cluster: what control planes tell of a pod's proxy and of themselves, each
under its pod's name."""

WORKLOADS = (DEPLOYMENT, STATEFUL_SET, DAEMON_SET)
"""What runs pods; a pod that none of them owns is a workload of its own."""
ALWAYS = (NAMESPACE, SERVICE, ENDPOINTS, POD, *WORKLOADS, WEBHOOK)
"""Served by every cluster."""

VIRTUAL_SERVICE = "networking.istio.io/VirtualService"
DESTINATION_RULE = "networking.istio.io/DestinationRule"
GATEWAY = "networking.istio.io/Gateway"
SERVICE_ENTRY = "networking.istio.io/ServiceEntry"
SIDECAR = "networking.istio.io/Sidecar"
WORKLOAD_ENTRY = "networking.istio.io/WorkloadEntry"
WORKLOAD_GROUP = "networking.istio.io/WorkloadGroup"
ENVOY_FILTER = "networking.istio.io/EnvoyFilter"
PROXY_CONFIG = "networking.istio.io/ProxyConfig"
AUTHORIZATION_POLICY = "security.istio.io/AuthorizationPolicy"
PEER_AUTHENTICATION = "security.istio.io/PeerAuthentication"
REQUEST_AUTHENTICATION = "security.istio.io/RequestAuthentication"
TELEMETRY = "telemetry.istio.io/Telemetry"
WASM_PLUGIN = "extensions.istio.io/WasmPlugin"
TRAFFIC_EXTENSION = "extensions.istio.io/TrafficExtension"
GATEWAY_CLASS = "gateway.networking.k8s.io/GatewayClass"
K8S_GATEWAY = "gateway.networking.k8s.io/Gateway"
HTTP_ROUTE = "gateway.networking.k8s.io/HTTPRoute"
GRPC_ROUTE = "gateway.networking.k8s.io/GRPCRoute"
TCP_ROUTE = "gateway.networking.k8s.io/TCPRoute"
TLS_ROUTE = "gateway.networking.k8s.io/TLSRoute"
REFERENCE_GRANT = "gateway.networking.k8s.io/ReferenceGrant"
ROUTES = (HTTP_ROUTE, GRPC_ROUTE, TCP_ROUTE, TLS_ROUTE)


def is_configuration(kind: str) -> bool:
    """Whether a kind holds a mesh's configuration: Istio's and the Gateway API's groups."""
    return kind.partition("/")[0] in CONFIGURATION_GROUPS


def short(kind: str) -> str:
    """`VirtualService` of `networking.istio.io/VirtualService`."""
    return kind.rpartition("/")[2]
