"""Policies, ServiceEntries, and what controllers say of objects."""

from __future__ import annotations

from tests.unit.topology.analysis.ist.worlds import Case, cases

_POLICY = ("AuthorizationPolicy policy",)
_PROXIED = """
---
kind: Pod
metadata: {name: app, labels: {app: HERE}}
spec: {containers: [{name: istio-proxy, image: p}]}
"""
_BARE = """
---
kind: Pod
metadata: {name: app, labels: {app: HERE}}
"""


def _policy(spec: str, namespace: str = "HERE", name: str = "policy") -> str:
    return f"""
---
kind: AuthorizationPolicy
metadata: {{name: {name}, namespace: {namespace}}}
spec: {{{spec}}}
"""


_SELECTED = "selector: {matchLabels: {app: HERE}}"
_OF_MESH = ("AuthorizationPolicy istio-system/HERE",)
_EFFECTIVE = cases(
    "IST0127",
    {"text": _policy(_SELECTED), "finds": _POLICY},
    {"text": _policy(_SELECTED) + _PROXIED},
    {"text": _policy(_SELECTED) + _BARE, "finds": _POLICY},
    {"text": _policy(_SELECTED) + _BARE, "labels": "istio-injection: enabled"},
    {
        "text": _policy(_SELECTED)
        + _BARE.replace("labels: {", "labels: {sidecar.istio.io/inject: 'true', "),
    },
    {
        "text": _policy(_SELECTED)
        + _BARE.replace("labels", "annotations: {ambient.istio.io/redirection: enabled}, labels"),
    },
    {"text": _policy("action: DENY"), "finds": _POLICY},
    {"text": _policy("action: DENY") + _PROXIED},
    {"text": _policy("action: DENY", "istio-system", "HERE")},
    {"text": _policy(_SELECTED, "istio-system", "HERE"), "finds": _OF_MESH},
    {"text": _policy(_SELECTED, "istio-system", "HERE") + _PROXIED},
)


def _from(source: str) -> str:
    return _policy(f"rules: [{{from: [{{source: {{{source}}}}}]}}]") + _PROXIED


_NAMESPACES = cases(
    "IST0101",
    {"name": "namespace-missing", "text": _from("namespaces: [gone]"), "finds": _POLICY},
    {"name": "namespace-there", "text": _from("namespaces: [HERE]")},
    {"name": "namespace-upper", "text": _from("namespaces: [NAMESPACE-UPPER]")},
    {"name": "namespace-all", "text": _from('namespaces: ["*"]')},
    {"name": "namespace-suffix", "text": _from('namespaces: ["*e-suffix"]')},
    {"name": "namespace-suffix-bad", "text": _from('namespaces: ["*e-x"]'), "finds": _POLICY},
    {"name": "namespace-prefix", "text": _from('namespaces: ["namespace-prefi*"]')},
    {"name": "namespace-prefix-bad", "text": _from('namespaces: ["x-*"]'), "finds": _POLICY},
    {"name": "namespace-not", "text": _from("notNamespaces: [gone]"), "finds": _POLICY},
)

_GATEWAY_POD = """
---
kind: Pod
metadata: {name: gate, labels: {app: HERE, gateway.networking.k8s.io/gateway-name: gate}}
spec: {containers: [{name: istio-proxy, image: p}]}
"""


def _wasm(more: str) -> str:
    return f"""
---
kind: WasmPlugin
metadata: {{name: plugin}}
spec: {{url: "oci://x", {more}}}
"""


_GATEWAYS = cases(
    "IST0166",
    {"text": _policy(_SELECTED) + _GATEWAY_POD, "finds": _POLICY},
    {"text": _policy(_SELECTED) + _PROXIED},
    {"text": _policy("action: DENY") + _GATEWAY_POD},
    {"text": _wasm(_SELECTED) + _GATEWAY_POD, "finds": ("WasmPlugin plugin",)},
    {
        "text": _wasm("targetRef: {group: gateway.networking.k8s.io, kind: Gateway, name: gate}")
        + _GATEWAY_POD
    },
)

_ISTIOD = """
---
kind: Deployment
metadata: {name: istiod, labels: {app: istiod}}
spec: {template: {spec: {containers: [{name: discovery, image: pilot%s}]}}}
"""
_TOKENS = """
---
kind: RequestAuthentication
metadata: {name: tokens}
spec: {jwtRules: [{issuer: me}]}
"""
_BLOCKED = ", env: [{name: BLOCKED_CIDRS_IN_JWKS_URIS, value: 10.0.0.0/8}]"
_FETCHES = cases(
    "IST0175",
    {"text": _ISTIOD % "" + _TOKENS, "finds": ("Deployment istiod",)},
    {"text": _ISTIOD % _BLOCKED + _TOKENS},
    {"text": _ISTIOD.replace("app: istiod", "app: other") % "" + _TOKENS},
)


def _entry(name: str, protocol: str, more: str = "", host: str = "HERE.example.org") -> str:
    return f"""
---
kind: ServiceEntry
metadata: {{name: {name}}}
spec: {{hosts: [{host}], ports: [{{number: 9000, name: p, protocol: {protocol}}}], {more}}}
"""


_ENTRY = ("ServiceEntry one",)
_BOTH = ("ServiceEntry one", "ServiceEntry two")
_ENTRIES = [
    *cases(
        "IST0134",
        {"text": _entry("one", "TCP"), "finds": _ENTRY},
        {"text": _entry("one", "tcp"), "finds": _ENTRY},
        {"text": _entry("one", "HTTP")},
        {"text": _entry("one", "TCP", "addresses: [240.0.0.1], resolution: DNS")},
        {
            "text": _entry("one", "TCP", "resolution: DNS")
            + "status: {addresses: [{value: 240.240.0.1}]}"
        },
        {"text": _entry("one", "TCP"), "world": "settings"},
    ),
    *cases(
        "IST0177",
        {"text": _entry("one", "HTTP") + _entry("two", "TLS"), "finds": _BOTH},
        {"text": _entry("one", "HTTP") + _entry("two", "http")},
        {"text": _entry("one", "HTTP") + _entry("two", "TLS", host="other.HERE.example.org")},
        {
            "text": _entry("one", "HTTP", "exportTo: [.]") + _entry("two", "TLS"),
            "finds": _BOTH,
        },
        {
            "text": _entry("one", "HTTP", "exportTo: [x]") + _entry("two", "TLS", "exportTo: [y]"),
        },
        {
            "text": _entry("one", "HTTP", "exportTo: [x]")
            + _entry("two", "TLS", "exportTo: [y, x]"),
            "finds": _BOTH,
        },
    ),
]


def _condition(kind: str, status: str, reason: str = "Why") -> str:
    return (
        f"{{type: {kind}, status: '{status}', reason: {reason}, message: m, "
        "lastTransitionTime: '2025-01-01T00:00:00Z'}"
    )


def _route(kind: str, condition: str) -> str:
    return f"""
apiVersion: gateway.networking.k8s.io/v1
kind: {kind}
metadata: {{name: route}}
spec: {{parentRefs: [{{name: gate}}]}}
status:
  parents:
  - controllerName: example.com/controller
    parentRef: {{name: gate}}
    conditions: [{condition}]
"""


def _gateway(condition: str) -> str:
    return f"""
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: gate}}
spec: {{gatewayClassName: c, listeners: [{{name: http, port: 80, protocol: HTTP}}]}}
status: {{conditions: [{condition}]}}
"""


def _bound(status: str) -> str:
    return f"""
kind: Service
metadata: {{name: reviews}}
spec: {{ports: [{{port: 80, name: http}}]}}
status: {{conditions: [{_condition("istio.io/WaypointBound", status)}]}}
"""


def _accepted(condition: str) -> str:
    return _policy("action: DENY") + f"status: {{conditions: [{condition}]}}" + _PROXIED


_CONDITIONS = cases(
    "IST0171",
    {"text": _gateway(_condition("Programmed", "False")), "finds": ("Gateway gate",)},
    {"text": _gateway(_condition("Programmed", "True"))},
    {"text": _gateway(_condition("Conflicted", "False"))},
    {"text": _route("HTTPRoute", _condition("Accepted", "False")), "finds": ("HTTPRoute route",)},
    {"text": _route("HTTPRoute", _condition("Accepted", "True"))},
    {
        "text": _route("GRPCRoute", _condition("ResolvedRefs", "False")),
        "finds": ("GRPCRoute route",),
    },
    {"text": _bound("False"), "finds": ("Service reviews",)},
    {"text": _bound("True")},
    {"text": _accepted(_condition("ZtunnelAccepted", "False")), "finds": _POLICY},
    {
        "text": _accepted(_condition("WaypointAccepted", "True", "PartiallyInvalid")),
        "finds": _POLICY,
    },
    {"text": _accepted(_condition("WaypointAccepted", "True"))},
)

CASES: list[Case] = [*(_EFFECTIVE + _NAMESPACES + _GATEWAYS + _FETCHES + _ENTRIES + _CONDITIONS)]
