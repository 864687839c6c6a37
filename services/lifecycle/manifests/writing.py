"""Objects applied or deleted as they are, in waves: the operation `manifest`, and steps of others.

The operation `manifest` reads them from YAML; plans and applications bring them decoded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from services.chassis.bus.intents import is_healing
from services.chassis.errors import (
    KindUnknown,
    ManifestMalformed,
    ManifestRefused,
)
from services.chassis.kube.manifests import parse_manifest
from services.chassis.kube.objects import KubeObject, Ref
from services.chassis.messages import Phase, Verb
from services.chassis.operations.completion import Result
from services.lifecycle.manifests.objects import (
    CRD,
    PlannedObject,
    Wave,
    by_kind,
    in_waves,
    listing,
)
from services.lifecycle.manifests.reach import Reach
from services.lifecycle.manifests.work import Work

_GONE_WITHIN = timedelta(seconds=30)
_TRANSLATED_GROUPS = (
    "split.smi-spec.io",
    "access.smi-spec.io",
    "specs.smi-spec.io",
    "core.oam.dev",
)


async def run_manifest(work: Work) -> Result:
    """Applies or deletes the manifest in the command's body."""
    objects = read_manifest(work.command.body)
    await set_namespaces(work, objects, is_deletion=work.command.verb is Verb.DELETE)
    planned = [PlannedObject.of(obj) for obj in objects]
    refuse_duplicates(planned)
    Reach.of(work.command).require(one.ref for one in planned)
    tell_plan(work, planned)
    if work.command.verb is Verb.DELETE:
        deletion = await delete_objects(work, planned)
        return Result("Manifest removed successfully", str(deletion), deletion.numbers(work))
    if is_healing(work.command.operation):
        planned = await work.engine.ledger.still_intended(planned)
    await apply_objects(work, planned)
    created = sum(1 for applied in work.engine.outcome.applied.values() if applied.created)
    return Result(
        "Manifest deployed successfully",
        f"{len(planned)} objects: {created} created, {len(planned) - created} configured; "
        + listing([p.ref for p in planned]),
        (("objects", len(planned)), ("created", created), ("seconds", work.progress.seconds)),
    )


def tell_plan(work: Work, planned: Sequence[PlannedObject]) -> None:
    work.progress.tell(
        Phase.PLANNED,
        f"Plan: {work.command.verb} {len(planned)} objects",
        by_kind(p.ref for p in planned),
        numbers={"objects": len(planned)},
    )


def read_manifest(body: str) -> list[KubeObject]:
    """The manifest's objects; raises `ManifestRefused` for kinds that need the translator.

    The gateway sends manifests to the translator, so this is for a person with the nats CLI.
    """
    if not body.strip():
        raise ManifestMalformed("the request has no manifest in its body")
    objects = parse_manifest(body)
    for obj in objects:
        group = str(obj["apiVersion"]).rpartition("/")[0]
        if group in _TRANSLATED_GROUPS:
            raise ManifestRefused(
                f"{obj['kind']} of {group} has to be translated for Istio first",
                cause="lifecycle applies objects as they are",
                remedy="ask the gateway for `custom`, or sign the command and send it to "
                "cmd.translator.<cluster>.apply.<operation> (docs/how-to/operate.md)",
            )
        if group == "install.istio.io":
            raise ManifestRefused(
                "an IstioOperator is not an object of a cluster",
                remedy="send it as the body of the operation `istio`",
            )
    return objects


async def set_namespaces(
    work: Work, objects: Sequence[KubeObject], *, is_deletion: bool = False
) -> None:
    """Puts the request's namespace on namespaced objects that have none.

    Raises `KindUnknown`, but not for a deletion: of a kind that is gone there are no objects.
    """
    own = _defined_here(objects)
    for obj in objects:
        namespaced = own.get((str(obj["apiVersion"]).rpartition("/")[0], str(obj["kind"])))
        if namespaced is None:
            try:
                resource = await work.cluster.resources.find(
                    str(obj["apiVersion"]), str(obj["kind"])
                )
            except KindUnknown:
                if not is_deletion:
                    raise
                continue
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


def refuse_duplicates(planned: Sequence[PlannedObject]) -> None:
    seen: set[Ref] = set()
    for one in planned:
        if one.ref in seen:
            raise ManifestMalformed(f"{one.ref} is in the manifest twice")
        seen.add(one.ref)


async def apply_objects(work: Work, planned: Sequence[PlannedObject]) -> None:
    """Applies objects in dependency waves, each an event; conflicts are taken over and told."""
    waves = in_waves(planned)
    for number, (wave, objects) in enumerate(waves, start=1):
        await work.engine.apply_wave(wave, objects)
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
    for applied in [work.engine.outcome.applied[one.ref] for one in planned]:
        if applied.taken_over:
            text = f"{applied.ref}: fields were taken over from another manager"
            work.progress.warn(text, applied.taken_over)


@dataclass(frozen=True, slots=True)
class Deletion:
    """Objects that a deletion removed, and how many were absent."""

    removed: Sequence[Ref]
    absent: int

    def __str__(self) -> str:
        return f"{len(self.removed)} objects deleted, {self.absent} were not there; " + listing(
            self.removed
        )

    def numbers(self, work: Work) -> tuple[tuple[str, float], ...]:
        return (
            ("deleted", len(self.removed)),
            ("absent", self.absent),
            ("seconds", work.progress.seconds),
        )


async def delete_objects(work: Work, planned: Sequence[PlannedObject]) -> Deletion:
    """Deletes objects in the opposite order, and waits until they are gone."""
    removed: list[Ref] = []
    late: set[Ref] = set()
    for _, objects in reversed(in_waves(planned)):
        deleted = await work.engine.delete_all([p.ref for p in objects])
        removed += deleted
        late |= await work.engine.gone(deleted, within=_GONE_WITHIN)
    if late:
        work.progress.warn("Some objects wait for their finalizers", listing(sorted(late)))
    return Deletion(removed, absent=len(planned) - len(removed))
