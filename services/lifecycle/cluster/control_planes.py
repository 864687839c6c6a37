"""Istio's control planes in a cluster, whoever installed them: versions and settings."""

from __future__ import annotations

import asyncio
import contextlib

import yaml

from services.chassis.errors import ObjectNotFound
from services.chassis.kube.client import KubeClient
from services.chassis.kube.objects import KubeObject, labels_of
from services.chassis.messages import MeshFact
from services.lifecycle.cluster import istio
from services.lifecycle.cluster.connections import Connection
from services.lifecycle.cluster.lists import FROM_CACHE, list_all, stripped

_DEFAULT_TRUST_DOMAIN = "cluster.local"


async def read_meshes(client: KubeClient) -> list[MeshFact]:
    planes = await list_all(client, "/apis/apps/v1/deployments", selector="app=istiod", cached=True)
    found = await asyncio.gather(*(_mesh(client, plane) for plane in planes))
    return sorted(found, key=lambda mesh: (mesh.revision != istio.DEFAULT_REVISION, mesh.revision))


async def _mesh(client: KubeClient, plane: KubeObject) -> MeshFact:
    labels = labels_of(plane)
    revision = labels.get(istio.REVISION) or istio.DEFAULT_REVISION
    namespace = plane["metadata"].get("namespace", istio.SYSTEM_NAMESPACE)
    return MeshFact(
        revision=revision,
        version=labels.get(istio.VERSION) or _image_version(plane),
        namespace=namespace,
        trust_domain=await _trust_domain(client, namespace, revision),
    )


def _image_version(plane: KubeObject) -> str:
    """The tag of istiod's image: another installer may not label the version."""
    containers = plane["spec"]["template"]["spec"].get("containers") or [{}]
    name = str(containers[0].get("image", "")).rpartition("/")[2].partition("@")[0]
    return name.partition(":")[2].removesuffix("-distroless")


async def read_planes(connection: Connection) -> list[KubeObject]:
    """istiod's Deployments and their ConfigMaps: an upgrade may not know what they set."""
    client = connection.client
    deployments = await list_all(client, "/apis/apps/v1/deployments", selector="app=istiod")
    found = [stripped(item, "apps/v1", "Deployment") for item in deployments]
    for mesh in await read_meshes(client):
        name = _settings_name(mesh.revision)
        path = f"/api/v1/namespaces/{mesh.namespace}/configmaps/{name}"
        with contextlib.suppress(ObjectNotFound):
            settings = await client.get(path, subject=f"ConfigMap {name}")
            found.append(stripped(settings, "v1", "ConfigMap"))
    return found


def _settings_name(revision: str) -> str:
    """Of the ConfigMap with a revision's MeshConfig."""
    return "istio" if revision == istio.DEFAULT_REVISION else f"istio-{revision}"


async def _trust_domain(client: KubeClient, namespace: str, revision: str) -> str:
    """From the mesh's configuration, where istiod reads it."""
    name = _settings_name(revision)
    try:
        configured = await client.get(
            f"/api/v1/namespaces/{namespace}/configmaps/{name}",
            query=FROM_CACHE,
            subject=f"ConfigMap {name}",
        )
        mesh = yaml.load((configured.get("data") or {}).get("mesh", ""), Loader=yaml.CSafeLoader)
    except (ObjectNotFound, yaml.YAMLError):
        return _DEFAULT_TRUST_DOMAIN
    domain = mesh.get("trustDomain") if isinstance(mesh, dict) else None
    return domain if isinstance(domain, str) and domain else _DEFAULT_TRUST_DOMAIN
