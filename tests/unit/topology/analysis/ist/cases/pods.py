"""Namespaces and pods: injection, and what injected pods run."""

from __future__ import annotations

from tests.unit.topology.analysis.ist.worlds import Case, cases

_ENABLED = "istio-injection: enabled"


def _pod(spec: str = "", metadata: str = "") -> str:
    return f"""
---
kind: Pod
metadata: {{name: app{metadata}}}
spec: {{{spec}}}
"""


def _deployment(template: str = "", metadata: str = "") -> str:
    return f"""
---
kind: Deployment
metadata: {{name: app{metadata}}}
spec: {{template: {{{template}}}}}
"""


_OWN = ("Namespace HERE",)
_LABELS = [
    *cases(
        "IST0102",
        {"text": "", "labels": "", "finds": _OWN},
        {"text": "", "labels": _ENABLED},
        {"text": ""},
        {"text": "", "labels": "istio.io/rev: canary"},
        {"text": "", "labels": "istio.io/dataplane-mode: ambient"},
        {"text": "", "labels": "istio.io/dataplane-mode: none", "finds": _OWN},
    ),
    *cases(
        "IST0123",
        {
            "text": "",
            "labels": "{istio-injection: enabled, istio.io/rev: canary}",
            "finds": _OWN,
        },
        {
            "text": "",
            "labels": "{istio.io/dataplane-mode: ambient, istio.io/rev: canary}",
            "finds": _OWN,
        },
        {"text": "", "labels": "{istio-injection: disabled, istio.io/rev: canary}"},
        {"text": "", "labels": _ENABLED},
    ),
    *cases(
        "IST0148",
        {"text": "", "labels": "", "world": "injected by default", "finds": _OWN},
        {"text": "", "world": "injected by default"},
    ),
]

_POD = ("Pod app",)
_PROXY = "{name: istio-proxy, image: '%s'}"
_IMAGE = "docker.io/istio/proxyv2:1.31.0"
_PODS = [
    *cases(
        "IST0103",
        {"text": _pod(), "labels": _ENABLED, "finds": _POD},
        {"text": _pod()},
        {"text": _pod(f"containers: [{_PROXY % _IMAGE}]"), "labels": _ENABLED},
        {
            "text": _pod(f"initContainers: [{_PROXY % _IMAGE}]"),
            "labels": _ENABLED,
        },
        {"text": _pod("hostNetwork: true"), "labels": _ENABLED},
        {
            "text": _pod(metadata=", labels: {sidecar.istio.io/inject: 'false'}"),
            "labels": _ENABLED,
        },
        {
            "text": _pod(metadata=", annotations: {sidecar.istio.io/inject: 'false'}"),
            "labels": _ENABLED,
        },
        {
            "text": _pod(
                metadata=", labels: {sidecar.istio.io/inject: 'true'}"
                ", annotations: {sidecar.istio.io/inject: 'false'}"
            ),
            "labels": _ENABLED,
            "finds": _POD,
        },
    ),
    *cases(
        "IST0144",
        {"text": _pod("securityContext: {runAsUser: 1337}"), "finds": _POD},
        {"text": _pod("securityContext: {runAsUser: 1000}")},
        {
            "text": _pod(
                "containers: [{name: app, image: app, securityContext: {runAsUser: 1337}}]"
            ),
            "finds": _POD,
        },
        {
            "text": _pod(
                "containers: [{name: istio-proxy, image: p, securityContext: {runAsUser: 1337}}]"
            ),
        },
        {
            "text": _deployment("spec: {securityContext: {runAsUser: 1337}}"),
            "finds": ("Deployment app",),
        },
        {
            "text": _deployment(
                "spec: {securityContext: {runAsUser: 1337}}", ", labels: {istio: x}"
            ),
        },
    ),
    *cases(
        "IST0147",
        {
            "text": _pod(f"containers: [{_PROXY % 'auto'}]"),
            "labels": _ENABLED,
            "finds": _POD,
        },
        {"text": _pod(f"containers: [{_PROXY % _IMAGE}]"), "labels": _ENABLED},
    ),
    *cases(
        "IST0158",
        {
            "text": _pod(f"containers: [{_PROXY % 'docker.io/istio/proxyv2:1.30.0'}]"),
            "labels": _ENABLED,
            "finds": _OWN,
        },
        {"text": _pod(f"containers: [{_PROXY % _IMAGE}]"), "labels": _ENABLED},
        {"text": _pod(f"containers: [{_PROXY % 'docker.io/istio/proxyv2:1.30.0'}]")},
        {
            "text": _pod(
                f"containers: [{_PROXY % 'other'}]",
                ", annotations: {sidecar.istio.io/proxyImage: other}",
            ),
            "labels": _ENABLED,
        },
        {
            "text": _pod(f"containers: [{_PROXY % 'other'}]"),
            "labels": "istio.io/rev: default",
            "finds": _OWN,
        },
        {
            "text": _pod(f"containers: [{_PROXY % 'other'}]"),
            "labels": "istio.io/rev: unknown",
        },
        {
            "text": _pod(f"containers: [{_PROXY % (_IMAGE + '-distroless')}]"),
            "labels": _ENABLED,
            "world": "settings",
        },
        {
            "text": _pod(f"containers: [{_PROXY % (_IMAGE + '-debug')}]")
            + """
---
kind: ProxyConfig
metadata: {name: debug}
spec: {image: {imageType: debug}, selector: {matchLabels: {app: HERE}}}
""",
            "labels": _ENABLED,
            "finds": _OWN,
        },
        {
            "text": _pod(f"containers: [{_PROXY % (_IMAGE + '-debug')}]")
            + """
---
kind: ProxyConfig
metadata: {name: debug}
spec: {image: {imageType: debug}}
""",
            "labels": _ENABLED,
        },
        {
            "text": _pod(
                f"containers: [{_PROXY % (_IMAGE + '-debug')}]",
                ", annotations: {proxy.istio.io/config: 'image: {imageType: debug}'}",
            ),
            "labels": _ENABLED,
        },
    ),
]


CASES: list[Case] = [*_LABELS, *_PODS]
