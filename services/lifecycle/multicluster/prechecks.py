"""What does not fit into one mesh, found before the first write to any of its clusters."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from services.chassis.errors import (
    ClusterOutOfSight,
    ClustersDiffer,
    LifecycleError,
    RootsDiffer,
)
from services.chassis.kube.objects import KubeObject, Ref, labels_of
from services.lifecycle.cluster import istio
from services.lifecycle.cluster.inventory import Inventory, take_inventory
from services.lifecycle.cluster.versions import Version
from services.lifecycle.manifests.work import Work
from services.lifecycle.mesh.requests import MeshRequest
from services.lifecycle.mesh.safety import with_identity
from services.lifecycle.multicluster.options import MultiClusterRequest
from services.lifecycle.multicluster.remotes import data_of
from services.lifecycle.multicluster.trust import SECRET, standing

NETWORK = "topology.istio.io/network"
"""Label of the mesh's namespace."""
_SELF_SIGNED = "istio-ca-secret"
_MESHED = "security.istio.io/tlsMode=istio"
_UNNAMED = ("", "Kubernetes")
"""Names of clusters that nobody has given."""
_MOST_TOLD = 8

Found = Mapping[str, str]
"""What a cluster says of itself, as its part keeps it."""


async def look(work: Work, request: MultiClusterRequest) -> dict[str, str]:
    """What the cluster is in a mesh already, without a write."""
    cluster = work.cluster
    inventory = await take_inventory(cluster)
    revision = _revision(request.mesh, inventory)
    namespace = request.mesh.namespace
    if not request.mesh.namespace_given:
        namespace = inventory.namespace(namespace)
    known = await with_identity(cluster, MeshRequest(namespace=namespace), revision=revision)
    secrets = {
        name: await cluster.get(Ref("v1", "Secret", namespace, name))
        for name in (SECRET, _SELF_SIGNED)
    }
    pods = await cluster.select([("", "Pod")], selector=_MESHED)
    labels = labels_of(await cluster.get(Ref("v1", "Namespace", "", namespace)) or {})
    own = request.cluster(work.command.cluster_name)
    is_there = any(
        found.ref.kind == "Deployment" and found.labels.get(istio.COMPONENT) == istio.PILOT
        for found in inventory.of_revision(revision)
    )
    elsewhere = {*inventory.namespaces(revision)} - {namespace}
    return {
        "namespace": namespace,
        "elsewhere": min(elsewhere, default=""),
        "revision": revision,
        "version": inventory.revisions().get(revision, ""),
        "meshID": _text(known.overlay, "values", "global", "meshID"),
        "network": _text(known.overlay, "values", "global", "network") or labels.get(NETWORK, ""),
        "clusterName": _text(known.overlay, "values", "global", "multiCluster", "clusterName"),
        "trustDomain": _text(known.overlay, "meshConfig", "trustDomain")
        or ("cluster.local" if is_there else ""),
        **_root(secrets[SECRET]),
        "selfSigned": "yes" if secrets[_SELF_SIGNED] is not None else "",
        "pods": str(len(pods)),
        "istiod": "yes" if is_there else "",
        "server": own.server or cluster.client.config.server,
    }


def compare(
    request: MultiClusterRequest, found: Mapping[str, Found], *, root: str
) -> tuple[list[LifecycleError], list[str]]:
    """Refusals and warnings over all clusters, by their names; `root` is the fingerprint that
    their certificates are to have, "" for one that is to be made."""
    refusals: list[LifecycleError] = []
    for name, one in found.items():
        refusals += _of_cluster(request, name, one)
    refusals += _of_versions(request, found)
    refusals += _of_roots(request, found, root=root)
    warnings = [text for name, one in found.items() for text in _unaware(request, name, one)]
    if request.mesh.force:
        kept: list[LifecycleError] = [one for one in refusals if isinstance(one, RootsDiffer)]
        warnings += [f"forced although {one.summary}" for one in refusals if one not in kept]
        refusals = kept
    return refusals, warnings


def refuse(refusals: list[LifecycleError]) -> None:
    """Raises what stands in the way, as one error by its first code: the others' stand in it."""
    if not refusals:
        return
    first = refusals[0]
    told = [f"{one.code}: {one.summary}" for one in refusals[:_MOST_TOLD]]
    more = len(refusals) - _MOST_TOLD
    rest = [f"{more} more"] if more > 0 else []
    summary = first.summary if len(refusals) == 1 else "; ".join([*told, *rest])
    remedies = dict.fromkeys(one.remedy for one in refusals)
    raise type(first)(summary, cause=first.cause, remedy="; ".join(remedies))


def wanted_version(request: MultiClusterRequest, found: Mapping[str, Found], name: str) -> str:
    """The version that a cluster is to have: the named one, its own, or the newest of the others;
    "" for the newest release."""
    if request.version:
        return request.version
    return found[name].get("version", "") or max(
        (one.get("version", "") for one in found.values()),
        key=lambda text: Version.parse(text) or Version(0, 0, 0),
        default="",
    )


def _of_cluster(request: MultiClusterRequest, name: str, found: Found) -> Iterator[LifecycleError]:
    options, own, known = request.options, request.cluster(name), request.known_as(name)
    for what, was, will in (
        ("mesh id", found.get("meshID", ""), options.mesh_id),
        ("network", found.get("network", ""), known.network or ""),
        ("trust domain", found.get("trustDomain", ""), options.trust_domain),
        ("name", _named(found.get("clusterName", "")), known.called),
    ):
        if was and was != will:
            yield ClustersDiffer(f"cluster {name} has the {what} {was}, and not {will or '(none)'}")
    is_read = bool(request.readers(name))
    if is_read and not own.server and (why := _unseen(found.get("server", ""))):
        yield ClusterOutOfSight(
            f"cluster {name}: its API server is at {found.get('server', '')[:128]}, {why}"
        )
    if own.is_remote and found.get("istiod"):
        yield ClustersDiffer(
            f"cluster {name} is to be remote and has a control plane of its own",
            cause="its workloads would have two",
            remedy="remove that by the operation `istio`, or let the cluster be a primary",
        )
    if options.is_external and found.get("elsewhere"):
        yield ClustersDiffer(
            f"cluster {name} has Istio's unnamed revision in namespace {found['elsewhere']}",
            cause="an external control plane has that revision in "
            f"{found.get('namespace') or request.mesh.namespace}, and a cluster has it once",
            remedy="name another cluster, or remove that Istio by the operation `istio`",
        )
    if options.model != "multi-primary" and found.get("revision") != istio.DEFAULT_REVISION:
        yield ClustersDiffer(f"cluster {name} has revision {found.get('revision')} alone")


def _unaware(request: MultiClusterRequest, name: str, found: Found) -> Iterator[str]:
    """What workloads that run do not know before they are restarted."""
    own = request.known_as(name)
    if own.name != name:
        return  # what runs beside an external control plane is not of its mesh
    fresh = [
        what
        for what, was, will in (
            ("mesh id", found.get("meshID", ""), request.options.mesh_id),
            ("network", found.get("network", ""), own.network or ""),
            ("name", _named(found.get("clusterName", "")), own.called),
        )
        if not was and will
    ]
    if fresh and found.get("pods") not in (None, "", "0"):
        yield (
            f"the {found['pods']} workloads of cluster {name} know its new {', '.join(fresh)} "
            "when they are restarted, and no sooner"
        )


def _of_versions(
    request: MultiClusterRequest, found: Mapping[str, Found]
) -> Iterator[LifecycleError]:
    wanted = {name: wanted_version(request, found, name) for name in found}
    lines = {name: v for name, text in wanted.items() if (v := Version.parse(text)) is not None}
    if not lines:
        return
    oldest, newest = min(lines, key=lambda n: lines[n]), max(lines, key=lambda n: lines[n])
    apart = lines[newest].minor - lines[oldest].minor
    if lines[newest].major != lines[oldest].major or apart > 1:
        yield ClustersDiffer(
            f"cluster {oldest} would have Istio {wanted[oldest]} and {newest} {wanted[newest]}",
            cause="Istio's control planes of one mesh are one minor version apart at most",
            remedy="upgrade the older one, or name one version for all",
        )


def _of_roots(
    request: MultiClusterRequest, found: Mapping[str, Found], *, root: str
) -> Iterator[LifecycleError]:
    source = request.options.trust.root
    if source == "existing":
        own = [name for name in found if not request.cluster(name).is_remote]
        bare = [name for name in own if not found[name].get("root")]
        for name in bare:
            yield RootsDiffer(f"cluster {name} has no usable Secret `{SECRET}`")
        roots = {one["root"]: name for name, one in found.items() if one.get("root")}
        if len(roots) > 1:
            told = ", ".join(f"{name} {text[:16]}" for text, name in sorted(roots.items()))
            yield RootsDiffer(f"the clusters have different roots: {told}")
        return
    for name, one in found.items():
        if one.get("root") and one["root"] != root:
            yield RootsDiffer(f"cluster {name} has `{SECRET}` of another root, {one['root'][:16]}")
        elif request.cluster(name).is_remote and not request.options.is_external:
            continue
        elif not one.get("root") and one.get("selfSigned") and one.get("pods") not in ("", "0"):
            yield ClustersDiffer(
                f"the {one['pods']} workloads of cluster {name} have certificates of its own "
                "control plane's root",
                cause="those with certificates of the mesh's root would not trust them",
                remedy="give the root that the cluster has, or send `force: true` in the "
                "LifecycleOptions and restart the cluster's workloads after it",
            )


def _revision(request: MeshRequest, inventory: Inventory) -> str:
    """The named one; else the only one that is there, else the unnamed one."""
    installed = sorted(inventory.revisions())
    if not request.revision_given and len(installed) == 1:
        return installed[0]
    return request.revision


def _root(secret: KubeObject | None) -> dict[str, str]:
    held = standing(data_of(secret)) if secret is not None else None
    if held is None:
        return {"root": "unreadable" if secret is not None else "", "intermediate": ""}
    return {"root": held.root, "intermediate": held.intermediate}


def _unseen(server: str) -> str:
    """Why no other cluster can reach an address; "" where nothing speaks against it."""
    host = urlsplit(server).hostname or ""
    if host == "localhost" or host.endswith(".localhost"):
        return "which each machine takes for itself"
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return ""
    if address.is_loopback or address.is_unspecified:
        return "which each machine takes for itself"
    return "which leads nowhere beyond its link" if address.is_link_local else ""


def _named(cluster: str) -> str:
    return "" if cluster in _UNNAMED else cluster


def _text(spec: Mapping[str, Any], *path: str) -> str:
    place: Any = spec
    for step in path:
        place = place.get(step) if isinstance(place, dict) else None
    return place if isinstance(place, str) else ""
