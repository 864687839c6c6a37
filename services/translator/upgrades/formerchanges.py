"""What Istio 1.20 to 1.25 changed."""

from __future__ import annotations

from services.translator.reports import Level
from services.translator.upgrades.behaviours import Behaviour
from services.translator.upgrades.conditions import (
    GATEWAY_API,
    NETWORKING,
    always,
    external_names,
    former_attributes,
    former_gateway_labels,
    overlapping_wildcards,
    relative_filters,
    translated_ports,
    unnamed_tls,
    unverified_tls,
    waypoints,
    with_gateway_label,
    without_target_ports,
    without_verification,
)
from services.translator.upgrades.platforms import (
    default_tracing,
    discovery_selectors,
    excluded_dns,
    providers,
    variables,
)

_TO_OPENTELEMETRY = "send the spans by an opentelemetry provider"

FORMER_CHANGES: tuple[Behaviour, ...] = (
    Behaviour(
        minor=(1, 20),
        key="filter-order",
        title="One order of Envoy's filters for inbound, outbound and gateways",
        level=Level.WARNING,
        reason="the filters that Istio generates stand in another order, for TCP above all, so the "
        "patch may end up in another place",
        remedy="look at the proxy's filters after the upgrade (istioctl proxy-config listener)",
        kind=(NETWORKING, "EnvoyFilter"),
        places=relative_filters,
    ),
    Behaviour(
        minor=(1, 20),
        key="startup-probe",
        title="Sidecars have a startup probe",
        level=Level.INFO,
        reason="a pod whose sidecar has not started within 10 minutes is killed; before, it waited "
        "for ever",
        concerns=lambda mesh: True,
    ),
    Behaviour(
        minor=(1, 21),
        key="tls-verified",
        title="Servers are verified without caCertificates too",
        level=Level.WARNING,
        reason="the server's certificate is now verified by the operating system's authorities; a "
        "server with another certificate can no longer be reached",
        remedy="set caCertificates or credentialName; insecureSkipVerify: true keeps what was",
        kind=(NETWORKING, "DestinationRule"),
        places=unverified_tls,
        rewrite=without_verification,
    ),
    Behaviour(
        minor=(1, 21),
        key="auto-sni",
        title="The server's name in TLS follows the request's host",
        level=Level.INFO,
        reason="without sni, the name that is asked for is now the request's Host or authority; "
        "before, it was none",
        remedy="set sni where the server expects a certain name",
        kind=(NETWORKING, "DestinationRule"),
        places=unnamed_tls,
    ),
    Behaviour(
        minor=(1, 21),
        key="external-name",
        title="Services of type ExternalName are aliases",
        level=Level.WARNING,
        reason="traffic to the Service is treated as traffic to the host that it points to, with "
        "the routes and policies of that host",
        remedy="see to it that routes and policies name the host; ports need no names any more",
        kind=("", "Service"),
        places=external_names,
    ),
    Behaviour(
        minor=(1, 21),
        key="wildcard-hosts",
        title="The most specific host of VirtualServices wins",
        level=Level.WARNING,
        reason="another VirtualService of the same gateway has a more specific host, which now "
        "wins; before, the older VirtualService won",
        remedy="see to it that requests to the more specific host are meant to go there",
        kind=(NETWORKING, "VirtualService"),
        places=overlapping_wildcards,
    ),
    Behaviour(
        minor=(1, 21),
        key="gateway-name-label",
        title="Generated gateways have another label",
        level=Level.INFO,
        reason="pods of generated gateways are labelled gateway.networking.k8s.io/gateway-name; "
        "the former label is still there, until 1.24",
        remedy="select by the new label once the upgrade is done",
        places=former_gateway_labels,
        rewrite=with_gateway_label,
    ),
    Behaviour(
        minor=(1, 22),
        key="delta-xds",
        title="Proxies get changes instead of whole states",
        level=Level.INFO,
        reason="the incremental variant of xDS is the default; tools that listen in on xDS must "
        "know it",
        concerns=lambda mesh: True,
    ),
    Behaviour(
        minor=(1, 22),
        key="default-tracing",
        title="No spans to zipkin.istio-system by default",
        level=Level.WARNING,
        reason="spans went to this Service without being asked for; now they go nowhere",
        remedy="name it as an extension provider of sort zipkin, and use it in a Telemetry",
        kind=("", "Service"),
        places=default_tracing,
    ),
    Behaviour(
        minor=(1, 22),
        key="resource-scoping",
        title="discoverySelectors leave out Istio's own objects too",
        level=Level.WARNING,
        reason="objects of Istio in namespaces that the selectors do not name are no longer read, "
        "and those namespaces get no root certificate",
        remedy="let the selectors name every namespace that has objects of Istio",
        places=discovery_selectors,
    ),
    Behaviour(
        minor=(1, 22),
        key="target-port",
        title="targetPort is heeded without resolution too",
        level=Level.WARNING,
        reason="with resolution NONE the target port was ignored; now traffic goes to it",
        remedy="leave targetPort out to keep what was",
        kind=(NETWORKING, "ServiceEntry"),
        places=translated_ports,
        rewrite=without_target_ports,
    ),
    Behaviour(
        minor=(1, 22),
        key="waypoint-attachment",
        title="Waypoints are chosen by those who use them",
        level=Level.WARNING,
        reason="a waypoint no longer serves its namespace or a service account by itself",
        remedy="label namespaces, Services or pods with istio.io/use-waypoint",
        kind=(GATEWAY_API, "Gateway"),
        places=waypoints,
    ),
    Behaviour(
        minor=(1, 23),
        key="dns-exclusions",
        title="Exclusions hold for DNS too",
        level=Level.INFO,
        reason="DNS queries to excluded ports or addresses now bypass the proxy",
        remedy="see to it that the pod does not depend on Istio's names for them",
        places=excluded_dns,
    ),
    Behaviour(
        minor=(1, 24),
        key="gateway-name-label",
        title="Generated gateways have lost their former label",
        level=Level.WARNING,
        reason="pods of newly generated gateways are no longer labelled istio.io/gateway-name, so "
        "the selector does not find them",
        remedy="select by gateway.networking.k8s.io/gateway-name",
        places=former_gateway_labels,
        rewrite=with_gateway_label,
    ),
    Behaviour(
        minor=(1, 24),
        key="operator",
        title="There is no operator in the cluster any more",
        level=Level.WARNING,
        reason="nothing carries out an IstioOperator that lies in the cluster",
        remedy="send it as the overlay of the operation `istio`, then delete the object",
        kind=("install.istio.io", "IstioOperator"),
        places=always,
    ),
    Behaviour(
        minor=(1, 24),
        key="sidecar-scope",
        title="The same choice of services with and without a Sidecar",
        level=Level.INFO,
        reason="where several services have one host, that of the proxy's own namespace is taken, "
        "then a Kubernetes Service, then any; before, a Sidecar changed this",
        kind=(NETWORKING, "Sidecar"),
        places=always,
    ),
    Behaviour(
        minor=(1, 24),
        key="peer-metadata",
        title="Expressions use Envoy's own attributes",
        level=Level.WARNING,
        reason="the expression uses an attribute of the former Wasm extensions, which is empty now",
        remedy="use filter_state.downstream_peer, filter_state.upstream_peer and xds.node",
        kind=("telemetry.istio.io", "Telemetry"),
        places=former_attributes,
    ),
    Behaviour(
        minor=(1, 24),
        key="istiod-settings",
        title="istiod has lost the switches to the behaviour of 1.20",
        level=Level.WARNING,
        reason="the variable is not read any more, so the new behaviour holds",
        remedy="prepare for it, then leave the variable out",
        places=variables(
            "ENABLE_EXTERNAL_NAME_ALIAS",
            "PERSIST_OLDEST_FIRST_HEURISTIC_FOR_VIRTUAL_SERVICE_HOST_MATCHING",
            "VERIFY_CERTIFICATE_AT_CLIENT",
        ),
    ),
    Behaviour(
        minor=(1, 25),
        key="internal-addresses",
        title="No address is internal by default",
        level=Level.WARNING,
        reason="requests from private addresses are no longer taken as internal, so their x-envoy "
        "headers are removed",
        remedy="where they are needed, name the mesh's networks and set "
        "ENABLE_HCM_INTERNAL_NETWORKS for istiod",
        concerns=lambda mesh: True,
    ),
    Behaviour(
        minor=(1, 25),
        key="ambient-dns",
        title="DNS of ambient pods is captured",
        level=Level.INFO,
        reason="new ambient pods ask the mesh for names; running ones do so after their restart",
        concerns=lambda mesh: mesh.is_ambient,
    ),
    Behaviour(
        minor=(1, 25),
        key="opencensus",
        title="OpenCensus is gone",
        level=Level.ERROR,
        reason="Envoy cannot send to OpenCensus any more, so the spans are lost",
        remedy=_TO_OPENTELEMETRY,
        places=providers("opencensus", "openCensusAgent"),
    ),
)
