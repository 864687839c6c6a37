"""What Istio 1.26 to 1.31 changed."""

from __future__ import annotations

from services.translator.reports import Level
from services.translator.upgrades.behaviours import Behaviour
from services.translator.upgrades.conditions import (
    GATEWAY_API,
    NETWORKING,
    always,
    borrowed_gateways,
    connection_limits,
    ejecting,
    inherited_tls,
    mirrors,
    registered_entries,
    shared_hosts,
    unresolved_in_ambient,
)
from services.translator.upgrades.meshes import Mesh
from services.translator.upgrades.platforms import (
    former_hubs,
    providers,
    variables,
    with_current_hubs,
)

_NATIVE_SIDECARS_SINCE = 33


def _has_native_sidecars(mesh: Mesh) -> bool:
    """istiod turns them on by itself where every node is of Kubernetes 1.33 or newer."""
    return mesh.kubernetes_minor == 0 or mesh.kubernetes_minor >= _NATIVE_SIDECARS_SINCE


RECENT_CHANGES: tuple[Behaviour, ...] = (
    Behaviour(
        minor=(1, 26),
        key="lightstep",
        title="Lightstep is deprecated",
        level=Level.INFO,
        reason="1.27 removes the provider",
        remedy="send the spans by an opentelemetry provider",
        places=providers("lightstep"),
    ),
    Behaviour(
        minor=(1, 27),
        key="lightstep",
        title="Lightstep is gone",
        level=Level.ERROR,
        reason="istiod configures no tracer for this provider any more, so the spans are lost",
        remedy="send the spans by an opentelemetry provider",
        places=providers("lightstep"),
    ),
    Behaviour(
        minor=(1, 27),
        key="native-sidecars",
        title="The sidecar is an init container",
        level=Level.WARNING,
        reason="on Kubernetes 1.33 and newer istio-proxy runs as an init container that restarts; "
        "webhooks and tools that look for it among the containers do not find it",
        remedy="try the workloads, or set ENABLE_NATIVE_SIDECARS: false for istiod",
        concerns=_has_native_sidecars,
    ),
    Behaviour(
        minor=(1, 28),
        key="inference-pool",
        title="InferencePool is v1 only",
        level=Level.ERROR,
        reason="Istio no longer reads the alpha InferencePool",
        remedy="write it as InferencePool of inference.networking.k8s.io/v1, whose fields differ",
        kind=("inference.networking.x-k8s.io", "InferencePool"),
        places=always,
    ),
    Behaviour(
        minor=(1, 28),
        key="backend-tls-policy",
        title="BackendTLSPolicy takes effect",
        level=Level.WARNING,
        reason="Istio reads the policy by default now, as v1 only; before, it was ignored unless "
        "PILOT_ENABLE_ALPHA_GATEWAY_API was set",
        remedy="see to it that its backends do speak TLS with the named host and authorities",
        kind=(GATEWAY_API, "BackendTLSPolicy"),
        places=always,
    ),
    Behaviour(
        minor=(1, 28),
        key="metric-rotation",
        title="istiod has lost its rotation of metrics",
        level=Level.WARNING,
        reason="the variable is not read any more, so metrics of gone workloads stay",
        remedy="annotate pods with sidecar.istio.io/statsEvictionInterval",
        places=variables("METRIC_ROTATION_INTERVAL", "METRIC_GRACEFUL_DELETION_INTERVAL"),
    ),
    Behaviour(
        minor=(1, 28),
        key="mirrored-host",
        title="Mirrored requests keep their host",
        level=Level.WARNING,
        reason="the host of mirrored requests no longer ends in -shadow, so the receiver cannot "
        "tell them by it",
        remedy="set DISABLE_SHADOW_HOST_SUFFIX: false for istiod where the receiver needs it",
        kind=(NETWORKING, "VirtualService"),
        places=mirrors,
    ),
    Behaviour(
        minor=(1, 28),
        key="passthrough-services",
        title="Ambient passes traffic through for services without resolution",
        level=Level.INFO,
        reason="ztunnels of before refuse this kind of service, so they miss its changes until "
        "they are upgraded",
        remedy="upgrade ztunnel soon after istiod",
        kind=(NETWORKING, "ServiceEntry"),
        places=unresolved_in_ambient,
    ),
    Behaviour(
        minor=(1, 29),
        key="debug-endpoints",
        title="istiod's debug interface asks who calls",
        level=Level.WARNING,
        reason="callers outside the system namespace only get what concerns proxies of their own "
        "namespace; Kiali and other tools may miss data",
        remedy="allow the tool's namespace, or set ENABLE_DEBUG_ENDPOINT_AUTH: false for istiod",
        concerns=lambda mesh: True,
    ),
    Behaviour(
        minor=(1, 29),
        key="metrics-compression",
        title="Proxies compress their metrics",
        level=Level.INFO,
        reason="the metrics are compressed for whoever accepts that",
        remedy="set statsCompression: false in the proxy's configuration where a scraper fails",
        concerns=lambda mesh: True,
    ),
    Behaviour(
        minor=(1, 29),
        key="circuit-breaker-gauges",
        title="What is left of a connection pool is not measured",
        level=Level.INFO,
        reason="the gauges of remaining connections and requests stay at zero; alerts on them fall "
        "silent",
        remedy="set DISABLE_TRACK_REMAINING_CB_METRICS: false for istiod where they are used",
        kind=(NETWORKING, "DestinationRule"),
        places=connection_limits,
    ),
    Behaviour(
        minor=(1, 29),
        key="ambient-iptables",
        title="Rules of running ambient pods are renewed",
        level=Level.INFO,
        reason="a starting istio-cni brings the packet rules of pods that already run up to date",
        concerns=lambda mesh: mesh.is_ambient,
    ),
    Behaviour(
        minor=(1, 30),
        key="xds-debug",
        title="Debugging by xDS on port 15010 asks who calls",
        level=Level.INFO,
        reason="istioctl with --plaintext and own tools on that port are refused",
        remedy="let them use port 15012",
        concerns=lambda mesh: True,
    ),
    Behaviour(
        minor=(1, 30),
        key="cni-file-mode",
        title="Only root reads the CNI configuration",
        level=Level.INFO,
        reason="istio-cni writes its file with mode 0600",
        remedy="set CNI_CONF_GROUP_READ: true for istio-cni where a tool of another user reads it",
        concerns=lambda mesh: True,
    ),
    Behaviour(
        minor=(1, 30),
        key="service-namespace",
        title="Another service is taken where several namespaces have its host",
        level=Level.WARNING,
        reason="another namespace declares the same host; now a Kubernetes Service is preferred, "
        "then the oldest entry, while before the first namespace by name was",
        remedy="limit exportTo, so that each namespace sees one",
        kind=(NETWORKING, "ServiceEntry"),
        places=shared_hosts,
    ),
    Behaviour(
        minor=(1, 31),
        key="image-hubs",
        title="Registries of Istio's images are switched off",
        level=Level.WARNING,
        reason="gcr.io/istio-release and registry.istio.io stop serving in December 2026, with "
        "outages before",
        remedy="take the images from docker.io/istio",
        places=former_hubs,
        rewrite=with_current_hubs,
    ),
    Behaviour(
        minor=(1, 31),
        key="gateway-merging",
        title="Gateways are not merged across namespaces",
        level=Level.ERROR,
        reason="the selector means the generated gateway of another namespace, which no longer "
        "takes servers from here",
        remedy="move it into that gateway's namespace, or set PILOT_ENABLE_STRICT_GATEWAY_MERGING: "
        "false for istiod",
        kind=(NETWORKING, "Gateway"),
        places=borrowed_gateways,
    ),
    Behaviour(
        minor=(1, 31),
        key="unhealthy-endpoints",
        title="Proxies know endpoints that are not ready",
        level=Level.INFO,
        reason="pods that are not ready are sent to the proxies as unhealthy unless "
        "minHealthPercent is set; numbers of endpoints and of ejections change",
        remedy="set minHealthPercent, or PILOT_AUTO_SEND_UNHEALTHY_ENDPOINTS: false for istiod",
        kind=(NETWORKING, "DestinationRule"),
        places=ejecting,
    ),
    Behaviour(
        minor=(1, 31),
        key="subset-tls",
        title="Subsets inherit the TLS of their DestinationRule",
        level=Level.INFO,
        reason="for mutual TLS with the endpoints, a subset's policy without tls now falls back to "
        "that of the whole rule",
        kind=(NETWORKING, "DestinationRule"),
        places=inherited_tls,
    ),
    Behaviour(
        minor=(1, 31),
        key="upstream-spans",
        title="Gateways always make a span for the request upstream",
        level=Level.WARNING,
        reason="the variable is not read any more",
        remedy="leave it out",
        places=variables("PILOT_SPAWN_UPSTREAM_SPAN_FOR_GATEWAY"),
    ),
    Behaviour(
        minor=(1, 31),
        key="api-generator",
        title="Configuration over MCP needs an identity of the control plane",
        level=Level.INFO,
        reason="own clients outside the system namespace that read configuration from istiod are "
        "refused",
        remedy="set ENABLE_XDS_API_GENERATOR_AUTH: false for istiod where there are such clients",
        concerns=lambda mesh: True,
    ),
    Behaviour(
        minor=(1, 31),
        key="registered-workloads",
        title="Registered workloads are reached by HBONE once they are labelled",
        level=Level.WARNING,
        reason="the entry registered itself before it was labelled, so the workload is still "
        "reached in plain text",
        remedy="label the entry networking.istio.io/tunnel: http, or restart the workload",
        kind=(NETWORKING, "WorkloadEntry"),
        places=registered_entries,
    ),
)
