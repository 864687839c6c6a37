"""What was applied where: the record that lets a repeat send nothing.

An object is skipped only on proof: the record has the same text for it, and the live object is the
very one that the record saw (same UID) and nobody has touched it since (same resource version; or,
since status writes change that, the same generation with all our labels and annotations there).
Without the record everything is sent again, which is slower and just as right.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from services.chassis.kube.applying import Applied
from services.chassis.kube.objects import KubeObject, Ref, annotations_of, labels_of
from services.chassis.messages.models import Message
from services.lifecycle.cluster.inventory import Inventory
from services.lifecycle.manifests.objects import PlannedObject


class AppliedRecord(Message):
    """How one object was when we applied it."""

    digest: str
    uid: str
    resource_version: str
    generation: int = 0


class Intent(Message):
    """The value of `intents/<cluster>.<revision>`."""

    revision: str
    version: str
    objects: dict[str, AppliedRecord]


def key_of(ref: Ref) -> str:
    """An object's key in an intent."""
    return f"{ref.api_version}/{ref.kind}/{ref.namespace}/{ref.name}"


def is_proven(planned: PlannedObject, intent: Intent | None, inventory: Inventory) -> bool:
    """True when the cluster has the object exactly as planned."""
    record = intent.objects.get(key_of(planned.ref)) if intent else None
    found = inventory.objects.get(planned.ref)
    if record is None or found is None or record.digest != planned.digest:
        return False
    metadata = found.obj["metadata"]
    if metadata.get("uid") != record.uid:
        return False
    if metadata.get("resourceVersion") == record.resource_version:
        return True
    generation = int(metadata.get("generation") or 0)
    return (
        generation > 0
        and generation == record.generation
        and _contains(labels_of(found.obj), planned.labels)
        and _contains(annotations_of(found.obj), planned.annotations)
    )


def _contains(live: Mapping[str, str], wanted: Iterable[tuple[str, str]]) -> bool:
    return all(live.get(name) == value for name, value in wanted)


def recorded(
    objects: Iterable[PlannedObject],
    applied: Mapping[Ref, Applied],
    *,
    before: Intent | None,
    revision: str,
    version: str,
) -> Intent:
    """The intent after an operation: what it applied, and what it found unchanged."""
    records: dict[str, AppliedRecord] = {}
    for planned in objects:
        key = key_of(planned.ref)
        done = applied.get(planned.ref)
        if done is not None:
            records[key] = _record(planned.digest, done.obj)
        elif before is not None and key in before.objects:
            records[key] = before.objects[key]
    return Intent(revision=revision, version=version, objects=records)


def _record(digest: str, obj: KubeObject) -> AppliedRecord:
    metadata = obj["metadata"]
    return AppliedRecord(
        digest=digest,
        uid=metadata["uid"],
        resource_version=metadata["resourceVersion"],
        generation=int(metadata.get("generation") or 0),
    )
