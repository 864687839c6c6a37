"""DestinationRules."""

from __future__ import annotations

from tests.unit.topology.analysis.ist.worlds import Case, cases

_SERVICE = """
---
kind: Service
metadata: {name: reviews}
spec: {ports: [{port: 80, name: http}]}
"""
_POD = """
---
kind: Pod
metadata: {name: reviews, labels: {app: HERE, version: HERE-v1}}
"""
_RULE = ("DestinationRule reviews",)


def _rule(more: str, host: str = "reviews") -> str:
    return f"""
kind: DestinationRule
metadata: {{name: reviews}}
spec: {{host: {host}, {more}}}
{_SERVICE}"""


def _tls(tls: str, more: str = "") -> str:
    return _rule(f"trafficPolicy: {{tls: {{{tls}}}}}, {more}")


def _port_tls(tls: str, more: str = "") -> str:
    settings = f"portLevelSettings: [{{port: {{number: 80}}, tls: {{{tls}}}}}]"
    return _rule(f"trafficPolicy: {{{settings}}}, {more}")


_SELECTED = "workloadSelector: {matchLabels: {app: x}}"
_MUTUAL = "mode: MUTUAL, clientCertificate: /c, privateKey: /k"
_VERIFIED = cases(
    "IST0128",
    {"text": _tls("mode: SIMPLE"), "finds": _RULE},
    {"text": _tls(_MUTUAL), "finds": _RULE},
    {"text": _tls("mode: SIMPLE, caCertificates: /ca")},
    {"text": _tls("mode: ISTIO_MUTUAL")},
    {"text": _tls("mode: SIMPLE, credentialName: ca", _SELECTED)},
    {"text": _tls("mode: SIMPLE, credentialName: ca"), "finds": _RULE},
)
_PORT_VERIFIED = cases(
    "IST0129",
    {"text": _port_tls("mode: SIMPLE"), "finds": _RULE},
    {"text": _port_tls("mode: SIMPLE, caCertificates: /ca")},
    {"text": _port_tls("mode: DISABLE")},
    {"text": _port_tls("mode: SIMPLE, credentialName: ca", _SELECTED)},
)
_SUBSETS = cases(
    "IST0173",
    {"text": _rule("subsets: [{name: v2, labels: {version: HERE-v2}}]") + _POD, "finds": _RULE},
    {"text": _rule("subsets: [{name: v1, labels: {version: HERE-v1}}]") + _POD},
    {
        "text": _rule("subsets: [{name: v1, labels: {version: HERE-v1, app: other}}]") + _POD,
        "finds": _RULE,
    },
    {"text": _rule("subsets: [{name: all}]") + _POD},
    {
        "text": """
kind: DestinationRule
metadata: {name: reviews}
spec: {host: HERE.example.org, subsets: [{name: v1, labels: {version: HERE-v1}}]}
---
kind: ServiceEntry
metadata: {name: out}
spec:
  hosts: [HERE.example.org]
  ports: [{number: 80, name: http, protocol: HTTP}]
  resolution: STATIC
  workloadSelector: {labels: {app: HERE-other}}
"""
        + _POD,
        "finds": _RULE,
    },
    {
        "text": _rule("subsets: [{name: near, labels: {topology.kubernetes.io/zone: near}}]"),
        "istioctl": _RULE,
        "because": "ours watches no nodes, so it says nothing of a subset by a node's place",
    },
)
_HOSTS = cases(
    "IST0174",
    {"text": _rule("subsets: []", "gone"), "finds": _RULE},
    {"text": _rule("subsets: []")},
    {"text": _rule("subsets: []", "reviews.HERE.svc.cluster.local")},
    {"text": _rule("subsets: []", "reviews.elsewhere.svc.cluster.local"), "finds": _RULE},
    {"text": _rule("subsets: []", '"*.HERE.svc.cluster.local"'), "finds": _RULE},
)

CASES: list[Case] = [*_VERIFIED, *_PORT_VERIFIED, *_SUBSETS, *_HOSTS]
