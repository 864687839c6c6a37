"""Small pages of istiod and of an agent, in the form that their sources give them."""

from __future__ import annotations

import json
from typing import Any

_TYPES = {
    "CDS": "envoy.config.cluster.v3.Cluster",
    "LDS": "envoy.config.listener.v3.Listener",
    "EDS": "envoy.config.endpoint.v3.ClusterLoadAssignment",
    "RDS": "envoy.config.route.v3.RouteConfiguration",
    "ECDS": "envoy.config.core.v3.TypedExtensionConfig",
}
SENT_AT = "2026-11-24T12:00:00.123456789Z"


def status(
    sent: str = "n1", acked: str = "n1", error: str = "", *, at: str = SENT_AT
) -> dict[str, str]:
    """Of one type; what is empty is left out."""
    told = {"sent": sent, "acked": acked, "sentTime": at, "lastError": error}
    return {name: value for name, value in told.items() if value}


def proxy(pod: str = "web-0", namespace: str = "shop", **types: dict[str, str]) -> dict[str, Any]:
    """One proxy of syncz; without types all is well."""
    types = types or {short: status() for short in _TYPES}
    return {
        "cluster_id": "Kubernetes",
        "proxy": f"{pod}.{namespace}",
        "proxy_type": "sidecar",
        "istio_version": "1.31.0",
        "cluster_sent": types.get("CDS", {}).get("sent", ""),
        "cluster_acked": types.get("CDS", {}).get("acked", ""),
        "resources": {f"type.googleapis.com/{_TYPES[short]}": of for short, of in types.items()},
    }


def syncz(*proxies: dict[str, Any]) -> bytes:
    return json.dumps(proxies).encode()


METRICS = b"""\
# HELP istio_build Istio component build info
# TYPE istio_build gauge
istio_build{component="pilot",tag="1.31.0"} 1
pilot_xds{version="1.31.0"} 7
pilot_xds{version="1.30.2"} 1
pilot_xds_pushes{type="cds"} 40
pilot_xds_pushes{type="lds"} 41
pilot_xds_pushes{type="lds_senderr"} 2
pilot_total_xds_internal_errors 1
pilot_total_xds_rejects{type="lds"} 3
pilot_xds_push_time_bucket{type="cds",le="0.01"} 40
citadel_server_root_cert_expiry_timestamp 2.0795616e+09
go_goroutines 400
"""

AGENT = b"""\
# TYPE istio_agent_cert_expiry_seconds gauge
istio_agent_cert_expiry_seconds{resource_name="default"} 3600.5
istio_agent_cert_expiry_seconds{resource_name="ROOTCA"} 3.15e+08
istio_agent_scrapes_total 4
envoy_cluster_upstream_rq_active{cluster_name="xds-grpc"} 1
envoy_cluster_manager_cds_update_rejected{} 2
envoy_listener_manager_lds_update_rejected{} 1
http_requests_total{code="200",path="/a b"} 9
"""
