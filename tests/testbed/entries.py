"""Istio objects that make the bed's loopback servers known to istiod.

A Kubernetes Service cannot have a backend on loopback, because EndpointSlices refuse such
addresses. A ServiceEntry may, and it may have the name that a Service would have
(`<name>.<namespace>.svc.cluster.local`) as long as there is no Service of that name. To routing
rules, which name hosts, the two are the same; facts about Services are given to the translator by
the tests.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tests.testbed import loopback
from tests.testbed.clusters import Cluster, KubernetesApi

_NETWORKING = "networking.istio.io/v1"
_PLURALS = {
    "AuthorizationPolicy": "authorizationpolicies",
    "ServiceEntry": "serviceentries",
    "Sidecar": "sidecars",
    "VirtualService": "virtualservices",
}


def host_of(name: str, namespace: str) -> str:
    """Full name of a Service."""
    return f"{name}.{namespace}.svc.cluster.local"


def service_entry(
    host: str, *, namespace: str, name: str, ports: Mapping[int, int], protocol: str = "HTTP"
) -> dict[str, Any]:
    """A host with ports (service port → port of its server on loopback), all of one protocol."""
    names = {port: f"{protocol.lower()}-{port}" for port in ports}
    endpoint = {
        "address": loopback.HOST,
        "ports": {names[port]: backend for port, backend in ports.items()},
    }
    spec = {
        "hosts": [host],
        "location": "MESH_INTERNAL",
        "resolution": "STATIC",
        "ports": [{"number": port, "name": names[port], "protocol": protocol} for port in ports],
        "endpoints": [endpoint],
    }
    return istio_object("ServiceEntry", name=name, namespace=namespace, spec=spec)


def istio_object(
    kind: str, *, name: str, namespace: str, spec: dict[str, Any], api_version: str = _NETWORKING
) -> dict[str, Any]:
    """An object of Istio, of its networking API where nothing else is said."""
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata, "spec": spec}


def path_of(obj: Mapping[str, Any], name: str = "") -> str:
    """Where the API server keeps objects of this kind and namespace, or one of them by name."""
    namespace = obj["metadata"]["namespace"]
    plural = _PLURALS[obj["kind"]]
    return f"/apis/{obj['apiVersion']}/namespaces/{namespace}/{plural}/{name}".rstrip("/")


def create(api: KubernetesApi, objects: Sequence[dict[str, Any]]) -> None:
    """Creates the bed's own objects; much faster than kubectl, which is for what is under test."""
    for obj in objects:
        api.create_or_keep(path_of(obj), obj)


def apply(cluster: Cluster, objects: Iterable[Mapping[str, Any]]) -> None:
    """Server-side apply of all objects by one call of kubectl.

    The server refuses fields that are not in a kind's definition. kubectl would check that too, but
    reads the server's whole OpenAPI for it, which takes three times as long as the rest.
    """
    flags = ("--server-side", "--force-conflicts", "--validate=false")
    cluster.kubectl("apply", *flags, "-f", "-", stdin=_list(objects))


def delete(cluster: Cluster, objects: Iterable[Mapping[str, Any]]) -> None:
    """Deletes what is there of the objects."""
    cluster.kubectl("delete", "--ignore-not-found", "--wait=true", "-f", "-", stdin=_list(objects))


def _list(objects: Iterable[Mapping[str, Any]]) -> str:
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)})
