"""Former names of Envoy's filters, with their current names.

Facts from Envoy's release notes: 1.14 renamed the filters, later versions removed some.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

_HTTP = (
    *("buffer", "cors", "csrf", "ext_authz", "fault", "grpc_http1_bridge", "grpc_json_transcoder"),
    *("grpc_web", "gzip", "health_check", "ip_tagging", "lua", "router"),
)
_NETWORK = (
    *("client_ssl_auth", "echo", "http_connection_manager", "mongo_proxy", "ratelimit"),
    *("redis_proxy", "tcp_proxy"),
)
_LISTENER = ("http_inspector", "original_dst", "original_src", "proxy_protocol", "tls_inspector")

FORMER_NAMES: Mapping[str, str] = MappingProxyType(
    {f"envoy.{name}": f"envoy.filters.http.{name}" for name in _HTTP}
    | {f"envoy.{name}": f"envoy.filters.network.{name}" for name in _NETWORK}
    | {f"envoy.listener.{name}": f"envoy.filters.listener.{name}" for name in _LISTENER}
    | {
        "envoy.http_dynamo_filter": "envoy.filters.http.dynamo",
        "envoy.rate_limit": "envoy.filters.http.ratelimit",
    }
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
"""Name to remedy."""

# Istio's own types start with `istio.` and keep their v2alpha1.
_FORMER_TYPE = re.compile(
    r"type\.googleapis\.com/envoy\.(api\.v2\.|[\w.]+\.v[12](alpha\d*)?\.\w+\Z)"
)


def current_name(former: str, *, type_url: str) -> str:
    """Today's name of a filter with a former name; its type decides between two filters."""
    name = FORMER_NAMES[former]
    if former in _TWOFOLD and ".filters." in type_url:
        sort = type_url.partition(".filters.")[2].partition(".")[0]
        return f"envoy.filters.{sort}.{name.rpartition('.')[2]}"
    return name


def is_former_type(url: str) -> bool:
    """Whether a type URL is of Envoy's v2 API."""
    return _FORMER_TYPE.match(url) is not None
