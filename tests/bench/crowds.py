"""A crowd of services on a real API server, each with a Deployment, two pods and an EndpointSlice.

The bed's controllers would take twenty objects a second, so they stand still meanwhile, and this
file writes what they would have written. kwok makes the pods run.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import orjson

from services.chassis.errors import ObjectConflict
from services.chassis.kube.client import KubeClient
from services.chassis.kube.kubeconfigs import parse_kubeconfig
from tests.testbed.clusters import Cluster

PODS_EACH = 2
PER_NAMESPACE = 100
_AT_ONCE = 24
_HASH = "6f7d8c9b5"


def namespace_of(number: int) -> str:
    return f"crowd-{number // PER_NAMESPACE}"


@asynccontextmanager
async def crowd(cluster: Cluster, first: int, last: int) -> AsyncIterator[KubeClient]:
    """Services `first` to `last - 1`, all their pods running; a client for further writes."""
    cluster.controller_manager.stop()
    async with KubeClient(parse_kubeconfig(cluster.kubeconfig_text), connections=48) as client:
        spaces = sorted({namespace_of(number) for number in range(first, last)})
        await _each(spaces, lambda space: _namespace(client, space))
        await _each(range(first, last), lambda number: _application(client, number))
        yield client


async def _each(items: Any, work: Callable[[Any], Awaitable[None]]) -> None:
    """A bounded number at a time."""
    free = asyncio.Semaphore(_AT_ONCE)

    async def one(item: Any) -> None:
        async with free:
            await work(item)

    await asyncio.gather(*(one(item) for item in items))


async def post(client: KubeClient, path: str, body: dict[str, Any]) -> dict[str, Any]:
    answer = await client.request("POST", path, body=orjson.dumps(body))
    created: dict[str, Any] = answer.json()
    return created


async def _namespace(client: KubeClient, name: str) -> None:
    try:
        await post(client, "/api/v1/namespaces", {"metadata": {"name": name}})
    except ObjectConflict:
        return
    # The account that its controller would have made; pods need it.
    path = f"/api/v1/namespaces/{name}/serviceaccounts"
    await post(client, path, {"metadata": {"name": "default"}})


async def _application(client: KubeClient, number: int) -> None:
    name, space = f"app-{number}", namespace_of(number)
    labels = {"app": name, "version": "v1"}
    await post(client, f"/api/v1/namespaces/{space}/services", service(name, labels))
    await post(client, f"/apis/apps/v1/namespaces/{space}/deployments", deployment(name, labels))
    path = f"/apis/discovery.k8s.io/v1/namespaces/{space}/endpointslices"
    await post(client, path, endpoints(name, number))
    for index in range(PODS_EACH):
        await post(
            client, f"/api/v1/namespaces/{space}/pods", pod(pod_name(name, index), name, labels)
        )
    status = {"status": {"replicas": PODS_EACH, "readyReplicas": PODS_EACH}}
    await client.request(
        "PATCH",
        f"/apis/apps/v1/namespaces/{space}/deployments/{name}/status",
        body=orjson.dumps(status),
        content_type="application/merge-patch+json",
    )


def service(name: str, labels: dict[str, str]) -> dict[str, Any]:
    ports = [{"name": "http", "port": 80, "targetPort": 8080}]
    # A headless one takes no address out of the range, which has few hundred.
    spec = {"selector": labels, "ports": ports, "clusterIP": "None"}
    return {"metadata": {"name": name, "labels": labels}, "spec": spec}


def _template(labels: dict[str, str]) -> dict[str, Any]:
    container = {"name": "main", "image": "example.org/main:1", "ports": [{"containerPort": 8080}]}
    return {"metadata": {"labels": labels}, "spec": {"containers": [container]}}


def deployment(name: str, labels: dict[str, str]) -> dict[str, Any]:
    spec = {
        "replicas": PODS_EACH,
        "selector": {"matchLabels": labels},
        "template": _template(labels),
    }
    return {"metadata": {"name": name, "labels": labels}, "spec": spec}


def pod_name(application: str, index: int) -> str:
    return f"{application}-{_HASH}-{index}"


def pod(name: str, owner_name: str, labels: dict[str, str]) -> dict[str, Any]:
    owner = {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "name": f"{owner_name}-{_HASH}",
        "uid": "00000000-0000-0000-0000-000000000000",
        "controller": True,
    }
    template = _template({**labels, "pod-template-hash": _HASH})
    metadata = {"name": name, "ownerReferences": [owner], **template["metadata"]}
    return {"metadata": metadata, "spec": {**template["spec"], "nodeName": "bed-node-0"}}


def endpoints(name: str, number: int) -> dict[str, Any]:
    addresses = [
        f"10.{64 + index}.{number // 250}.{number % 250 + 1}" for index in range(PODS_EACH)
    ]
    return {
        "metadata": {"name": f"{name}-slice", "labels": {"kubernetes.io/service-name": name}},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
        "endpoints": [{"addresses": [address]} for address in addresses],
    }
