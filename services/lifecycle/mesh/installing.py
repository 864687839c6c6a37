"""Install and upgrade: checks, plan, waves, readiness, pruning. One function a step.

A repeat finishes what an earlier attempt began: every step is idempotent and nothing depends on
how far the last one came.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

import orjson

from services.chassis.errors import NotReadyInTime, StillDeleting
from services.chassis.kube.objects import Ref
from services.chassis.messages import Phase
from services.chassis.operations.completion import Result
from services.lifecycle.cluster import istio
from services.lifecycle.cluster.connections import Connection, Found
from services.lifecycle.cluster.inventory import Inventory, take_inventory
from services.lifecycle.manifests.objects import (
    PlannedObject,
    Wave,
    by_kind,
    identity,
    in_waves,
    listing,
)
from services.lifecycle.manifests.readiness import await_ready
from services.lifecycle.manifests.work import Work
from services.lifecycle.mesh.crossing import with_crossing
from services.lifecycle.mesh.prechecks import (
    Findings,
    Report,
    check_install,
    check_upgrade,
    kubernetes_minor,
    require_alone,
    system_namespace,
)
from services.lifecycle.mesh.rendering import RenderedMesh, Rendering
from services.lifecycle.mesh.requests import MeshRequest
from services.lifecycle.mesh.safety import check_identity, check_pruned
from services.lifecycle.releases.fetching import Releases

_VALIDATOR = "ValidatingWebhookConfiguration"
_NETWORK_LABEL = "topology.istio.io/network"
# The version of Meshery's own definitions of models. Whoever means Istio's writes 1.0.0.
_PLACEHOLDER = "v1.0.0"


@dataclass(frozen=True, slots=True)
class InstallPlan:
    """The objects of an install, which of them to send, and which to prune."""

    request: MeshRequest
    version: str
    previous: str
    """Version of this revision before; "" for a fresh one."""
    tags: tuple[str, ...]
    objects: tuple[PlannedObject, ...]
    proven: frozenset[Ref]
    stale: tuple[Found, ...]
    taken: tuple[Ref, ...] = ()
    """Objects that another revision has so far."""


BeforeWriting = Callable[[InstallPlan], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Installer:
    """Brings one revision of Istio into a cluster, or changes it."""

    rendering: Rendering
    releases: Releases
    report: Report

    async def check(self, work: Work, request: MeshRequest) -> InstallPlan:
        """All that an install does before its first write."""
        version = await self.releases.wanted(_named_version(work), work)
        return await self._planned(work, request, version)

    async def install(
        self, work: Work, request: MeshRequest, *, before: BeforeWriting | None = None
    ) -> Result:
        """Installs or changes a revision; `before` is called with what is about to be written."""
        plan = await self.check(work, request)
        if before is not None:
            await before(plan)
        await self._carry_out(work, plan)
        await self._prune(work, plan)
        return _result(work, plan)

    async def _planned(self, work: Work, request: MeshRequest, version: str) -> InstallPlan:
        inventory, server = await asyncio.gather(
            take_inventory(work.cluster),
            work.cluster.client.get("/version", subject="the API server's version"),
        )
        namespace = system_namespace(request, inventory, request.revision)
        require_alone(inventory, request.revision, namespace)
        request = replace(request, namespace=namespace)
        minor = kubernetes_minor(server)
        findings = check_install(
            request, version=version, inventory=inventory, kubernetes_minor=minor
        )
        current = _version_in_use(request, inventory)
        if current and current != version:
            broken = await check_upgrade(
                work.cluster,
                self.report,
                current=current,
                target=version,
            )
            findings.refusals += broken.refusals
            findings.warnings += broken.warnings
        warnings = findings.settle(force=request.force)
        tags = _tags(request, inventory)
        work.progress.tell(
            Phase.CHECKED,
            f"Checked: Kubernetes 1.{minor}, {_installed(inventory)}",
            _moved_tags(request, tags, inventory),
        )
        for text in warnings:
            work.progress.warn(f"Check: {text}")
        mesh = await self.rendering.mesh(request, version=version, tags=tags)
        mesh = await with_crossing(self.rendering, request, mesh, inventory)
        plan = await self._plan(work, request, mesh, inventory, tags)
        _tell_plan(work, plan)
        if plan.previous:
            await _require_safe(work, plan)
        return plan

    async def _plan(
        self,
        work: Work,
        request: MeshRequest,
        mesh: RenderedMesh,
        inventory: Inventory,
        tags: tuple[str, ...],
    ) -> InstallPlan:
        taken = {
            planned.ref
            for planned in mesh.objects
            if inventory.owner(planned.ref) not in (None, request.revision)
        }
        kept = tuple(
            planned
            for planned in mesh.objects
            if not inventory.is_newer(planned.ref, mesh.version)
            and not (request.beside and planned.ref in taken)
        )
        namespace = await missing_namespace(work, request)
        objects = (*([namespace] if namespace else []), *kept)
        wanted = {identity(planned.ref) for planned in mesh.objects}
        stale = tuple(
            found
            for found in inventory.of_revision(request.revision)
            if identity(found.ref) not in wanted and _may_prune(found)
        )
        # What the inventory saw in a namespace that is made anew has gone with the old one.
        gone = request.namespace if namespace else None
        live = {ref: found.obj for ref, found in inventory.objects.items() if ref.namespace != gone}
        return InstallPlan(
            request=request,
            version=mesh.version,
            previous=inventory.revisions().get(request.revision, ""),
            tags=tags,
            objects=objects,
            proven=await work.engine.ledger.proven(kept, live),
            stale=stale,
            taken=tuple(sorted(taken)),
        )

    async def _carry_out(self, work: Work, plan: InstallPlan) -> None:
        waves = in_waves(plan.objects)
        fresh = [planned for planned in plan.objects if planned.ref not in plan.proven]
        async with asyncio.TaskGroup() as group:
            established: asyncio.Task[set[Ref]] | None = None
            for number, (wave, objects) in enumerate(waves, start=1):
                if wave is Wave.CUSTOM_RESOURCES and established is not None:
                    _require_established(await established)
                if wave is Wave.WEBHOOKS:
                    objects = await _with_live_failure_policy(work, objects, plan.proven)
                sent = await work.engine.apply_wave(
                    wave, objects, proven=plan.proven, take_over=True
                )
                if fresh:
                    # Of a plan that sends nothing all is told.
                    _tell_wave(work, wave, number, len(waves), len(objects), sent)
                if wave is Wave.FOUNDATIONS:
                    established = group.create_task(work.engine.established(fresh))
                else:
                    # While the cluster works on the wave, the records of applied objects are kept.
                    group.create_task(work.engine.ledger.settle_meanwhile())
                await await_ready(work, objects, within=plan.request.readiness_timeout)
            if established is not None:
                _require_established(await established)

    async def _prune(self, work: Work, plan: InstallPlan) -> None:
        if not plan.stale:
            return
        removed = await work.engine.delete_all([found.ref for found in plan.stale])
        work.progress.tell(
            Phase.PRUNED,
            f"Pruned {len(removed)} objects that this version no longer has",
            listing(removed),
            numbers={"objects": len(removed)},
        )


async def _require_safe(work: Work, plan: InstallPlan) -> None:
    """Refuses what would harm a mesh in use, unless forced."""
    fresh = [planned for planned in plan.objects if planned.ref not in plan.proven]
    judged = [] if plan.request.identity_judged else fresh
    found = await asyncio.gather(
        check_pruned(work.cluster, plan.stale), check_identity(work.cluster, judged)
    )
    findings = Findings(refusals=[text for part in found for text in part.refusals])
    for text in findings.settle(force=plan.request.force):
        work.progress.warn(f"Check: {text}")


async def _with_live_failure_policy(
    work: Work, objects: Sequence[PlannedObject], proven: Collection[Ref]
) -> list[PlannedObject]:
    """The objects, with `failurePolicy: Fail` where the live validator has it.

    The charts render `Ignore`; istiod changes that to `Fail` once it can answer. Sending `Ignore`
    again would open a gap until istiod closes it.
    """
    sent = []
    for planned in objects:
        if planned.ref.kind == _VALIDATOR and planned.ref not in proven:
            planned = await _with_policy(work.cluster, planned)
        sent.append(planned)
    return sent


async def _with_policy(cluster: Connection, planned: PlannedObject) -> PlannedObject:
    live = await cluster.get(planned.ref) or {}
    closed = {w["name"] for w in live.get("webhooks") or [] if w.get("failurePolicy") == "Fail"}
    wanted = orjson.loads(planned.body)
    changed = False
    for webhook in wanted.get("webhooks") or []:
        if webhook["name"] in closed and webhook.get("failurePolicy") == "Ignore":
            webhook["failurePolicy"] = "Fail"
            changed = True
    return replace(planned, body=orjson.dumps(wanted)) if changed else planned


def _named_version(work: Work) -> str:
    """The version that somebody chose; "" where nobody did."""
    version = work.command.version.strip()
    if version != _PLACEHOLDER:
        return version
    work.progress.note(
        f"{_PLACEHOLDER} is what Meshery's page sends where it knows no version: none is named",
        "MESHBUS_GATEWAY_MESHERY lets the page offer the versions that can be installed.",
    )
    return ""


def _version_in_use(request: MeshRequest, inventory: Inventory) -> str:
    """The version that the users' objects live with now; "" for a fresh mesh.

    A canary beside an older revision gets the same objects, and its definitions replace the older
    ones, so its neighbour's version counts where it has none of its own.
    """
    revisions = inventory.revisions()
    own = revisions.get(request.revision, "")
    return own or min(filter(None, revisions.values()), default="")


def _tags(request: MeshRequest, inventory: Inventory) -> tuple[str, ...]:
    """Named tags exactly; else those that the revision has, and the default one for the first."""
    if request.tags is not None:
        return request.tags
    current = inventory.tags()
    kept = [tag for tag, revision in current.items() if revision == request.revision]
    first = not inventory.revisions() and request.revision != istio.DEFAULT_REVISION
    if first and istio.DEFAULT_TAG not in current:
        kept.append(istio.DEFAULT_TAG)
    return tuple(sorted(kept))


def _installed(inventory: Inventory) -> str:
    revisions = inventory.revisions()
    if not revisions:
        return "no Istio installed yet"
    parts = [f"revision {name} ({version or '?'})" for name, version in sorted(revisions.items())]
    return "installed: " + ", ".join(parts)


def _moved_tags(request: MeshRequest, tags: tuple[str, ...], inventory: Inventory) -> str:
    current = inventory.tags()
    moved = [
        f"tag {tag} moves from revision {current[tag]} to {request.revision}"
        for tag in tags
        if current.get(tag, request.revision) != request.revision
    ]
    return "; ".join(moved)


async def missing_namespace(work: Work, request: MeshRequest) -> PlannedObject | None:
    """The system namespace when the cluster lacks it, marked as ours; a dying one is awaited."""
    ref = Ref("v1", "Namespace", "", request.namespace)
    live = await work.cluster.get(ref)
    if live is not None and live["metadata"].get("deletionTimestamp"):
        work.progress.note(f"Waiting until the old namespace {request.namespace} is gone")
        if await work.engine.gone([ref], within=request.readiness_timeout):
            raise StillDeleting(
                f"namespace {request.namespace} is still being deleted", subject=str(ref)
            )
        live = None
    if live is not None:
        return None
    metadata: dict[str, Any] = {
        "name": request.namespace,
        "annotations": {istio.CREATED_BY: work.command.operation},
    }
    network = _network(request)
    if network:
        metadata["labels"] = {_NETWORK_LABEL: network}
    made = {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}
    istio.claim_namespace(made)
    return PlannedObject.of(made)


def _network(request: MeshRequest) -> str:
    values = request.overlay.get("values")
    settings = values.get("global") if isinstance(values, dict) else None
    network = settings.get("network") if isinstance(settings, dict) else None
    return network if isinstance(network, str) else ""


def _may_prune(found: Found) -> bool:
    owned_by_another = bool(found.obj["metadata"].get("ownerReferences"))
    kept = found.labels.get(istio.NOT_PRUNED) == "true"
    return not owned_by_another and not kept


def _require_established(late: set[Ref]) -> None:
    if late:
        first = min(late)
        raise NotReadyInTime(
            f"not established after a minute: {listing(sorted(late))}",
            cause="the API server did not accept the definitions' names",
            subject=str(first),
        )


def _tell_plan(work: Work, plan: InstallPlan) -> None:
    total, proven = len(plan.objects), len(plan.proven)
    action = f"upgrade from {plan.previous} to" if _is_upgrade(plan) else "install"
    tags = f", tags {', '.join(plan.tags)}" if plan.tags else ""
    work.progress.tell(
        Phase.PLANNED,
        f"Plan: {action} Istio {plan.version}, profile {plan.request.profile}, "
        f"revision {plan.request.revision}{tags}: {total} objects, {total - proven} to send",
        ". ".join(
            (
                by_kind(planned.ref for planned in plan.objects),
                *([f"To be pruned: {listing([f.ref for f in plan.stale])}"] if plan.stale else []),
            )
        ),
        numbers={
            "objects": total,
            "unchanged": proven,
            "to_prune": len(plan.stale),
        },
    )


def _tell_wave(work: Work, wave: Wave, number: int, of: int, objects: int, sent: int) -> None:
    work.progress.tell(
        Phase.WAVE,
        f"Wave {number} of {of}, {wave.title}: {sent} applied, {objects - sent} unchanged",
        numbers={"objects": objects, "applied": sent, "seconds": work.progress.seconds},
    )


def _is_upgrade(plan: InstallPlan) -> bool:
    return bool(plan.previous) and plan.previous != plan.version


def _result(work: Work, plan: InstallPlan) -> Result:
    outcome = work.engine.outcome
    sent, unchanged = len(outcome.applied), len(plan.proven)
    origin = f" (upgraded from {plan.previous})" if _is_upgrade(plan) else ""
    tags = f", tags {', '.join(plan.tags)}" if plan.tags else ""
    return Result(
        f"Istio service mesh {plan.version} installed successfully{origin}",
        f"The Istio mesh is now installed: version {plan.version}, revision "
        f"{plan.request.revision}{tags}, profile {plan.request.profile}; {sent} objects applied, "
        f"{unchanged} unchanged, {len(plan.stale)} pruned in {work.progress.seconds:.2f} s",
        (
            ("objects", len(plan.objects)),
            ("applied", sent),
            ("unchanged", unchanged),
            ("pruned", len(plan.stale)),
            ("seconds", work.progress.seconds),
        ),
    )
