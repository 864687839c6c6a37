"""A shop in a cluster: services, workloads with accounts, and the definitions that SMI needs.

kwok makes the pods ready, so what the translator asks about is there for real.
"""

from __future__ import annotations

import json
import time
from collections.abc import Container, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from typing import Any

import yaml

from tests.testbed.building import distributions_folder, gateway_api_folder
from tests.testbed.clusters import Cluster
from tests.testbed.meshery import Meshery
from tests.testbed.processes import BedError
from tests.testbed.recipe import ISTIO_VERSION
from tests.testbed.snapshots import snapshot

DENY = "smi-deny-by-default"
SHOP = "default"
"""A namespace of a test's own would be nicer, but its end takes the cluster five seconds."""
_DEFINITIONS = "manifests/charts/base/files/crd-all.gen.yaml"
_GONE_WITHIN_S = 150.0
_LOOK_AGAIN_S = 0.2
_NUDGE_EVERY = 25
# Kinds whose objects come and go with workloads.
_FOLLOWERS = ("Pod", "ReplicaSet", "Deployment", "Endpoint")


def manifest(*objects: Mapping[str, Any]) -> str:
    """A manifest of these objects, one document each."""
    return "\n---\n".join(json.dumps(obj) for obj in objects)


def listed(*objects: Mapping[str, Any]) -> str:
    """The same as one document: kubectl takes what begins with a brace for JSON alone."""
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})


def service(name: str, in_namespace: str, *ports: int) -> dict[str, Any]:
    spec = {
        "selector": {"app": name},
        "ports": [{"name": f"http-{port}", "port": port} for port in ports or (80,)],
    }
    return _object("v1", "Service", name, in_namespace, spec=spec)


def workload(
    name: str, in_namespace: str, *, account: str = "", labels: Mapping[str, str] | None = None
) -> list[dict[str, Any]]:
    """A ServiceAccount and a Deployment that runs under it."""
    account = account or name
    labels = labels or {"app": name}
    template = {
        "metadata": {"labels": labels},
        "spec": {
            "serviceAccountName": account,
            "containers": [{"name": "main", "image": "example.org/main"}],
        },
    }
    spec = {"replicas": 1, "selector": {"matchLabels": labels}, "template": template}
    return [
        _object("v1", "ServiceAccount", account, in_namespace),
        _object("apps/v1", "Deployment", name, in_namespace, spec=spec),
    ]


def virtual_service(name: str, in_namespace: str, host: str) -> dict[str, Any]:
    """One that sends all requests for the host there."""
    spec = {"hosts": [host], "http": [{"route": [{"destination": {"host": host}}]}]}
    return _object("networking.istio.io/v1", "VirtualService", name, in_namespace, spec=spec)


def definition(group: str, kind: str, *versions: str) -> dict[str, Any]:
    """A CustomResourceDefinition that takes any spec; the last version is stored."""
    plural = f"{kind.lower()}s"
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"kind": kind, "plural": plural, "singular": kind.lower()},
            "versions": [
                {
                    "name": version,
                    "served": True,
                    "storage": version == versions[-1],
                    "schema": {"openAPIV3Schema": schema},
                }
                for version in versions
            ],
        },
    }


@contextmanager
def applied(cluster: Cluster, text: str) -> Iterator[None]:
    """Objects that kubectl puts there for the block, and takes away with all that waits for it."""
    cluster.kubectl("apply", "--server-side", "-f", "-", stdin=text)
    try:
        yield
    finally:
        cluster.kubectl("delete", "--ignore-not-found", "--wait=false", "-f", "-", stdin=text)
        _wait_gone(cluster, text)


def _wait_gone(cluster: Cluster, text: str) -> None:
    """Until the server has none of the objects any more.

    A definition goes when its objects have gone, which the server looks at again only after minutes
    if its first look came too early, or when the definition changes: so it is changed.
    """
    deadline = time.monotonic() + _GONE_WITHIN_S
    nudges = 0
    while left := cluster.kubectl(
        "get", "--ignore-not-found", "-f", "-", "-o", "name", stdin=text
    ).split():
        if time.monotonic() > deadline:
            raise BedError(f"still there after {_GONE_WITHIN_S:g} s: {', '.join(left)}")
        time.sleep(_LOOK_AGAIN_S)
        nudges += 1
        for name in left:
            if name.startswith("customresourcedefinition") and nudges % _NUDGE_EVERY == 0:
                with suppress(BedError):  # it has gone meanwhile
                    cluster.kubectl("annotate", "--overwrite", name, f"meshbus.test/look={nudges}")


@contextmanager
def defined(cluster: Cluster, objects: Iterable[Mapping[str, Any]]) -> Iterator[None]:
    """CustomResourceDefinitions that are established for the block. Those that an uninstalled Istio
    has left stay."""
    found = cluster.api.request("GET", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions")
    there = {item["metadata"]["name"] for item in found["items"]}
    missing = [one for one in objects if one["metadata"]["name"] not in there]
    with applied(cluster, listed(*missing)) if missing else nullcontext():
        cluster.wait_established()
        yield


@contextmanager
def istio_defined(
    cluster: Cluster,
    kinds: Container[str] = ("AuthorizationPolicy", "PeerAuthentication", "VirtualService"),
) -> Iterator[None]:
    """Istio's own definitions of what the tests use, without a control plane."""
    text = (distributions_folder() / ISTIO_VERSION / _DEFINITIONS).read_text()
    with defined(cluster, _definitions_of(kinds, text)):
        yield


@contextmanager
def gateway_api_defined(cluster: Cluster) -> Iterator[None]:
    """The Gateway API's own definitions of what the tests use."""
    files = sorted(gateway_api_folder().glob("*.yaml"))
    with defined(
        cluster, _definitions_of(("Gateway", "HTTPRoute"), *(file.read_text() for file in files))
    ):
        yield


def _definitions_of(kinds: Container[str], *texts: str) -> list[Any]:
    documents = [d for text in texts for d in yaml.load_all(text, Loader=yaml.CSafeLoader) if d]
    definitions = (d for d in documents if d["kind"] == "CustomResourceDefinition")
    return [d for d in definitions if d["spec"]["names"]["kind"] in kinds]


@contextmanager
def opened(cluster: Cluster, *objects: Mapping[str, Any]) -> Iterator[None]:
    """These objects for the block; their pods are gone after it."""
    text = listed(*objects)
    cluster.kubectl("apply", "--server-side", "-f", "-", stdin=text)
    try:
        yield
    finally:
        cluster.kubectl("delete", "--cascade=foreground", "-f", "-", stdin=text)


def lasting(cluster: Cluster) -> dict[str, str]:
    """All objects but those that follow workloads around."""
    return {
        k: v for k, v in snapshot(cluster).items() if not k.split(" ")[1].startswith(_FOLLOWERS)
    }


def found(cluster: Cluster, resource: str, in_namespace: str) -> dict[str, dict[str, Any]]:
    """Objects of a kind by name."""
    text = cluster.kubectl("get", resource, "-n", in_namespace, "-o", "json")
    return {item["metadata"]["name"]: item for item in json.loads(text)["items"]}


def policies(cluster: Cluster, in_namespace: str) -> dict[str, dict[str, Any]]:
    return found(cluster, "authorizationpolicies", in_namespace)


def versions(objects: dict[str, dict[str, Any]]) -> dict[str, str]:
    return {name: obj["metadata"]["resourceVersion"] for name, obj in objects.items()}


async def done(
    meshery: Meshery, body: str, *, namespace: str, delete: bool = False, count: int = 1
) -> list[Any]:
    """The events of a `custom` operation that succeeds."""
    operation = await meshery.apply("custom", body=body, namespace=namespace, delete=delete)
    finals = await meshery.finals(operation, count=count)
    assert not any(final.failed for final in finals), finals
    return [received.event for received in meshery.of(operation)]


def told(events: list[Any]) -> str:
    return "\n".join(f"{event.summary}\n{event.details}" for event in events)


def remove_denial(cluster: Cluster, in_namespace: str) -> None:
    """What is meant to stay when a TrafficTarget goes is taken away by hand."""
    cluster.kubectl("delete", "authorizationpolicy", "-n", in_namespace, "--all")


def _object(
    api_version: str, kind: str, name: str, in_namespace: str, **fields: Any
) -> dict[str, Any]:
    metadata = {"name": name, "namespace": in_namespace}
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata, **fields}
