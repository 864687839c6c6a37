"""VirtualServices: what they name."""

from __future__ import annotations

from tests.unit.topology.analysis.ist.worlds import Case, cases

_REVIEWS = """
---
kind: Service
metadata: {name: reviews}
spec: {ports: [{port: 80, name: http}]}
"""
_TWO_PORTS = """
---
kind: Service
metadata: {name: reviews}
spec: {ports: [{port: 80, name: http}, {port: 81, name: http-more}]}
"""


def _to(destination: str, more: str = "") -> str:
    return f"""
kind: VirtualService
metadata: {{name: web}}
spec:
  hosts: [web.HERE.example.com]
  {more}
  http: [{{route: [{{destination: {{{destination}}}}}]}}]
"""


def _gateway(hosts: str, namespace: str = "HERE") -> str:
    return f"""
---
kind: Gateway
metadata: {{name: gate, namespace: {namespace}}}
spec:
  selector: {{app: HERE-gate}}
  servers: [{{port: {{number: 80, name: http, protocol: HTTP}}, hosts: [{hosts}]}}]
---
kind: Pod
metadata: {{name: gate, labels: {{app: HERE-gate}}}}
---
kind: Service
metadata: {{name: gate}}
spec: {{selector: {{app: HERE-gate}}, ports: [{{port: 80, name: http}}]}}
"""


_WEB = ("VirtualService web",)
_BEHIND = _to("host: reviews", "gateways: [gate]") + _REVIEWS


def _entry(host: str, more: str = "") -> str:
    return f"""
---
kind: ServiceEntry
metadata: {{name: out}}
spec: {{hosts: ["{host}"], ports: [{{number: 443, name: tls, protocol: TLS}}], {more}}}
"""


_FOUND = cases(
    "IST0101",
    {"name": "host-missing", "text": _to("host: reviews"), "finds": _WEB},
    {"name": "host-short", "text": _to("host: reviews") + _REVIEWS},
    {
        "name": "host-full",
        "text": _to("host: reviews.host-full.svc.cluster.local") + _REVIEWS,
    },
    {
        "name": "host-half",
        "text": _to("host: reviews.host-half.svc") + _REVIEWS,
        "finds": _WEB,
    },
    {"name": "host-outside", "text": _to("host: a.example.org") + _entry("a.example.org")},
    {
        "name": "host-wildcard",
        "text": _to("host: a.wild.example.org") + _entry("*.wild.example.org"),
    },
    {
        "name": "host-hidden",
        "text": _to("host: b.example.org") + _entry("b.example.org", "exportTo: [elsewhere]"),
        "finds": _WEB,
    },
    {
        "name": "host-service-hidden",
        "text": _to("host: reviews")
        + """
---
kind: Service
metadata: {name: reviews, annotations: {networking.istio.io/exportTo: elsewhere}}
spec: {ports: [{port: 80, name: http}]}
""",
        "finds": _WEB,
    },
    {
        "name": "host-service-own",
        "text": _to("host: reviews")
        + """
---
kind: Service
metadata: {name: reviews, annotations: {networking.istio.io/exportTo: "., elsewhere"}}
spec: {ports: [{port: 80, name: http}]}
""",
    },
    {
        "name": "host-of-kubernetes",
        "text": _to("host: host-of-kubernetes.kube-system.svc.cluster.local")
        + """
---
kind: Service
metadata: {name: host-of-kubernetes, namespace: kube-system}
spec: {ports: [{port: 80, name: http}]}
""",
        "istioctl": _WEB,
        "because": "istioctl does not read Kubernetes' own namespaces, so it misses kube-dns",
    },
    {
        "name": "port-missing",
        "text": _to("host: reviews, port: {number: 90}") + _REVIEWS,
        "finds": _WEB,
    },
    {"name": "port-there", "text": _to("host: reviews, port: {number: 80}") + _REVIEWS},
    {
        "name": "mirror-missing",
        "text": _to("host: reviews").replace("[{route", "[{mirror: {host: gone}, route") + _REVIEWS,
        "finds": _WEB,
    },
    {
        "name": "mirrors-missing",
        "text": _to("host: reviews").replace(
            "[{route", "[{mirrors: [{destination: {host: gone}}], route"
        )
        + _REVIEWS,
        "finds": _WEB,
    },
    {
        "name": "tcp-missing",
        "text": """
kind: VirtualService
metadata: {name: web}
spec: {hosts: [web.tcp-missing.io], tcp: [{route: [{destination: {host: gone}}]}]}
""",
        "finds": _WEB,
    },
    {
        "name": "subset-missing",
        "text": _to("host: reviews, subset: v9") + _REVIEWS,
        "finds": _WEB,
    },
    {
        "name": "subset-there",
        "text": _to("host: reviews, subset: v1")
        + _REVIEWS
        + """
---
kind: DestinationRule
metadata: {name: reviews}
spec:
  host: reviews.HERE.svc.cluster.local
  subsets: [{name: v1, labels: {app: HERE}}]
---
kind: Pod
metadata: {name: reviews, labels: {app: HERE}}
""",
    },
    {
        "name": "gateway-missing",
        "text": _to("host: reviews", "gateways: [gone]") + _REVIEWS,
        "finds": _WEB,
    },
    {"name": "gateway-there", "text": _BEHIND + _gateway('"*.example.com"')},
    {
        "name": "gateway-by-host",
        "text": _to("host: reviews", "gateways: [gate.HERE.svc.cluster.local]")
        + _REVIEWS
        + _gateway('"*.example.com"'),
        "istioctl": _WEB,
        "because": "istiod reads the old form, and istioctl's analysis does not",
        "more": ("IST0132",),
    },
    {
        "name": "revision-other",
        "text": _to("host: reviews").replace(
            "{name: web}", "{name: web, labels: {istio.io/rev: canary}}"
        ),
        "finds": _WEB,
        "istioctl": (),
        "because": "istioctl reads objects of one revision, `default` unless it is told another; "
        "ours looks at those of all",
    },
)
_PORTS = cases(
    "IST0112",
    {"text": _to("host: reviews") + _TWO_PORTS, "finds": _WEB},
    {"text": _to("host: reviews, port: {number: 81}") + _TWO_PORTS},
    {"text": _to("host: reviews") + _REVIEWS},
)
_SERVED = cases(
    "IST0132",
    {"text": _BEHIND + _gateway("other.example.com"), "finds": _WEB},
    {"text": _BEHIND + _gateway("web.HERE.example.com")},
    {"text": _BEHIND + _gateway("HERE/web.HERE.example.com")},
    {"text": _BEHIND + _gateway("./web.HERE.example.com")},
    {"text": _BEHIND + _gateway("elsewhere/web.HERE.example.com"), "finds": _WEB},
    {"text": _BEHIND + _gateway('"*/*"')},
    {
        "text": _to("host: reviews", "gateways: [HERE/gate, mesh]")
        + _REVIEWS
        + _gateway("web.HERE.example.com")
    },
)

_CLAIM = (
    """
kind: VirtualService
metadata: {name: web}
spec:
  hosts: [web.HERE.example.com]
  gateways: [gate]
  http:
  - match: [{headers: {"@request.auth.claims.sub": {exact: me}}}]
    route: [{destination: {host: reviews}}]
"""
    + _REVIEWS
    + _gateway("web.HERE.example.com")
)
_AUTHENTICATION = """
---
kind: RequestAuthentication
metadata: {name: tokens}
spec: {selector: {matchLabels: {app: HERE-%s}}, jwtRules: [{issuer: me}]}
"""
_CLAIMS = cases(
    "IST0149",
    {"text": _CLAIM, "finds": _WEB},
    {"text": _CLAIM + _AUTHENTICATION % "gate"},
    {"text": _CLAIM + _AUTHENTICATION % "other", "finds": _WEB},
    {"text": _CLAIM.replace("@request.auth.claims.sub", "x-sub")},
    {"text": _CLAIM.replace("claims.sub", "claims[sub][name]"), "finds": _WEB},
    {"text": _CLAIM.replace("headers:", "withoutHeaders:"), "finds": _WEB},
)
_INTERNAL = cases(
    "IST0165",
    {
        "text": _to("host: reviews", 'gateways: ["gw~istio-autogenerated-k8s-gateway~http"]')
        + _REVIEWS,
        "finds": _WEB,
    },
    {"text": _BEHIND + _gateway('"*"')},
)


CASES: list[Case] = [*_FOUND, *_PORTS, *_SERVED, *_CLAIMS, *_INTERNAL]
