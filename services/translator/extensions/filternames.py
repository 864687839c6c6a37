"""Names of Envoy's filters that are no more, with what they are called now.

Facts from Envoy's release notes: 1.14 renamed the filters, later versions removed some.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

_HTTP = {
    "envoy.buffer": "buffer",
    "envoy.cors": "cors",
    "envoy.csrf": "csrf",
    "envoy.ext_authz": "ext_authz",
    "envoy.fault": "fault",
    "envoy.grpc_http1_bridge": "grpc_http1_bridge",
    "envoy.grpc_json_transcoder": "grpc_json_transcoder",
    "envoy.grpc_web": "grpc_web",
    "envoy.gzip": "gzip",
    "envoy.health_check": "health_check",
    "envoy.http_dynamo_filter": "dynamo",
    "envoy.ip_tagging": "ip_tagging",
    "envoy.lua": "lua",
    "envoy.rate_limit": "ratelimit",
    "envoy.router": "router",
}
_NETWORK = {
    "envoy.client_ssl_auth": "client_ssl_auth",
    "envoy.echo": "echo",
    "envoy.http_connection_manager": "http_connection_manager",
    "envoy.mongo_proxy": "mongo_proxy",
    "envoy.ratelimit": "ratelimit",
    "envoy.redis_proxy": "redis_proxy",
    "envoy.tcp_proxy": "tcp_proxy",
}
_LISTENER = {
    "envoy.listener.http_inspector": "http_inspector",
    "envoy.listener.original_dst": "original_dst",
    "envoy.listener.original_src": "original_src",
    "envoy.listener.proxy_protocol": "proxy_protocol",
    "envoy.listener.tls_inspector": "tls_inspector",
}

FORMER_NAMES: Mapping[str, str] = MappingProxyType(
    {former: f"envoy.filters.http.{name}" for former, name in _HTTP.items()}
    | {former: f"envoy.filters.network.{name}" for former, name in _NETWORK.items()}
    | {former: f"envoy.filters.listener.{name}" for former, name in _LISTENER.items()}
)
"""Former name to today's."""

# Former names of which an HTTP and a network filter each had one that was used for the other too.
_TWOFOLD = frozenset({"envoy.ext_authz", "envoy.rate_limit", "envoy.ratelimit"})

GONE_FILTERS: Mapping[str, str] = MappingProxyType(
    {
        "istio_authn": "Istio checks tokens in envoy.filters.http.jwt_authn now",
        "mixer": "Istio 1.8 removed Mixer: use Telemetry, AuthorizationPolicy and WasmPlugin",
        "envoy.filters.http.squash": "Envoy removed it without a successor",
        "envoy.squash": "Envoy removed it without a successor",
    }
)
"""Name to what to do."""

# Istio's own types start with `istio.` and keep their v2alpha1.
_FORMER_TYPE = re.compile(
    r"type\.googleapis\.com/envoy\.(api\.v2\.|[\w.]+\.v[12](alpha\d*)?\.\w+\Z)"
)


def current_name(former: str, *, type_url: str) -> str:
    """Today's name of a filter that is given under a former one; its type settles which it is."""
    name = FORMER_NAMES[former]
    if former in _TWOFOLD and ".filters." in type_url:
        sort = type_url.partition(".filters.")[2].partition(".")[0]
        return f"envoy.filters.{sort}.{name.rpartition('.')[2]}"
    return name


def is_former_type(url: str) -> bool:
    """Whether a type's address is of Envoy's v2 API."""
    return _FORMER_TYPE.match(url) is not None
