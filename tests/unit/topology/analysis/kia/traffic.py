"""Cases of routing: DestinationRules, Gateways, Services, Sidecars, VirtualServices and others."""

from __future__ import annotations

from services.topology.analysis.findings import Level
from tests.unit.topology.analysis.kia.cases import (
    GATEWAY_API,
    NETWORKING,
    SIDECARS,
    Case,
    deployment,
    one,
    pod,
    service,
    space,
)


def rule(name: str, spec: str, **metadata: str) -> str:
    return one(NETWORKING, "DestinationRule", name, spec, **metadata)


def gateway(name: str, spec: str, **metadata: str) -> str:
    return one(NETWORKING, "Gateway", name, spec, **metadata)


def route(spec: str, name: str = "vs", **metadata: str) -> str:
    return one(NETWORKING, "VirtualService", name, spec, **metadata)


def entry(name: str, spec: str, **metadata: str) -> str:
    return one(NETWORKING, "ServiceEntry", name, spec, **metadata)


def sidecar(spec: str, **metadata: str) -> str:
    return one(NETWORKING, "Sidecar", "sc", spec, **metadata)


def to(*splits: str) -> str:
    return route(f"{{hosts: [a], http: [{{route: [{', '.join(splits)}]}}]}}")


def listening(name: str, fields: str, kind: str = "Gateway") -> str:
    return one(GATEWAY_API, kind, name, f"{{gatewayClassName: istio, {fields}}}")


V1 = "{host: a, subsets: [{name: v1, labels: {version: v1}}]}"
V2 = "{host: a, subsets: [{name: v2, labels: {version: v2}}]}"
DOOR = "{selector: {istio: gw}, servers: [{port: {number: %d}, hosts: ['%s']}]}"
CLASS = one(GATEWAY_API, "GatewayClass", "istio")
SUBSET = "{destination: {host: a, subset: v1}, weight: %d}"
ROUTE = "spec.http[0].route"
BACKEND = "{rules: [{backendRefs: [{name: a, port: 80%s}]}]}"
GRANT = "{from: [{group: g, kind: HTTPRoute, namespace: %s}], to: [{group: '', kind: Service}]}"


def _door(more: str) -> str:
    """A Gateway of another namespace, with one listener."""
    listener = f"{{name: web, port: 80, protocol: HTTP{', ' if more else ''}{more}}}"
    spec = f"{{gatewayClassName: istio, listeners: [{listener}]}}"
    return one(GATEWAY_API, "Gateway", "door", spec, namespace="edge")


def _chosen(selector: str) -> str:
    return f"allowedRoutes: {{namespaces: {{from: Selector, selector: {selector}}}}}"


TO_DOOR = one(
    GATEWAY_API, "HTTPRoute", "r", "{parentRefs: [{name: door, namespace: edge, sectionName: web}]}"
)
TO_SERVICE = "{parentRefs: [{group: '', kind: Service, name: a}]}"
KEPT = service("a", namespace="other", annotations="{networking.istio.io/exportTo: .}")

CASES = (
    Case(
        code="KIA0201",
        wrong=service("a") + rule("one", V1) + rule("two", "{host: a}"),
        right=service("a")
        + rule("one", V1)
        + rule("two", V2)
        + rule("x", V1.replace("host: a", "host: a.default.svc.cluster.local"), namespace="x")
        + rule("b1", "{host: b, workloadSelector: {matchLabels: {app: c}}}")
        + rule("b2", "{host: b, workloadSelector: {matchLabels: {app: d}}}"),
        on="DestinationRule default/one",
        path="spec.host",
        also=(("DestinationRule default/two", "spec.host"),),
    ),
    Case(
        code="KIA0202",
        wrong=service("a") + rule("dr", "{host: a.default.svc.cluster}"),
        right=service("a")
        + entry("se", "{hosts: ['*.example.com']}")
        + rule("one", "{host: a}")
        + rule("two", "{host: api.example.com}")
        + rule("three", "{host: '*.local'}")
        + rule("four", "{host: '*.default.svc.cluster.local'}"),
        on="DestinationRule default/dr",
        path="spec.host",
    ),
    Case(
        code="KIA0203",
        wrong=service("a")
        + deployment("a", "{app: a, version: v2}")
        + rule("dr", V1)
        + to(SUBSET % 100),
        right=service("a")
        + deployment("a", "{app: a, version: v1}")
        + rule("dr", V1)
        + to(SUBSET % 100),
        on="DestinationRule default/dr",
        path="spec.subsets[0].labels",
    ),
    Case(
        code="KIA0203",
        wrong=service("a") + deployment("a", "{app: a, version: v2}") + rule("dr", V1),
        right=service("a") + pod("a", "{app: a, version: v1}") + rule("dr", V1),
        on="DestinationRule default/dr",
        path="spec.subsets[0].labels",
    ),
    Case(
        code="KIA0203",
        # A pod of another host has the labels, which istioctl takes for one of the subset's.
        wrong=service("a")
        + deployment("a", "{app: a, version: v2}")
        + pod("b", "{app: b, version: v1}")
        + rule("dr", V1),
        right=entry("se", "{hosts: [a.com], endpoints: [{labels: {version: v1}}]}")
        + rule("dr", "{host: a.com, subsets: [{name: v1, labels: {version: v1}}]}"),
        on="DestinationRule default/dr",
        path="spec.subsets[0].labels",
        level=Level.INFO,
        codes=("KIA0203",),
    ),
    Case(
        code="KIA0209",
        wrong=service("a") + rule("dr", "{host: a, subsets: [{name: all}]}"),
        right=service("a") + rule("dr", V1),
        on="DestinationRule default/dr",
        path="spec.subsets[0]",
    ),
    # --- Gateways ------------------------------------------------------------------------------
    Case(
        code="KIA0301",
        wrong=gateway("one", DOOR % (80, "a.com"))
        + gateway("two", DOOR % (80, "*.com"), namespace="other"),
        right=gateway("one", DOOR % (80, "a.com"))
        + gateway("two", DOOR % (443, "*.com"))
        + gateway("three", DOOR % (80, "b.com"))
        + gateway("four", (DOOR % (80, "a.com")).replace("gw", "gw2")),
        on="Gateway default/one",
        path="spec.servers[0].hosts[0]",
        also=(("Gateway other/two", "spec.servers[0].hosts[0]"),),
    ),
    Case(
        code="KIA0302",
        wrong=space("default") + space("in") + gateway("gw", DOOR % (80, "a.com")),
        right=space("default")
        + space("in")
        + gateway("gw", DOOR % (80, "a.com"))
        + deployment("gw", "{istio: gw}", namespace="in"),
        on="Gateway default/gw",
        path="spec.selector",
    ),
    # --- Services ------------------------------------------------------------------------------
    Case(
        code="KIA0601",
        wrong=SIDECARS + deployment("a") + service("a", "[{name: http2web, port: 8080}]"),
        right=SIDECARS
        + deployment("a")
        + service("a", "[{name: http2-web, port: 8080}, {name: web, port: 81, appProtocol: http}]"),
        on="Service default/a",
        path="spec.ports[0].name",
    ),
    Case(
        code="KIA0601",
        wrong=SIDECARS + pod("a", "{app: a}") + service("a", "[{port: 8080}]"),
        right=space("default") + pod("a", "{app: a}") + service("a", "[{port: 8080}]"),
        on="Service default/a",
        path="spec.ports[0].name",
    ),
    Case(
        code="KIA0602",
        wrong=SIDECARS
        + deployment("a")
        + service("a", "[{name: http, port: 8080, appProtocol: htp}]"),
        right=SIDECARS
        + deployment("a")
        + service("a", "[{name: x, port: 8080, appProtocol: kubernetes.io/h2c}]"),
        on="Service default/a",
        path="spec.ports[0].appProtocol",
    ),
    Case(
        code="KIA0701",
        wrong=SIDECARS
        + deployment("a")
        + service("a", "[{name: http, port: 80, targetPort: 8081}]"),
        right=SIDECARS
        + deployment("a")
        + pod("b", "{app: b}")
        + service("a", "[{name: http, port: 80, targetPort: web}, {name: tcp, port: 8080}]")
        + service("b"),
        on="Service default/a",
        path="spec.ports[0].targetPort",
    ),
    # --- Sidecars ------------------------------------------------------------------------------
    Case(
        code="KIA1004",
        wrong=space("default") + sidecar("{egress: [{hosts: [./b.default.svc.cluster.local]}]}"),
        right=space("default")
        + service("a")
        + entry("se", "{hosts: [a.com]}")
        + sidecar(
            "{egress: [{hosts: [./a.default.svc.cluster.local, '*/a.com', './*', '~/*',"
            " '~gone/*']}]}"
        ),
        on="Sidecar default/sc",
        path="spec.egress[0].hosts[0]",
    ),
    Case(
        code="KIA1006",
        wrong=sidecar("{workloadSelector: {labels: {app: a}}}", namespace="istio-system"),
        right=sidecar("{}", namespace="istio-system")
        + sidecar("{workloadSelector: {labels: {app: a}}}"),
        on="Sidecar istio-system/sc",
        path="spec.workloadSelector",
    ),
    Case(
        code="KIA1007",
        wrong=sidecar("{outboundTrafficPolicy: {}}"),
        right=sidecar("{outboundTrafficPolicy: {mode: ALLOW_ANY}}"),
        on="Sidecar default/sc",
        path="spec.outboundTrafficPolicy",
    ),
    # --- VirtualServices -----------------------------------------------------------------------
    Case(
        code="KIA1101",
        wrong=service("a") + to("{destination: {host: b}}", "{destination: {host: a}}"),
        right=service("a")
        + service("b", namespace="other")
        + entry("se", "{hosts: ['*.example.com']}")
        + to(
            "{destination: {host: a}}",
            "{destination: {host: b.other.svc.cluster.local}}",
            "{destination: {host: x.example.com}}",
        ),
        on="VirtualService default/vs",
        path=f"{ROUTE}[0].destination.host",
    ),
    *(
        Case(
            code="KIA1101",
            wrong=wrong + to(f"{{destination: {{host: {host}}}}}"),
            right=right + to("{destination: {host: a.other.svc.cluster.local}}"),
            on="VirtualService default/vs",
            path=f"{ROUTE}[0].destination.host",
        )
        for host, wrong, right in (
            # Half of the cluster's domain makes no name of a Service.
            (
                "a.other.svc.cluster",
                service("a", namespace="other"),
                service("a", namespace="other"),
            ),
            # What a namespace keeps to itself is not there for others.
            ("a.other.svc.cluster.local", KEPT, service("a", namespace="other")),
        )
    ),
    Case(
        code="KIA0202",
        wrong=KEPT + rule("dr", "{host: a.other.svc.cluster.local}"),
        right=service("a", namespace="other") + rule("dr", "{host: a.other.svc.cluster.local}"),
        on="DestinationRule default/dr",
        path="spec.host",
    ),
    Case(
        code="KIA1004",
        wrong=KEPT
        + space("other")
        + sidecar("{egress: [{hosts: [other/a.other.svc.cluster.local]}]}"),
        right=service("a", namespace="other")
        + space("other")
        + sidecar("{egress: [{hosts: [other/a.other.svc.cluster.local]}]}"),
        on="Sidecar default/sc",
        path="spec.egress[0].hosts[0]",
    ),
    Case(
        # A gateway by its host is the gateway by its namespace and name.
        code="KIA1102",
        wrong=gateway("gw", DOOR % (80, "a.com"), namespace="edge")
        + route("{gateways: [gw.other.svc.cluster.local]}"),
        right=gateway("gw", DOOR % (80, "a.com"), namespace="edge")
        + route("{gateways: [gw.edge.svc.cluster.local]}")
        + route("{gateways: [edge/gw]}", "named"),
        on="VirtualService default/vs",
        path="spec.gateways[0]",
        # It is a former way to name one, too.
        codes=("IST0101", "IST0132", "KIA1102", "KIA1108"),
    ),
    Case(
        code="KIA1102",
        wrong=gateway("gw", DOOR % (80, "a.com")) + route("{gateways: [mesh, other/gw]}"),
        right=gateway("gw", DOOR % (80, "a.com"))
        + route("{gateways: [mesh, gw], http: [{match: [{gateways: [default/gw]}]}]}"),
        on="VirtualService default/vs",
        path="spec.gateways[1]",
    ),
    Case(
        code="KIA1104",
        wrong=to("{destination: {host: a}, weight: 20}"),
        right=to("{destination: {host: a}, weight: 100}"),
        on="VirtualService default/vs",
        path=f"{ROUTE}[0].weight",
    ),
    Case(
        code="KIA1105",
        wrong=to(
            SUBSET % 40, (SUBSET % 60).replace("host: a,", "host: a.default.svc.cluster.local,")
        ),
        right=to(SUBSET % 40, (SUBSET % 60).replace("v1", "v2")),
        on="VirtualService default/vs",
        path=f"{ROUTE}[1]",
    ),
    Case(
        code="KIA1106",
        wrong=route("{hosts: [a]}", "one")
        + route("{hosts: [b, a.default.svc.cluster.local]}", "two", namespace="other"),
        right=route("{hosts: [a]}", "one")
        + route("{hosts: [a], gateways: [gw]}", "two")
        + route("{hosts: [a.default.svc.cluster.local], gateways: [gw]}", "three", namespace="x")
        + route("{hosts: [c.com], exportTo: [.]}", "four")
        + route("{hosts: [c.com], exportTo: [.]}", "five", namespace="x"),
        on="VirtualService default/one",
        path="spec.hosts[0]",
        also=(("VirtualService other/two", "spec.hosts[1]"),),
    ),
    Case(
        code="KIA1107",
        wrong=service("a") + rule("dr", V2) + to(SUBSET % 100),
        right=service("a")
        + rule("dr", V1.replace("host: a", "host: '*.local'"), namespace="istio-system")
        + to(SUBSET % 100),
        on="VirtualService default/vs",
        path=f"{ROUTE}[0].destination.subset",
    ),
    Case(
        code="KIA1108",
        wrong=gateway("gw", DOOR % (80, "a.com"))
        + route("{gateways: [gw.default.svc.cluster.local]}"),
        right=gateway("gw", DOOR % (80, "a.com")) + route("{gateways: [default/gw]}"),
        on="VirtualService default/vs",
        path="spec.gateways[0]",
    ),
    # --- outside of Kubernetes -----------------------------------------------------------------
    Case(
        code="KIA1211",
        wrong=entry("one", "{hosts: [a.com], ports: [{number: 80, protocol: HTTP}]}")
        + entry("two", "{hosts: [b.com, a.com], ports: [{number: 80, protocol: HTTP}]}"),
        right=entry("one", "{hosts: [a.com], ports: [{number: 80, protocol: HTTP}]}")
        + entry("two", "{hosts: [a.com], ports: [{number: 443, protocol: TLS}]}"),
        on="ServiceEntry default/one",
        path="spec.hosts[0]",
        also=(("ServiceEntry default/two", "spec.hosts[1]"),),
    ),
    Case(
        code="KIA1212",
        wrong=entry("one", "{hosts: [a.com], ports: [{number: 80, protocol: HTTP}]}")
        + entry("two", "{hosts: [a.com], ports: [{number: 80, protocol: TCP}]}"),
        right=entry("one", "{hosts: [a.com], ports: [{number: 80, protocol: HTTP}], exportTo: [.]}")
        + entry(
            "two",
            "{hosts: [a.com], ports: [{number: 80, protocol: TCP}], exportTo: [.]}",
            namespace="other",
        ),
        on="ServiceEntry default/one",
        path="spec.ports[0].protocol",
        also=(("ServiceEntry default/two", "spec.ports[0].protocol"),),
    ),
    Case(
        code="KIA1702",
        wrong=one(NETWORKING, "WorkloadGroup", "one", "{metadata: {labels: {app: a}}}")
        + one(NETWORKING, "WorkloadGroup", "two", "{metadata: {labels: {app: a}}}"),
        right=one(NETWORKING, "WorkloadGroup", "one", "{metadata: {labels: {app: a}}}")
        + one(NETWORKING, "WorkloadGroup", "two", "{metadata: {labels: {app: b}}}")
        + one(NETWORKING, "WorkloadGroup", "x", "{metadata: {labels: {app: a}}}", namespace="x"),
        on="WorkloadGroup default/one",
        path="spec.metadata.labels",
        also=(("WorkloadGroup default/two", "spec.metadata.labels"),),
    ),
    # --- Gateway API ---------------------------------------------------------------------------
    Case(
        code="KIA1401",
        wrong=one(GATEWAY_API, "HTTPRoute", "r", "{parentRefs: [{name: gw}]}"),
        right=CLASS
        + listening("gw", "listeners: []")
        + one(
            GATEWAY_API,
            "HTTPRoute",
            "r",
            "{parentRefs: [{name: gw}, {group: '', kind: Service, name: a}]}",
        ),
        on="HTTPRoute default/r",
        path="spec.parentRefs[0]",
    ),
    *(
        Case(
            code="KIA1401",
            wrong=space("default", "{team: a}") + _door(refused) + TO_DOOR,
            right=space("default", "{team: a}") + _door(taken) + TO_DOOR,
            on="HTTPRoute default/r",
            path="spec.parentRefs[0]",
        )
        for refused, taken in (
            ("", "allowedRoutes: {namespaces: {from: All}}"),
            ("allowedRoutes: {namespaces: {from: Same}}", _chosen("{matchLabels: {team: a}}")),
            (_chosen("{matchLabels: {team: b}}"), _chosen("{}")),
            (
                _chosen("{matchExpressions: [{key: team, operator: NotIn, values: [a, b]}]}"),
                _chosen("{matchExpressions: [{key: team, operator: In, values: [a, b]}]}"),
            ),
        )
    ),
    Case(
        code="KIA1402",
        wrong=one(GATEWAY_API, "HTTPRoute", "r", TO_SERVICE),
        right=service("a") + one(GATEWAY_API, "HTTPRoute", "r", TO_SERVICE),
        on="HTTPRoute default/r",
        path="spec.parentRefs[0]",
    ),
    Case(
        code="KIA1402",
        wrong=one(GATEWAY_API, "GRPCRoute", "r", BACKEND % ""),
        right=service("a") + one(GATEWAY_API, "GRPCRoute", "r", BACKEND % ""),
        on="GRPCRoute default/r",
        path="spec.rules[0].backendRefs[0].name",
    ),
    Case(
        code="KIA1402",
        wrong=service("a", namespace="x")
        + one(GATEWAY_API, "HTTPRoute", "r", BACKEND % ", namespace: x"),
        right=space("default")
        + service("a", namespace="x")
        + one(GATEWAY_API, "ReferenceGrant", "g", GRANT % "default", namespace="x")
        + one(GATEWAY_API, "HTTPRoute", "r", BACKEND % ", namespace: x"),
        on="HTTPRoute default/r",
        path="spec.rules[0].backendRefs[0].name",
    ),
    Case(
        code="KIA1501",
        wrong=CLASS
        + listening("one", "listeners: [{hostname: a.com, port: 80}]")
        + listening("two", "listeners: [{port: 80}, {hostname: a.com, port: 80}]"),
        right=CLASS
        + listening("one", "listeners: [{hostname: a.com, port: 80}, {port: 15008}]")
        + listening("two", "listeners: [{hostname: b.com, port: 80}, {port: 15008}]"),
        on="Gateway default/one",
        path="spec.listeners[0]",
        also=(("Gateway default/two", "spec.listeners[1]"),),
    ),
    Case(
        code="KIA1502",
        wrong=CLASS
        + listening("one", "addresses: [{value: 10.0.0.1}]")
        + listening("two", "addresses: [{type: IPAddress, value: 10.0.0.1}]"),
        right=CLASS
        + listening("one", "addresses: [{value: 10.0.0.1}]")
        + listening("two", "addresses: [{type: IPAddress, value: 10.0.0.2}]"),
        on="Gateway default/one",
        path="spec.addresses[0]",
        also=(("Gateway default/two", "spec.addresses[0]"),),
    ),
    Case(
        code="KIA1503",
        wrong=CLASS
        + listening("gw", "listeners: [{port: 80, protocol: HTTP}, {port: 80, protocol: HTTP}]"),
        right=CLASS
        + listening("gw", "listeners: [{port: 80, protocol: HTTP}, {port: 80, protocol: TLS}]"),
        on="Gateway default/gw",
        path="spec.listeners[1]",
    ),
    Case(
        code="KIA1504",
        wrong=listening("gw", "listeners: []"),
        right=CLASS + listening("gw", "listeners: []"),
        on="Gateway default/gw",
        path="spec.gatewayClassName",
    ),
    Case(
        code="KIA1601",
        wrong=one(GATEWAY_API, "ReferenceGrant", "g", GRANT % "gone"),
        right=space("there") + one(GATEWAY_API, "ReferenceGrant", "g", GRANT % "there"),
        on="ReferenceGrant default/g",
        path="spec.from[0].namespace",
    ),
)
