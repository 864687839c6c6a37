"""Services, Deployments and webhooks."""

from __future__ import annotations

from tests.unit.topology.analysis.ist.worlds import Case, cases

_ENABLED = "istio-injection: enabled"


def _service(ports: str, more: str = "", labels: str = "") -> str:
    return f"""
---
kind: Service
metadata: {{name: reviews, labels: {{{labels}}}}}
spec: {{ports: [{ports}]{more}}}
"""


def _deployment(template: str = "", metadata: str = "") -> str:
    return f"""
---
kind: Deployment
metadata: {{name: app{metadata}}}
spec: {{template: {{{template}}}}}
"""


_SERVICE = ("Service reviews",)
_EXTERNAL = ", type: ExternalName, externalName: example.org"
_NAMES = [
    *cases(
        "IST0118",
        {"text": _service("{port: 8080, name: web}"), "finds": _SERVICE},
        {"text": _service("{port: 8080}"), "finds": _SERVICE},
        {"text": _service("{port: 8080, name: http-web}")},
        {"text": _service("{port: 8080, name: web, appProtocol: http}")},
        {"text": _service("{port: 8080, name: http, appProtocol: odd}"), "finds": _SERVICE},
        {"text": _service("{port: 8080, name: web, appProtocol: kubernetes.io/h2c}")},
        {"text": _service("{port: 8080, name: grpc-web-x}")},
        {"text": _service("{port: 8080, name: grpc-webx}")},
        {"text": _service("{port: 8080, name: web, protocol: UDP}")},
        {"text": _service("{port: 3306, name: db}")},
        {"text": _service("{port: 8080, name: web}", labels="istio: x")},
        {"text": _service("{port: 8080, name: web}", labels="release: istio")},
        {
            "text": _service(
                "{port: 8080, name: web}",
                labels="gateway.istio.io/managed: istio.io-gateway-controller",
            )
        },
    ),
    *cases(
        "IST0150",
        {"text": _service("{port: 8080, name: tcp}", _EXTERNAL), "finds": _SERVICE},
        {"text": _service("{port: 8080, name: web}", _EXTERNAL), "finds": _SERVICE},
        {"text": _service("{port: 8080, name: tcp-web}", _EXTERNAL)},
        {"text": _service("{port: 8080, name: http}", _EXTERNAL)},
        {"text": _service("{port: 8080, name: tcp}")},
    ),
]

_PROXY = "{name: istio-proxy, image: '%s'}"


def _ports(*services: str) -> str:
    """Services of one workload."""
    return _deployment("metadata: {labels: {app: HERE, version: v1}}") + "".join(
        f"""
---
kind: Service
metadata: {{name: s{index}}}
spec: {{selector: {{app: HERE}}, ports: [{ports}]}}
"""
        for index, ports in enumerate(services)
    )


_WEB = "{port: 80, name: http, targetPort: 8080}"
_APP = ("Deployment app",)
_UDP = "{port: 80, name: udp, targetPort: 81, protocol: UDP}"
_DEPLOYMENTS = [
    *cases(
        "IST0116",
        {"text": _ports(_WEB, _UDP), "labels": _ENABLED, "finds": _APP},
        {"text": _ports(_WEB, _UDP)},
        {"text": _ports(_WEB, _WEB), "labels": _ENABLED},
        {
            "text": _ports(_WEB, _UDP).replace(
                "{name: app}",
                "{name: app, labels: {gateway.istio.io/managed: istio.io-mesh-controller}}",
            ),
            "labels": _ENABLED,
        },
    ),
    *cases(
        "IST0137",
        {
            "text": _ports(_WEB, "{port: 81, name: http, targetPort: 8080}"),
            "labels": _ENABLED,
            "finds": _APP,
        },
        {"text": _ports(_WEB, "{port: 81, name: http, targetPort: 8081}"), "labels": _ENABLED},
        {
            "text": _ports(f"{_WEB}, {{port: 81, name: http-b, targetPort: 8080}}"),
            "labels": _ENABLED,
            "finds": _APP,
        },
        {
            "text": _ports(_WEB, "{port: 8080, name: http}"),
            "labels": _ENABLED,
            "finds": _APP,
        },
        {
            "text": _ports(_WEB, "{port: 81, name: http, targetPort: 8080}").replace(
                "labels: {app: HERE", "labels: {sidecar.istio.io/inject: 'false', app: HERE"
            ),
            "labels": _ENABLED,
        },
    ),
]

_AUTO = f"spec: {{containers: [{_PROXY % 'auto'}]}}"


def _webhook(name: str, selector: str, service: str) -> str:
    return f"""
---
kind: MutatingWebhookConfiguration
metadata: {{name: {name}}}
webhooks:
- name: injector.istio.io
  namespaceSelector: {selector}
  clientConfig: {{service: {{name: {service}, namespace: HERE}}}}
"""


_ISTIOD = """
---
kind: Service
metadata: {name: istiod}
spec: {ports: [{port: 443, name: https}]}
"""
_FOR = "{matchLabels: {istio.io/rev: HERE}}"
_FOR_SEVERAL = "{matchExpressions: [{key: istio.io/rev, operator: In, values: [HERE, HERE-b]}]}"
_NOT = (
    "{matchExpressions: [{key: istio.io/rev, operator: In, values: [HERE]}, "
    "{key: istio-injection, operator: DoesNotExist}]}"
)
_WEBHOOKS = [
    *cases(
        "IST0139",
        {
            "text": _webhook("HERE", _FOR, "istiod"),
            "finds": ("MutatingWebhookConfiguration HERE",),
        },
        {"text": _webhook("HERE", _FOR, "istiod") + _ISTIOD},
        {
            "text": _webhook("HERE", _FOR, "istiod")
            + _webhook("HERE-b", _FOR_SEVERAL, "istiod")
            + _ISTIOD,
            "finds": (
                "MutatingWebhookConfiguration HERE",
                "MutatingWebhookConfiguration HERE-b",
            ),
        },
        {
            "text": _webhook("HERE", _NOT, "istiod")
            + _webhook("HERE-b", _FOR.replace("HERE", "HERE-b"), "istiod")
            + _ISTIOD
        },
    ),
    *cases(
        "IST0146",
        {"text": _deployment(_AUTO), "finds": _APP},
        {
            "text": _deployment(_AUTO) + _webhook("HERE", _FOR, "istiod") + _ISTIOD,
            "labels": "istio.io/rev: ist0146-2",
        },
        {
            "text": _deployment(_AUTO) + _webhook("HERE", _FOR, "istiod") + _ISTIOD,
            "labels": "istio.io/rev: other",
            "finds": _APP,
        },
        {"text": _deployment()},
    ),
]

CASES: list[Case] = [*_NAMES, *_DEPLOYMENTS, *_WEBHOOKS]
