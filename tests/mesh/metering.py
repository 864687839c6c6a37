"""Istio's metric of requests, counted by the upstream Envoy.

Istio's own proxy counts `istio_requests_total` by a filter that the upstream one lacks. What that
one has is a counter for access logs, and this is how it makes the same of it: both ends of a call
count it, with the labels that they know, and Prometheus gives the labels their names. That a peer
names its workload, which is Istio's metadata exchange, is a header here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from tests.testbed.realclusters import RealCluster

_PORT = 15020
_MANAGER = "envoy.filters.network.http_connection_manager"
_TYPES = "type.googleapis.com/envoy.extensions"
_PEER = "x-bed-workload"
_CLUSTER = "%ENVIRONMENT(ISTIO_META_CLUSTER_ID)%"
_SOURCE = {
    "reporter": "source",
    "source_cluster": _CLUSTER,
    "source_principal": "%UPSTREAM_LOCAL_URI_SAN%",
    "destination_principal": "%UPSTREAM_PEER_URI_SAN%",
    "called": "%UPSTREAM_CLUSTER_RAW%",
    "peer": "%UPSTREAM_METADATA(istio:workload)%",
}
_DESTINATION = {
    "reporter": "destination",
    "destination_cluster": _CLUSTER,
    "source_principal": "%DOWNSTREAM_PEER_URI_SAN%",
    "destination_principal": "%DOWNSTREAM_LOCAL_URI_SAN%",
    "called": "%REQ(:AUTHORITY)%",
    "peer": f"%REQ({_PEER})%",
}


@dataclass(frozen=True, slots=True)
class Proxied:
    """A pod with a sidecar, as its labels have it."""

    address: str
    namespace: str
    workload: str
    app: str
    version: str


def proxied(cluster: RealCluster, namespace: str) -> list[Proxied]:
    """All of a namespace; their workloads are Deployments named `app` or `app-version`."""
    found = cluster.api.request("GET", f"/api/v1/namespaces/{namespace}/pods")["items"]
    return [
        Proxied(
            pod["status"]["podIP"],
            namespace,
            # A pod is named by its ReplicaSet, and this one by its Deployment.
            pod["metadata"]["name"].rsplit("-", 2)[0],
            pod["metadata"]["labels"]["app"],
            pod["metadata"]["labels"]["version"],
        )
        for pod in found
        if "deletionTimestamp" not in pod["metadata"]
    ]


def counting(namespace: str) -> dict[str, Any]:
    """The EnvoyFilter that makes a namespace's sidecars count requests."""
    # As the metadata of an endpoint: "workload;namespace;app;version;cluster".
    own = f"%ENVIRONMENT(ISTIO_META_WORKLOAD_NAME)%;;;;{_CLUSTER}"
    header = {
        "header": {"key": _PEER, "value": own},
        "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
    }
    naming = {
        "applyTo": "ROUTE_CONFIGURATION",
        "match": {"context": "SIDECAR_OUTBOUND"},
        "patch": {"operation": "MERGE", "value": {"request_headers_to_add": [header]}},
    }
    return {
        "apiVersion": "networking.istio.io/v1alpha3",
        "kind": "EnvoyFilter",
        "metadata": {"name": "requests-total", "namespace": namespace},
        "spec": {
            "configPatches": [
                naming,
                _logging("SIDECAR_OUTBOUND", _SOURCE),
                _logging("SIDECAR_INBOUND", _DESTINATION),
            ]
        },
    }


def _logging(context: str, tags: Mapping[str, str]) -> dict[str, Any]:
    told = {
        **tags,
        "response_code": "%RESPONSE_CODE%",
        "response_flags": "%RESPONSE_FLAGS%",
    }
    named = [{"name": name, "value_format": value} for name, value in told.items()]
    log = {
        "name": "envoy.access_loggers.stats",
        "typed_config": {
            "@type": f"{_TYPES}.access_loggers.stats.v3.Config",
            "stat_prefix": "istio",
            "counters": [{"stat": {"name": "requests_total", "tags": named}, "value_fixed": 1}],
        },
    }
    value = {
        "@type": f"{_TYPES}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "access_log": [log],
    }
    return {
        "applyTo": "NETWORK_FILTER",
        "match": {
            "context": context,
            "listener": {"filterChain": {"filter": {"name": _MANAGER}}},
        },
        "patch": {"operation": "MERGE", "value": {"typed_config": value}},
    }


def scraping(pods: Iterable[Proxied], *, others: Iterable[Proxied] = ()) -> dict[str, str]:
    """The files of a Prometheus that scrapes these pods each second; `others` are whom they call
    besides, in another cluster."""
    pods = list(pods)
    named = {pod.workload: pod for pod in (*pods, *others)}.values()
    job = {
        "job_name": "proxies",
        "metrics_path": "/stats/prometheus",
        "static_configs": [
            {
                "targets": [f"{pod.address}:{_PORT}"],
                "labels": {"own": pod.workload, "own_namespace": pod.namespace},
            }
            for pod in pods
        ],
        "metric_relabel_configs": [
            {
                "action": "keep",
                "source_labels": ["__name__"],
                "regex": "envoy_istio_requests_total",
            },
            _set("__name__", "istio_requests_total"),
            _set("request_protocol", "http"),
            *_ends(),
            *(rule for pod in named for end in _ENDS for rule in _of(pod, end)),
            _set("connection_security_policy", "none", reporter="destination"),
            {
                "source_labels": ["reporter", "source_principal"],
                "regex": "destination;spiffe://.*",
                "target_label": "connection_security_policy",
                "replacement": "mutual_tls",
            },
            {"action": "labeldrop", "regex": "own|own_namespace|peer|called"},
        ],
    }
    every = {"scrape_interval": "1s", "scrape_timeout": "1s"}
    return {"prometheus.yaml": yaml.safe_dump({"global": every, "scrape_configs": [job]})}


def _ends() -> list[dict[str, Any]]:
    """Workloads and the called Service. A peer without an answer has none."""
    rules = []
    for reporter, own, other in (
        ("source", "source", "destination"),
        ("destination", "destination", "source"),
    ):
        rules += [
            _copy(reporter, "own", "(.+)", f"{own}_workload"),
            _copy(reporter, "peer", '"?([^;"-][^;"]*).*', f"{other}_workload"),
            _copy(reporter, "peer", '"?(?:[^;]*;){4}([^;"]+)"?', f"{other}_cluster"),
        ]
    host = r"(?:outbound\|.*\|)?([a-z0-9-]+)(?:\.[^:]*)?(?::\d+)?"
    return [
        *rules,
        *(_copy(".*", "own_namespace", "(.+)", f"{end}_workload_namespace") for end in _ENDS),
        _copy(".*", "own_namespace", "(.+)", "destination_service_namespace"),
        _copy(".*", "called", host, "destination_service_name"),
        {
            "source_labels": ["destination_service_name", "own_namespace"],
            "regex": "(.+);(.+)",
            "target_label": "destination_service",
            "replacement": "$1.$2.svc.cluster.local",
        },
    ]


_ENDS = ("source", "destination")


def _of(pod: Proxied, end: str) -> list[dict[str, Any]]:
    """App and version of a workload."""
    told = {"canonical_service": pod.app, "canonical_revision": pod.version}
    return [
        {
            "source_labels": [f"{end}_workload"],
            "regex": pod.workload,
            "target_label": f"{end}_{label}",
            "replacement": value,
        }
        for label, value in told.items()
    ]


def _copy(reporter: str, label: str, pattern: str, target: str) -> dict[str, Any]:
    return {
        "source_labels": ["reporter", label],
        "regex": f"{reporter};{pattern}",
        "target_label": target,
        "replacement": "$1",
    }


def _set(label: str, value: str, *, reporter: str = ".*") -> dict[str, Any]:
    return {
        "source_labels": ["reporter"],
        "regex": reporter,
        "target_label": label,
        "replacement": value,
    }
