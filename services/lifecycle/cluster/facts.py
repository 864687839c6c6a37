"""Facts about a cluster for services that may not read it: answers to `mesh.lifecycle.facts`.

Lifecycle opens the credential, so lifecycle reads; the translator gets the facts alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import orjson

from services.chassis.errors import ClusterError, KindUnknown, ObjectNotFound, TooManyValues
from services.chassis.kube.applying import FIELD_MANAGER
from services.chassis.kube.client import APPLY_PATCH, KubeClient
from services.chassis.kube.objects import MANAGED_BY, MANAGER, KubeObject, Ref, labels_of
from services.chassis.kube.watching import listed
from services.chassis.messages import (
    ClusterFacts,
    FactsQuestion,
    MeshFact,
    ServiceFact,
    ServicePort,
    WorkloadFact,
)
from services.chassis.reading.yamls import read_yaml
from services.lifecycle.cluster import istio
from services.lifecycle.cluster.connections import Connection

_DEFAULT_TRUST_DOMAIN = "cluster.local"
_DEPLOYMENTS = "/apis/apps/v1/deployments"
_SERVICES = "/api/v1/services"
_ISTIOD = {"labelSelector": "app=istiod"}
_NAMED_ISTIOD = {"labelSelector": "app.kubernetes.io/name=istiod"}
# A current list waits until the server's cache has seen the newest write of any kind, up to 100 ms.
_FROM_CACHE = {"resourceVersion": "0"}
# A Deployment puts it on the pods of its ReplicaSets.
_DEPLOYMENT_HASH = "pod-template-hash"
# Meshery deploys a design by one call for each component.
_SURVEY_KEPT_S = 3.0
# Kinds of these groups are what a translation chooses versions of.
_GROUPS = (
    "networking.istio.io",
    "security.istio.io",
    "telemetry.istio.io",
    "extensions.istio.io",
    "gateway.networking.k8s.io",
    "gateway.networking.x-k8s.io",
    "inference.networking.k8s.io",
    "split.smi-spec.io",
    "access.smi-spec.io",
    "specs.smi-spec.io",
)


async def gather(connection: Connection, question: FactsQuestion) -> ClusterFacts:
    """The facts that `question` asks for; raises a `ClusterError` when the cluster cannot tell."""
    client = connection.client
    # Plain objects need a version and definitions, which may be seconds old; SMI needs fresh facts.
    if question.namespaces or question.kinds or connection.surveyed < _now() - _SURVEY_KEPT_S:
        await _survey(connection)
    served = connection.served
    services, workloads, objects = await asyncio.gather(
        _all(_services(client, namespace) for namespace in question.namespaces),
        _all(_workloads(client, namespace) for namespace in question.namespaces),
        _all(
            _objects(connection, kind, selector=selector)
            for kinds, selector in (
                (question.kinds, ""),
                (question.managed_kinds, f"{MANAGED_BY}={MANAGER}"),
            )
            for kind in kinds
            # No other kind: a question must not read Secrets.
            if kind in served
        ),
    )
    if question.planes:
        objects += await read_planes(connection)
    return ClusterFacts(
        meshes=connection.meshes,
        served=served,
        services=services,
        workloads=workloads,
        read_namespaces=question.namespaces,
        objects=objects,
    )


async def _all(reads: Any) -> list[Any]:
    return [one for found in await asyncio.gather(*reads) for one in found]


async def _survey(connection: Connection) -> None:
    """Reads the served kinds and the installed revisions of Istio."""
    connection.served, connection.meshes = await asyncio.gather(
        _served(connection), read_meshes(connection.client)
    )
    connection.surveyed = _now()


def _now() -> float:
    return asyncio.get_running_loop().time()


async def _served(connection: Connection) -> dict[str, list[str]]:
    # Kept discovery is only renewed by a miss, and a definition that came since makes none.
    await connection.resources.refresh()
    served: dict[str, list[str]] = {}
    for group in _GROUPS:
        for resource in await connection.resources.of_group(group):
            served.setdefault(f"{group}/{resource.kind}", []).append(
                resource.api_version.rpartition("/")[2]
            )
    return served


# --- services and workloads ----------------------------------------------------------------------


async def _services(client: KubeClient, namespace: str) -> list[ServiceFact]:
    services = await listed(client, f"/api/v1/namespaces/{namespace}/services")
    return [_service(item, namespace) for item in services.items]


def _service(item: KubeObject, namespace: str) -> ServiceFact:
    spec = item.get("spec") or {}
    ports = [
        ServicePort(
            port=port["port"],
            name=port.get("name") or "",
            protocol=port.get("protocol") or "TCP",
            app_protocol=port.get("appProtocol") or "",
            target_port=str(port.get("targetPort") or port["port"]),
        )
        for port in spec.get("ports") or []
    ]
    name = item["metadata"]["name"]
    return ServiceFact(
        namespace=namespace, name=name, ports=ports, selector=spec.get("selector") or {}
    )


async def _workloads(client: KubeClient, namespace: str) -> list[WorkloadFact]:
    *controllers, pods = await asyncio.gather(
        *(
            listed(client, f"/apis/apps/v1/namespaces/{namespace}/{plural}")
            for plural in ("deployments", "statefulsets", "daemonsets")
        ),
        listed(client, f"/api/v1/namespaces/{namespace}/pods"),
    )
    found = [
        _workload(item["spec"]["template"], item, namespace=namespace, kind=item["kind"])
        for listing in controllers
        for item in listing.items
    ]
    others = [pod for pod in pods.items if not _is_of_controller(pod) and not _has_ended(pod)]
    return found + [_workload(pod, pod, namespace=namespace, kind="Pod") for pod in others]


def _is_of_controller(pod: KubeObject) -> bool:
    """Whether a Deployment, StatefulSet or DaemonSet stands for the pod; none does for a Job's."""
    owners = {str(owner.get("kind")) for owner in pod["metadata"].get("ownerReferences") or []}
    if "ReplicaSet" in owners:
        return _DEPLOYMENT_HASH in labels_of(pod)
    return bool(owners & {"StatefulSet", "DaemonSet"})


def _has_ended(pod: KubeObject) -> bool:
    return (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")


def _workload(
    template: KubeObject, owner: KubeObject, *, namespace: str, kind: str
) -> WorkloadFact:
    spec = template.get("spec") or {}
    selector = (owner["spec"].get("selector") or {}) if kind != "Pod" else {}
    return WorkloadFact(
        namespace=namespace,
        kind=kind,
        name=owner["metadata"]["name"],
        service_account=spec.get("serviceAccountName") or "default",
        labels=labels_of(template),
        selector=selector.get("matchLabels") or {},
    )


# --- control planes -------------------------------------------------------------------------------
# Those of other installers as well.


async def read_meshes(client: KubeClient) -> list[MeshFact]:
    planes, services = await asyncio.gather(
        listed(client, _DEPLOYMENTS, query={**_ISTIOD, **_FROM_CACHE}),
        listed(client, _SERVICES, query={**_NAMED_ISTIOD, **_FROM_CACHE}),
    )
    # Without pods behind it, it leads to an istiod of another cluster, which serves this one.
    away = [one for one in services.items if not one["spec"].get("selector")]
    found = await asyncio.gather(*(_mesh(client, plane) for plane in (*away, *planes.items)))
    known = {(mesh.namespace, mesh.revision): mesh for mesh in found}.values()
    return sorted(known, key=lambda mesh: (mesh.revision != istio.DEFAULT_REVISION, mesh.revision))


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
    pods = (plane["spec"].get("template") or {}).get("spec") or {}
    containers = pods.get("containers") or [{}]
    name = str(containers[0].get("image", "")).rpartition("/")[2].partition("@")[0]
    return name.partition(":")[2].removesuffix("-distroless")


async def read_planes(connection: Connection) -> list[KubeObject]:
    """istiod's Deployments and their ConfigMaps: an upgrade may not know their settings."""
    client = connection.client
    deployments = await listed(client, _DEPLOYMENTS, query=_ISTIOD)
    found = [_stripped(item) for item in deployments.items]
    for mesh in await read_meshes(client):
        name = _settings_name(mesh.revision)
        settings = await connection.get(Ref("v1", "ConfigMap", mesh.namespace, name))
        if settings is not None:
            found.append(_stripped(settings))
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
            query=_FROM_CACHE,
            subject=f"ConfigMap {name}",
        )
        mesh = read_yaml((configured.get("data") or {}).get("mesh", ""))
    except (ObjectNotFound, ValueError, TooManyValues):
        return _DEFAULT_TRUST_DOMAIN
    domain = mesh.get("trustDomain") if isinstance(mesh, dict) else None
    return domain if isinstance(domain, str) and domain else _DEFAULT_TRUST_DOMAIN


# --- objects -------------------------------------------------------------------------------------


async def _objects(connection: Connection, kind: str, *, selector: str) -> list[KubeObject]:
    """All objects of a kind, without managed fields and status."""
    group, _, name = kind.rpartition("/")
    resource = await connection.resources.preferred(group, name)
    if resource is None or "list" not in resource.verbs:
        return []
    query = {"labelSelector": selector} if selector else {}
    try:
        listing = await listed(connection.client, resource.collection(), query=query)
    except (ObjectNotFound, KindUnknown):
        return []
    return [_stripped(item) for item in listing.items]


def _stripped(obj: KubeObject) -> KubeObject:
    """The object without managed fields and status."""
    obj["metadata"].pop("managedFields", None)
    obj.pop("status", None)
    return obj


async def configuration(connection: Connection) -> list[KubeObject]:
    """All objects of the kinds that hold a mesh's configuration, and the mesh's own settings."""
    served = await _served(connection)
    kinds = [kind for kind in served if not kind.partition("/")[0].endswith(".smi-spec.io")]
    found = await _all(_objects(connection, kind, selector="") for kind in kinds)
    return found + await read_planes(connection)


async def dry_run(connection: Connection, objects: Sequence[KubeObject]) -> list[str]:
    """Applies objects in a dry run; returns the API server's refusal of each, "" for none."""
    return list(await asyncio.gather(*(_tried(connection, obj) for obj in objects)))


async def _tried(connection: Connection, obj: KubeObject) -> str:
    try:
        await would_be(connection, obj)
    except ClusterError as error:
        return error.summary
    return ""


async def would_be(connection: Connection, obj: KubeObject) -> KubeObject:
    """An object as it would be after an apply; raises what would refuse it."""
    ref = Ref.of(obj)
    resource = await connection.resources.find(ref.api_version, ref.kind)
    answer = await connection.client.request(
        "PATCH",
        resource.path(ref),
        query={"fieldManager": FIELD_MANAGER, "force": "true", "dryRun": "All"},
        body=orjson.dumps(obj),
        content_type=APPLY_PATCH,
        subject=str(ref),
    )
    found: KubeObject = answer.json()
    return found
