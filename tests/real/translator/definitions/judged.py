"""Objects that somebody could write, right and wrong, to be judged by us and by an API server."""

from __future__ import annotations

from typing import Any

from services.chassis.kube.objects import KubeObject

NETWORKING = "networking.istio.io/v1"
SECURITY = "security.istio.io/v1"
ROUTES = "gateway.networking.k8s.io/v1"


def made(api_version: str, kind: str, spec: Any) -> KubeObject:
    metadata = {"name": "a", "namespace": "default"}
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata, "spec": spec}


def virtual_service(**route: Any) -> KubeObject:
    return made(NETWORKING, "VirtualService", {"hosts": ["a"], "http": [route]})


def destination_rule(**policy: Any) -> KubeObject:
    return made(NETWORKING, "DestinationRule", {"host": "a", "trafficPolicy": policy})


def authorization(**spec: Any) -> KubeObject:
    return made(SECURITY, "AuthorizationPolicy", spec)


def service_entry(**spec: Any) -> KubeObject:
    return made(NETWORKING, "ServiceEntry", {"hosts": ["a.example"], **spec})


def labelled(**labels: Any) -> KubeObject:
    obj = virtual_service()
    return {**obj, "metadata": {**obj["metadata"], "labels": labels}}


def http_route(*rules: Any, **spec: Any) -> KubeObject:
    return made(ROUTES, "HTTPRoute", {**({"rules": list(rules)} if rules else {}), **spec})


def path(value: str, kind: str = "PathPrefix") -> dict[str, Any]:
    return {"matches": [{"path": {"type": kind, "value": value}}]}


def gateway(*listeners: Any, **spec: Any) -> KubeObject:
    named = [{"name": f"l{place}", **given} for place, given in enumerate(listeners)]
    return made(ROUTES, "Gateway", {"gatewayClassName": "istio", "listeners": named, **spec})


HTTP = {"port": 80, "protocol": "HTTP"}
TO_A = {"destination": {"host": "a"}}
JWT = {"issuer": "a"}

# What is wrong with each, or "" for those that are right, by a word of our findings.
OBJECTS: dict[str, tuple[KubeObject, str]] = {
    "routes": (virtual_service(route=[TO_A], timeout="5s"), ""),
    "a misspelt field": (virtual_service(route=[TO_A], retires={}), "unknown field `retires`"),
    "text for a number": (
        virtual_service(route=[{**TO_A, "weight": "10"}]),
        "must be a whole number",
    ),
    "a number with a point": (virtual_service(route=[{**TO_A, "weight": 10.0}]), ""),
    "a fraction": (virtual_service(route=[{**TO_A, "weight": 0.5}]), "must be a whole number"),
    "more than 32 bits": (virtual_service(route=[{**TO_A, "weight": 2**31}]), "at most 2147483647"),
    "no destination": (virtual_service(route=[{"weight": 1}]), "is required"),
    "null for a list": (virtual_service(route=None), "not null"),
    "null for an object": (made(NETWORKING, "VirtualService", None), "not null"),
    "null for a mapping's entry": (
        virtual_service(headers={"request": {"set": {"a": None}}}),
        "not null",
    ),
    "exact and prefix": (
        virtual_service(match=[{"uri": {"exact": "/", "prefix": "/"}}]),
        "only one of exact, prefix, regex can stand here",
    ),
    "neither exact nor prefix": (virtual_service(match=[{"uri": {}}]), ""),
    "delay and abort": (
        virtual_service(fault={"delay": {"fixedDelay": "1s"}, "abort": {"httpStatus": 500}}),
        "",
    ),
    "a word for a duration": (virtual_service(timeout="soon"), "must be a valid duration"),
    "a duration without a unit": (virtual_service(timeout="5"), "must be a valid duration"),
    "a short duration": (virtual_service(timeout="999us"), "must be a valid duration"),
    "a duration in Greek": (virtual_service(timeout="1000µs"), ""),
    "a duration beyond all": (virtual_service(timeout="9999999999h"), "must be a valid duration"),
    "a fraction of an hour": (virtual_service(timeout="0.5h3m"), ""),
    "days": (virtual_service(timeout="1d"), "must be a valid duration"),
    "two load balancers": (
        destination_rule(loadBalancer={"simple": "RANDOM", "consistentHash": {"maglev": {}}}),
        "only one of simple, consistentHash",
    ),
    "two hashes of each kind": (
        destination_rule(
            loadBalancer={
                "consistentHash": {
                    "useSourceIp": True,
                    "httpHeaderName": "a",
                    "maglev": {},
                    "ringHash": {},
                }
            }
        ),
        "only one of ringHash, maglev",
    ),
    "an unknown word": (destination_rule(tls={"mode": "simple"}), "must be one of"),
    "null that is allowed": (destination_rule(outlierDetection={"consecutive5xxErrors": None}), ""),
    "null for a word": (destination_rule(tls={"mode": None}), "not null"),
    "anything in a Struct": (
        made(
            "networking.istio.io/v1alpha3",
            "EnvoyFilter",
            {"configPatches": [{"patch": {"value": {"a": [None, {"b": 1}]}}}]},
        ),
        "",
    ),
    "selector and target": (
        authorization(
            selector={"matchLabels": {"a": "b"}}, targetRefs=[{"kind": "Service", "name": "a"}]
        ),
        "only one of targetRefs or selector",
    ),
    "a wildcard in a label": (
        authorization(selector={"matchLabels": {"a": "b*"}}),
        "wildcard not allowed in label value",
    ),
    "a wildcard in a label's key": (
        authorization(selector={"matchLabels": {"*": "b"}}),
        "wildcard not allowed in label key",
    ),
    "a target in another namespace": (
        authorization(targetRefs=[{"kind": "Service", "name": "a", "namespace": "b"}]),
        "cross namespace",
    ),
    "accounts beside principals": (
        authorization(
            rules=[{"from": [{"source": {"serviceAccounts": ["a"], "principals": ["b"]}}]}]
        ),
        "Cannot set serviceAccounts",
    ),
    "ports as numbers": (
        authorization(rules=[{"to": [{"operation": {"ports": [80]}}]}]),
        "must be text",
    ),
    "mTLS of ports without a selector": (
        made(SECURITY, "PeerAuthentication", {"portLevelMtls": {"80": {"mode": "DISABLE"}}}),
        "portLevelMtls requires selector",
    ),
    "a port of a word": (
        made(
            SECURITY,
            "PeerAuthentication",
            {
                "selector": {"matchLabels": {"a": "b"}},
                "portLevelMtls": {"http": {"mode": "DISABLE"}},
            },
        ),
        "port must be between 1-65535",
    ),
    "no URL": (
        made(SECURITY, "RequestAuthentication", {"jwtRules": [{**JWT, "jwksUri": "a/b"}]}),
        "url must have scheme",
    ),
    "a URL of another scheme": (
        made(SECURITY, "RequestAuthentication", {"jwtRules": [{**JWT, "jwksUri": "ftp://a"}]}),
        "url must have scheme",
    ),
    "a URL": (
        made(SECURITY, "RequestAuthentication", {"jwtRules": [{**JWT, "jwksUri": "https://a/b"}]}),
        "",
    ),
    "two sources of keys": (
        made(
            SECURITY,
            "RequestAuthentication",
            {"jwtRules": [{**JWT, "jwksUri": "https://a", "jwks": "{}"}]},
        ),
        "only one of jwks or jwksUri",
    ),
    "an image without a scheme": (
        made(
            "extensions.istio.io/v1alpha1",
            "WasmPlugin",
            {"url": "registry.example/image:tag"},
        ),
        "",
    ),
    "an image of an unknown scheme": (
        made("extensions.istio.io/v1alpha1", "WasmPlugin", {"url": "gopher://a/b"}),
        "url must have schema",
    ),
    "a port twice": (
        service_entry(ports=[{"name": "a", "number": 80}, {"name": "b", "number": 80}]),
        "port number cannot be duplicated",
    ),
    "a port's name twice": (
        service_entry(ports=[{"name": "a", "number": 80}, {"name": "a", "number": 81}]),
        "has the same name as item 0",
    ),
    "a port with a point": (service_entry(ports=[{"name": "a", "number": 80.0}]), ""),
    "a port of 0": (service_entry(ports=[{"name": "a", "number": 0}]), "port must be between"),
    "all hosts": (service_entry(hosts=["*"]), "hostname cannot be wildcard"),
    "endpoints that are not resolved": (
        service_entry(endpoints=[{"address": "1.2.3.4"}]),
        "NONE mode cannot set endpoints",
    ),
    "a relative socket": (
        service_entry(resolution="STATIC", endpoints=[{"address": "unix://a"}]),
        "UDS must be an absolute path",
    ),
    "an abstract socket": (
        service_entry(resolution="STATIC", endpoints=[{"address": "unix://@ä"}]),
        "",
    ),
    "a label that is a number": (labelled(version=1), "must be text"),
    "a label with a space": (labelled(version="a b"), "must match the pattern"),
    "a label of nothing": (labelled(version=""), ""),
    "a label of null": (labelled(version=None), ""),
    "misspelt metadata": (
        {**virtual_service(), "metadata": {"name": "a", "namespace": "default", "label": {}}},
        "unknown field `label`",
    ),
    "a field of another kind": ({**virtual_service(), "data": {}}, "unknown field `data`"),
    "an HTTP route": (
        http_route(
            {**path("/a"), "backendRefs": [{"name": "a", "port": 80}]},
            parentRefs=[{"name": "a"}],
        ),
        "",
    ),
    "a backend without a port": (
        http_route({"backendRefs": [{"name": "a"}]}),
        "Must have port for Service reference",
    ),
    "a default that is null": (
        http_route({"backendRefs": [{"name": "a", "port": 80, "weight": None}]}),
        "",
    ),
    "a relative path": (http_route(path("a")), "must be an absolute path"),
    "an empty part of a path": (http_route(path("/a//b")), "must not contain '//'"),
    "a letter that no path has": (http_route(path("/ä")), "must only contain valid characters"),
    "any expression as a path": (http_route(path("ä//", "RegularExpression")), ""),
    "a filter without its settings": (
        http_route({"filters": [{"type": "URLRewrite"}]}),
        "filter.urlRewrite must be specified",
    ),
    "settings of another filter": (
        http_route({"filters": [{"type": "URLRewrite", "urlRewrite": {}, "requestMirror": {}}]}),
        "is required",
    ),
    "a redirect with a backend": (
        http_route(
            {
                "filters": [{"type": "RequestRedirect", "requestRedirect": {"port": 80}}],
                "backendRefs": [{"name": "a", "port": 80}],
            }
        ),
        "must not be used together with backendRefs",
    ),
    "two parents without a section": (
        http_route(parentRefs=[{"name": "a"}, {"name": "a"}]),
        "sectionName must be unique",
    ),
    "two parents in two namespaces": (
        http_route(parentRefs=[{"name": "a"}, {"name": "a", "namespace": "b"}]),
        "",
    ),
    "timeouts the wrong way round": (
        http_route({"timeouts": {"request": "1s", "backendRequest": "2s"}}),
        "backendRequest timeout cannot be longer",
    ),
    "a Gateway": (gateway(HTTP, {"port": 443, "protocol": "HTTP"}), ""),
    "a listener twice": (gateway(HTTP, HTTP), "Combination of port, protocol and hostname"),
    "TLS without a mode": (gateway({"port": 443, "protocol": "TLS"}), "tls mode must be set"),
    "certificates that are missing": (
        gateway({"port": 443, "protocol": "HTTPS", "tls": {}}),
        "certificateRefs or options must be specified",
    ),
    "an address by default": (gateway(HTTP, addresses=[{"value": "10.0.0.1"}]), ""),
    "no address": (gateway(HTTP, addresses=[{"value": "a"}]), "must be an IPv4 address or"),
    "a name for an address": (
        gateway(HTTP, addresses=[{"type": "Hostname", "value": "a.example"}]),
        "",
    ),
    "an address for a name": (
        made(ROUTES, "TLSRoute", {"hostnames": ["10.0.0.1"], "rules": [{"backendRefs": []}]}),
        "must not be empty",
    ),
    "an IP for a host": (
        made(
            ROUTES,
            "TLSRoute",
            {
                "hostnames": ["10.0.0.1"],
                "parentRefs": [{"name": "a"}],
                "rules": [{"backendRefs": [{"name": "a", "port": 80}]}],
            },
        ),
        "Hostnames cannot contain an IP",
    ),
}
