"""Uninstall: deletes one revision; with the last one, everything that install made.

Definitions stay while users have resources of them, unless the request asks for a purge; the system
namespace goes only when install made it and it holds no other objects.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import timedelta

from services.chassis.errors import ClusterError, StillDeleting
from services.chassis.kube.objects import Ref, annotations_of
from services.chassis.messages import Phase
from services.chassis.operations.completion import Result
from services.lifecycle.cluster import istio
from services.lifecycle.cluster.connections import Found
from services.lifecycle.cluster.inventory import Inventory, take_inventory
from services.lifecycle.manifests.objects import CRD, NAMESPACE, Wave, by_kind, listing, wave_of
from services.lifecycle.manifests.work import Work
from services.lifecycle.mesh.prechecks import (
    check_uninstall,
    require_alone,
    revisions_to_remove,
    system_namespace,
)
from services.lifecycle.mesh.requests import MeshRequest
from services.lifecycle.mesh.safety import check_last

_GONE_WITHIN = timedelta(seconds=120)

# ConfigMaps that istiod puts into every namespace, the second one with or without revocations.
_ISTIODS_EVERYWHERE = frozenset({"istio-ca-root-cert", "istio-ca-crl"})
_ISTIODS_LABEL = "istio.io/config=true"
# What Kubernetes itself puts into every namespace, and istiod.
_IN_EVERY_NAMESPACE = frozenset(
    {
        ("ConfigMap", "kube-root-ca.crt"),
        ("ServiceAccount", "default"),
        *(("ConfigMap", name) for name in _ISTIODS_EVERYWHERE),
    }
)
# Kinds whose objects are derived from others: they do not keep a namespace.
_DERIVED_KINDS = frozenset({"Event", "Endpoints", "EndpointSlice", "Lease", "PodMetrics"})
_SELF_SIGNED_CA = "istio-ca-secret"
_LEADER = "control-plane.alpha.kubernetes.io/leader"
"""Annotation of the ConfigMaps that client-go's leader election keeps."""


@dataclass(frozen=True, slots=True)
class Removal:
    """Objects that an uninstall deletes, and definitions that it keeps."""

    revisions: tuple[str, ...]
    is_last: bool
    objects: tuple[Found, ...]
    kept_definitions: tuple[tuple[str, int], ...] = ()
    """Definition and the number of users' resources of it."""
    purged_resources: tuple[Found, ...] = ()
    system: str = ""
    """The mesh's namespace, which goes with the last revision."""

    @property
    def title(self) -> str:
        """The revisions in words; an interrupted uninstall may have left only shared objects."""
        return ", ".join(self.revisions) or "(leftovers)"


async def uninstall(work: Work, request: MeshRequest) -> Result:
    removal = await check_removal(work, request)
    if removal is None:
        return Result(
            "Istio service mesh removed successfully: it was not installed",
            "No object in the cluster carries Istio's installation labels.",
        )
    await _tell_plan(work, removal)
    await _carry_out(work, removal)
    namespace = await _end(work, removal.system) if removal.is_last else ""
    return _result(work, removal, namespace)


async def check_removal(work: Work, request: MeshRequest) -> Removal | None:
    """What would be deleted, without a write; None where nothing is installed. Raises all that an
    uninstall refuses with."""
    inventory = await take_inventory(work.cluster)
    revisions = revisions_to_remove(request, inventory)
    if not revisions and not inventory.objects:
        return None
    if request.revision_given or request.namespace_given or not request.purge:
        for name in revisions:
            require_alone(inventory, name, system_namespace(request, inventory, name))
    check_uninstall(revisions=revisions, inventory=inventory, force=request.force)
    removal = await _plan(work, request, inventory, revisions)
    if removal.is_last:
        left = await check_last(work.cluster, revisions)
        for text in left.settle(force=request.force):
            work.progress.warn(f"Check: {text}")
    return replace(removal, system=inventory.namespace(request.namespace))


async def _plan(
    work: Work,
    request: MeshRequest,
    inventory: Inventory,
    revisions: tuple[str, ...],
) -> Removal:
    is_last = all(name in revisions for name in inventory.revisions())
    owned = [found for name in revisions for found in inventory.of_revision(name)]
    mine = [found for found in owned if not _is_dependent(found)]
    if not is_last:
        return Removal(revisions, False, tuple(mine))
    shared = [
        found
        for found in inventory.shared()
        if not _is_dependent(found) and found.ref.group_kind != NAMESPACE
    ]
    definitions = [found for found in shared if found.ref.group_kind == CRD]
    others = [found for found in shared if found.ref.group_kind != CRD]
    used = await _users_resources(work, definitions)
    if request.purge:
        purged = [resource for resources in used.values() for resource in resources]
        return Removal(revisions, True, (*mine, *others, *definitions), (), tuple(purged))
    free = [found for found in definitions if not used.get(found.ref)]
    kept = tuple((ref.name, len(resources)) for ref, resources in used.items() if resources)
    return Removal(revisions, True, (*mine, *others, *free), kept)


async def _users_resources(work: Work, definitions: Iterable[Found]) -> dict[Ref, list[Found]]:
    """Resources of each definition that no install made."""

    async def of(definition: Found) -> list[Found]:
        plural, _, group = definition.ref.name.partition(".")
        kind = await work.cluster.resources.kind_of(group, plural)
        if kind is None:
            return []
        found = await work.cluster.select([(group, kind)])
        return [f for f in found if istio.COMPONENT not in f.labels]

    listed = list(definitions)
    answers = await asyncio.gather(*(of(definition) for definition in listed))
    return {d.ref: sorted(a, key=lambda f: f.ref) for d, a in zip(listed, answers, strict=True)}


async def _carry_out(work: Work, removal: Removal) -> None:
    """Deletes backwards through the waves, each in the foreground: dependents go first."""
    if removal.purged_resources:
        await _delete(work, [f.ref for f in removal.purged_resources], "Background")
    waves: dict[Wave, list[Ref]] = {}
    for found in removal.objects:
        component = found.labels.get(istio.COMPONENT, "")
        waves.setdefault(wave_of(found.ref, component), []).append(found.ref)
    for number, (wave, refs) in enumerate(sorted(waves.items(), reverse=True), start=1):
        await _delete(work, refs, "Foreground")
        work.progress.tell(
            Phase.WAVE,
            f"Wave {number} of {len(waves)}, {wave.title}: {len(refs)} deleted",
            by_kind(refs),
            numbers={"objects": len(refs), "seconds": work.progress.seconds},
        )


async def _delete(work: Work, refs: list[Ref], cascade: str) -> None:
    await work.engine.delete_all(refs, cascade=cascade)
    late = await work.engine.gone(refs, within=_GONE_WITHIN)
    if late:
        raise StillDeleting(
            f"still being deleted after {_GONE_WITHIN.total_seconds():.0f} s: "
            f"{listing(sorted(late))}",
            subject=str(min(late)),
        )


async def _end(work: Work, namespace: str) -> str:
    """Deletes istiod's leftovers and then the namespace; returns "gone" or why it was kept."""
    leftovers = await _leftovers(work, namespace)
    await work.engine.delete_all(leftovers)
    ref = Ref("v1", "Namespace", "", namespace)
    live = await work.cluster.get(ref)
    if live is None:
        return "gone"
    if istio.CREATED_BY not in annotations_of(live):
        return "kept: it was there before the mesh"
    try:
        found = await residents(work, namespace)
    except ClusterError:
        return "kept: not everything in it could be seen (docs/reference/rbac.md)"
    if found:
        return f"kept: it holds {listing(found, limit=5)}"
    await _delete(work, [ref], "Background")
    return "gone"


async def _leftovers(work: Work, namespace: str) -> list[Ref]:
    """ConfigMaps and the self-signed CA that a running istiod made."""
    spread, inside = await asyncio.gather(
        work.cluster.select([("", "ConfigMap")], selector=_ISTIODS_LABEL),
        work.cluster.select(
            [("", "ConfigMap"), ("", "Secret"), ("coordination.k8s.io", "Lease")],
            namespace=namespace,
        ),
    )
    everywhere = [found.ref for found in spread if found.ref.name in _ISTIODS_EVERYWHERE]
    runtime = [found.ref for found in inside if _is_istiods(found)]
    return list(dict.fromkeys([*everywhere, *runtime]))


async def residents(work: Work, namespace: str) -> list[Ref]:
    """Objects of users in the namespace, of all kinds that the cluster serves."""
    kinds = [
        k for k in await work.cluster.resources.namespaced_kinds() if k[1] not in _DERIVED_KINDS
    ]
    found = await work.cluster.select(kinds, namespace=namespace)
    return [
        f.ref
        for f in found
        if (f.ref.kind, f.ref.name) not in _IN_EVERY_NAMESPACE and not _is_dependent(f)
    ]


def _is_istiods(found: Found) -> bool:
    """True for objects that istiod made: its self-signed CA, and its leader elections."""
    match found.ref.kind:
        case "Secret":
            return found.ref.name == _SELF_SIGNED_CA
        case "ConfigMap":
            return found.ref.name.startswith("istio-") and _LEADER in annotations_of(found.obj)
        case "Lease":
            return found.ref.name.startswith("istio-")
    return False


def _is_dependent(found: Found) -> bool:
    """True for an object that is deleted with its owner."""
    return bool(found.obj["metadata"].get("ownerReferences"))


async def _tell_plan(work: Work, removal: Removal) -> None:
    refs = [found.ref for found in removal.objects]
    scope = "the last revision, with what all share" if removal.is_last else "other revisions stay"
    work.progress.tell(
        Phase.PLANNED,
        f"Plan: delete revision {removal.title}: {len(refs)} objects ({scope})",
        by_kind(refs),
        numbers={"objects": len(refs), "purged": len(removal.purged_resources)},
    )
    if removal.kept_definitions:
        work.progress.warn(
            f"{len(removal.kept_definitions)} definitions stay: users have resources of them",
            _kept_text(removal),
        )
    if not removal.revisions:
        return
    selector = f"{istio.REVISION} in ({','.join(removal.revisions)})"
    asking = await work.cluster.select([("", "Namespace")], selector=selector)
    if asking:
        work.progress.warn(
            f"{len(asking)} namespaces still ask for injection by revision {removal.title}",
            listing([found.ref for found in asking]),
        )


def _kept_text(removal: Removal) -> str:
    parts = [f"{name} ({count})" for name, count in removal.kept_definitions]
    return (
        f"Kept because of users' resources: {', '.join(parts)}. To delete the definitions and the "
        "resources with them, send `purge: true` in LifecycleOptions."
    )


def _result(work: Work, removal: Removal, namespace: str) -> Result:
    deleted = len(work.engine.outcome.deleted)
    seconds = work.progress.seconds
    parts = [f"The Istio mesh is now removed: revision {removal.title}, {deleted} objects deleted"]
    parts[0] += f" in {seconds:.2f} s."
    if namespace:
        parts.append(f"The system namespace is {namespace}.")
    if removal.kept_definitions:
        parts.append(_kept_text(removal))
    return Result(
        "Istio service mesh removed successfully",
        " ".join(parts),
        (("deleted", deleted), ("seconds", work.progress.seconds)),
    )
