"""The operation `custom`: any manifest, applied or deleted through the engine as it is."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from services.chassis.errors import (
    KindUnknown,
    ManifestMalformed,
    ManifestRefused,
    NotYetSupported,
)
from services.chassis.kube.manifests import parse_documents, parse_manifest
from services.chassis.kube.objects import KubeObject, Ref
from services.chassis.messages import Phase, Verb
from services.lifecycle.engine import never
from services.lifecycle.planning import CRD, PlannedObject, Wave, by_kind, in_waves, listing
from services.lifecycle.rendering import planned_object
from services.lifecycle.work import Result, Work

_GONE_WITHIN = timedelta(seconds=30)
_SMI_GROUPS = (
    "split.smi-spec.io",
    "access.smi-spec.io",
    "specs.smi-spec.io",
    "metrics.smi-spec.io",
)


async def run_manifest(work: Work) -> Result:
    """Applies or deletes the manifest in the command's body."""
    objects = read_manifest(work.command.body)
    await _place(work, objects)
    planned = [planned_object(obj) for obj in objects]
    _refuse_twins(planned)
    work.progress.tell(
        Phase.PLANNED,
        f"Plan: {work.command.verb} {len(planned)} objects",
        by_kind(p.ref for p in planned),
        numbers={"objects": len(planned)},
    )
    if work.command.verb is Verb.DELETE:
        return await _delete(work, planned)
    return await _apply(work, planned)


def read_manifest(body: str) -> list[KubeObject]:
    """The manifest's objects; what needs the translator is refused by name."""
    if not body.strip():
        raise ManifestMalformed("the request has no manifest in its body")
    _refuse_designs(body)
    objects = parse_manifest(body)
    for obj in objects:
        group = str(obj["apiVersion"]).rpartition("/")[0]
        if group in _SMI_GROUPS:
            raise NotYetSupported(f"{obj['kind']} of {group} has to be translated for Istio first")
        if group == "core.oam.dev":
            raise NotYetSupported(f"the OAM {obj['kind']} has to be translated first")
        if group == "install.istio.io":
            raise ManifestRefused(
                "an IstioOperator is not an object of a cluster",
                remedy="send it as the body of the operation `istio`",
            )
    return objects


def _refuse_designs(body: str) -> None:
    for document in parse_documents(body):
        if not isinstance(document, dict) or "kind" in document:
            continue
        schema = str(document.get("schemaVersion", ""))
        if schema.startswith("designs.meshery.io/") or isinstance(document.get("services"), dict):
            raise NotYetSupported("a Meshery design has to be translated first")


async def _place(work: Work, objects: Sequence[KubeObject]) -> None:
    """Puts the request's namespace on namespaced objects that have none."""
    own = _defined_here(objects)
    for obj in objects:
        namespaced = own.get((str(obj["apiVersion"]).rpartition("/")[0], str(obj["kind"])))
        if namespaced is None:
            resource = await work.resources.find(str(obj["apiVersion"]), str(obj["kind"]))
            namespaced = resource.namespaced
        metadata = obj["metadata"]
        if namespaced:
            metadata["namespace"] = metadata.get("namespace") or work.command.namespace
        else:
            metadata.pop("namespace", None)


def _defined_here(objects: Sequence[KubeObject]) -> dict[tuple[str, str], bool]:
    """Kinds that the manifest itself defines, and whether they are namespaced."""
    defined: dict[tuple[str, str], bool] = {}
    for obj in objects:
        if Ref.of(obj).group_kind == CRD:
            spec = _mapping(obj.get("spec"))
            kind = str(_mapping(spec.get("names")).get("kind", ""))
            defined[(str(spec.get("group", "")), kind)] = spec.get("scope") == "Namespaced"
    return defined


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _refuse_twins(planned: Sequence[PlannedObject]) -> None:
    seen: set[Ref] = set()
    for one in planned:
        if one.ref in seen:
            raise ManifestMalformed(f"{one.ref} stands in the manifest twice")
        seen.add(one.ref)


async def _apply(work: Work, planned: Sequence[PlannedObject]) -> Result:
    waves = in_waves(planned)
    for number, (wave, objects) in enumerate(waves, start=1):
        await work.engine.apply_wave(wave, objects, skip=never)
        work.progress.tell(
            Phase.WAVE,
            f"Wave {number} of {len(waves)}, {wave.title}: {len(objects)} applied",
            listing([p.ref for p in objects]),
            numbers={"objects": len(objects)},
        )
        if wave is Wave.FOUNDATIONS:
            late = await work.engine.established(objects)
            if late:
                raise KindUnknown(f"not established after a minute: {listing(sorted(late))}")
    outcome = work.engine.outcome
    for ref, conflict in outcome.taken_over.items():
        work.progress.warn(f"{ref}: fields were taken over from another manager", conflict)
    created = sum(1 for applied in outcome.applied.values() if applied.created)
    return Result(
        "Manifest deployed successfully",
        f"{len(planned)} objects: {created} created, {len(planned) - created} configured; "
        + listing([p.ref for p in planned]),
        (("objects", len(planned)), ("created", created), ("seconds", work.progress.seconds)),
    )


async def _delete(work: Work, planned: Sequence[PlannedObject]) -> Result:
    removed: list[Ref] = []
    late: set[Ref] = set()
    for _, objects in reversed(in_waves(planned)):
        deleted = await work.engine.delete_all([p.ref for p in objects])
        removed += deleted
        late |= await work.engine.gone(deleted, within=_GONE_WITHIN)
    if late:
        work.progress.warn("Some objects wait for their finalizers", listing(sorted(late)))
    absent = len(planned) - len(removed)
    return Result(
        "Manifest removed successfully",
        f"{len(removed)} objects deleted, {absent} were not there; " + listing(removed),
        (("deleted", len(removed)), ("absent", absent), ("seconds", work.progress.seconds)),
    )
