"""The record of each applied object, in the bucket `intents`.

Two readers stand on it. Topology measures drift by it. A repeat of an install skips an object by
it, on proof only: the record has the same text, and the live object is the very one that the record
saw (same UID) and untouched since (same resource version; or, since status writes change that, the
same generation with all our labels and annotations there). An object without a record is sent
again, which is slower and just as right.

A record holds the API server's answer to our write and no later read: a change that somebody makes
right after our write would pass for ours. It is forgotten before its object is deleted, so that our
own deletion is no drift. Secrets have no record.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import orjson
import structlog

from services.chassis import hiding
from services.chassis.bus import envelopes
from services.chassis.bus.intents import (
    DRIFT,
    DRIFT_IGNORE,
    MODES,
    AppliedObject,
    Proof,
    concealed,
    heals,
    is_healing,
    key_of,
    kind_token,
    namespace_token,
    packed,
    prefix_of,
    proof_headers,
    proof_of,
    unpacked,
    whole,
)
from services.chassis.bus.records import Bucket, Entry
from services.chassis.errors import (
    ClusterError,
    InvalidMessage,
    MeshbusError,
    NamespaceMissing,
    ObjectNotFound,
)
from services.chassis.kube.applying import own_entry
from services.chassis.kube.defaults import added
from services.chassis.kube.objects import KubeObject, Ref, annotations_of, labels_of
from services.chassis.messages import Command
from services.chassis.sealing import Keys
from services.lifecycle.cluster import istio
from services.lifecycle.manifests.objects import CRD, NAMESPACE, PlannedObject
from services.lifecycle.manifests.restoring import restores

_PARALLEL = 16
_SECRET = ("", "Secret")
_AT_EACH_WRITE = ("digest", "uid", "resource_version", "generation", "fields", "defaults", "time")
"""Fields that each write of an object renews, also one that puts it back."""

T = TypeVar("T")
R = TypeVar("R")

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Ledger:
    """The records that one operation reads and writes on one cluster."""

    bucket: Bucket
    command: Command
    identity: Callable[[], Awaitable[str]] | None = None
    """Reads the cluster's own identity, which its address does not tell."""
    keys: Keys = envelopes.NO_KEYS
    """Seals and opens what nobody else has to read in an object."""
    _pending: dict[Ref, tuple[PlannedObject, KubeObject]] = field(default_factory=dict)

    async def proven(
        self, objects: Iterable[PlannedObject], live: Mapping[Ref, KubeObject]
    ) -> frozenset[Ref]:
        """Which of `objects` the cluster has exactly as planned, and need not be sent."""
        there = {self._key(planned.ref): planned for planned in objects if planned.ref in live}
        entries = await self.bucket.get_all(there)
        return frozenset(
            there[key].ref
            for key, entry in entries.items()
            if self._proves(entry, there[key], live[there[key].ref])
        )

    def _proves(self, entry: Entry, planned: PlannedObject, live: KubeObject) -> bool:
        try:
            proof = proof_of(entry.value, entry.headers, keys=self.keys)
        except InvalidMessage:
            return False  # written by another version of ours: the next apply writes it again
        return _is_untouched(planned, proof, live) and proof.says(planned.digest, keys=self.keys)

    def applied(self, planned: PlannedObject, answer: KubeObject) -> None:
        """Notes an applied object and the API server's answer, to be kept by `settle`."""
        if planned.ref.group_kind != _SECRET:
            self._pending[planned.ref] = planned, answer

    async def settle(self) -> None:
        """Keeps records of applied objects; it may run beside further applies."""
        pending, self._pending = self._pending, {}
        try:
            uid = await self._identity() if pending else ""
            records = [self._record(*pair, uid) for pair in pending.values()]
            await side_by_side(self._keep, records, parallel=_PARALLEL)
        except BaseException:
            # The next call keeps them; objects applied since are newer.
            self._pending = pending | self._pending
            raise

    async def settle_meanwhile(self) -> None:
        """Settles beside the work; a bus that is away for a moment does not end the operation."""
        try:
            await self.settle()
        except MeshbusError as error:
            log.warning("intents_kept_later", reason=error.summary)

    async def forget(self, refs: Iterable[Ref], *, kinds: Mapping[Ref, str]) -> None:
        """Forgets objects that are about to be deleted, and the objects that go with them.

        `kinds` has the kinds that the definitions among `refs` define, as `group/Kind`.
        """
        refs = list(refs)
        if not refs:
            return
        known = await self._known(refs, kinds)
        doomed: set[str] = set()
        for ref in refs:
            self._pending.pop(ref, None)
            doomed.add(self._key(ref))
            if ref.group_kind == NAMESPACE:
                doomed |= {key for key in known if _namespace_in(key) == namespace_token(ref.name)}
            elif ref.group_kind == CRD and ref in kinds:
                doomed |= {key for key in known if _kind_in(key) == kind_token(kinds[ref])}
        await side_by_side(self.bucket.delete, sorted(doomed & known), parallel=_PARALLEL)

    async def _known(self, refs: Sequence[Ref], kinds: Mapping[Ref, str]) -> set[str]:
        """Keys that may be forgotten with `refs`, those that were forgotten lately among them."""
        prefix = prefix_of(self.command.cluster)
        patterns = {self._key(ref) for ref in refs}
        for ref in refs:
            if ref.group_kind == NAMESPACE:
                patterns.add(f"{prefix}.{namespace_token(ref.name)}.>")
            elif ref.group_kind == CRD and ref in kinds:
                patterns.add(f"{prefix}.*.{kind_token(kinds[ref])}.*")
        return await self.bucket.keys_among(patterns, within=f"{prefix}.>")

    async def still_intended(self, planned: Sequence[PlannedObject]) -> list[PlannedObject]:
        """The objects of `planned` that a healing operation may still write, whole: who asks for it
        knows hashes of some values only.

        Objects that were deleted or applied anew since it was asked for stay as they are, and so
        does what the intent does not say.
        """
        wanted = []
        for one in planned:
            kept = await self._kept(self._key(one.ref))
            if kept is None or not heals(self.command.operation, kept):
                continue
            if restores(kept, orjson.loads(one.body)):
                record = self._opened(kept)
                if record is not None:
                    wanted.append(_restored(one, kept, record))
        return wanted

    async def relabel(
        self,
        ref: Ref,
        labels: Mapping[str, str | None],
        write: Callable[[], Awaitable[KubeObject]],
    ) -> KubeObject:
        """Changes labels of an object by `write`, so that the change is no drift.

        The record is taken out meanwhile. It gets the new values of labels that it has; others are
        not added to it.
        """
        record = await self._load(ref)
        if record is None:
            return await write()
        await self.bucket.delete(self._key(ref))
        try:
            answer = await write()
        except (ObjectNotFound, NamespaceMissing):
            raise
        except MeshbusError:
            await self._keep(record)
            raise
        intended = dict(record.object)
        metadata = dict(intended.get("metadata") or {})
        own = dict(metadata.get("labels") or {})
        changed = {name: labels[name] for name in labels.keys() & own.keys()}
        metadata["labels"] = {k: v for k, v in (own | changed).items() if v is not None}
        intended["metadata"] = metadata
        # No operation sent this text, so none is proven by it.
        update = {"object": intended, "digest": "", **_seen(answer)}
        await self._keep(record.model_copy(update=update))
        return answer

    async def kept(self, ref: Ref) -> bytes:
        """The record of an object, as the bucket has it; empty when there is none."""
        entry = await self.bucket.get(self._key(ref))
        return entry.value if entry is not None else b""

    async def give_back(
        self, ref: Ref, former: bytes, write: Callable[[], Awaitable[KubeObject | None]]
    ) -> None:
        """Makes the intent of an object again what it was: `former`, as `kept` gave it. `write`
        puts the object back, without a record meanwhile; None when it was left as it is."""
        self._pending.pop(ref, None)
        if await self.kept(ref):
            await self.bucket.delete(self._key(ref))
        answer = await write()
        try:
            record = self._opened(unpacked(former)) if former else None
        except InvalidMessage:
            return  # written by another version of ours: the next apply writes it again
        if record is not None:
            seen = {**_seen(answer), "digest": ""} if answer is not None else {}
            await self._keep(record.model_copy(update=seen))

    async def _load(self, ref: Ref) -> AppliedObject | None:
        return await self._stored(self._key(ref))

    async def _stored(self, key: str) -> AppliedObject | None:
        kept = await self._kept(key)
        return self._opened(kept) if kept is not None else None

    async def _kept(self, key: str) -> AppliedObject | None:
        """The record as the bucket has it."""
        entry = await self.bucket.get(key)
        if entry is None or not entry.value:
            return None
        try:
            return unpacked(entry.value)
        except InvalidMessage:
            # Written by another version of ours: the next apply writes it again.
            return None

    def _opened(self, kept: AppliedObject) -> AppliedObject | None:
        try:
            return whole(kept, keys=self.keys)
        except InvalidMessage:
            # Sealed to a key that was forgotten: the same.
            return None

    async def _keep(self, record: AppliedObject) -> None:
        key = key_of(
            self.command.cluster, kind=record.kind, namespace=record.namespace, name=record.name
        )
        if is_healing(record.operation):
            before = await self._stored(key)
            if before is not None:
                # Putting an object back does not change who wanted it, and in which form.
                renewed = {name: getattr(record, name) for name in _AT_EACH_WRITE}
                record = before.model_copy(update=renewed)
        kept = concealed(record, keys=self.keys)
        value = packed(kept, body=orjson.dumps(kept.object))
        if len(value) > envelopes.MAX_BODY_BYTES:
            # It would not fit into a message: its drift goes unseen, the operation goes on.
            log.warning("intent_too_large", key=key, bytes=len(value))
            await self.bucket.delete(key)
        else:
            await self.bucket.put(key, value, headers=proof_headers(kept))

    async def _identity(self) -> str:
        """The cluster's identity; "" with credentials that may not read it."""
        if self.identity is None:
            return ""
        try:
            return await self.identity()
        except ClusterError:
            return ""

    def _record(self, planned: PlannedObject, answer: KubeObject, uid: str) -> AppliedObject:
        obj, ref = orjson.loads(planned.body), planned.ref
        labels, annotations = labels_of(obj), annotations_of(obj)
        is_of_mesh = istio.COMPONENT in labels
        mode = annotations.get(DRIFT, "")
        ignored = annotations.get(DRIFT_IGNORE, "")
        return AppliedObject(
            kind=_kind(ref),
            namespace=ref.namespace,
            name=ref.name,
            object=obj,
            digest=planned.digest,
            **_seen(answer),
            defaults=added(_kind(ref), obj, answer),
            identity=uid,
            operation=self.command.operation,
            operation_kind=self.command.kind,
            revision=labels.get(istio.REVISION, "") if is_of_mesh else "",
            version=labels.get(istio.VERSION, "") if is_of_mesh else "",
            username=self.command.username,
            mode=mode if mode in MODES else "",
            ignored=[path.strip() for path in ignored.split(",") if path.strip()],
        )

    def _key(self, ref: Ref) -> str:
        return key_of(self.command.cluster, kind=_kind(ref), namespace=ref.namespace, name=ref.name)


async def forget_cluster(bucket: Bucket, cluster: str) -> None:
    """Forgets all that was applied to a cluster which nobody works on any more."""
    keys = await bucket.keys(matching=f"{prefix_of(cluster)}.>")
    await side_by_side(bucket.delete, keys, parallel=_PARALLEL)


def _is_untouched(planned: PlannedObject, proof: Proof, live: KubeObject) -> bool:
    """True when the cluster has the object as its record saw it."""
    metadata = live["metadata"]
    if metadata.get("uid") != proof.uid:
        return False
    if metadata.get("resourceVersion") == proof.resource_version:
        return True
    generation = int(metadata.get("generation") or 0)
    return (
        generation > 0
        and generation == proof.generation
        and _contains(labels_of(live), planned.labels)
        and _contains(annotations_of(live), planned.annotations)
    )


async def side_by_side(
    work: Callable[[T], Awaitable[R]], items: Iterable[T], *, parallel: int
) -> list[R]:
    """Runs at most `parallel` at once; the first error stops those that have not begun."""
    gate = asyncio.Semaphore(parallel)
    failed: list[MeshbusError] = []
    results: dict[int, R] = {}

    async def one(number: int, item: T) -> None:
        async with gate:
            if failed:
                return
            try:
                results[number] = await work(item)
            except MeshbusError as error:
                failed.append(error)

    async with asyncio.TaskGroup() as group:
        for number, item in enumerate(items):
            group.create_task(one(number, item))
    if failed:
        raise failed[0]
    return [results[number] for number in sorted(results)]


def _restored(one: PlannedObject, kept: AppliedObject, record: AppliedObject) -> PlannedObject:
    """The object that somebody asks to put back, with the values that are hidden from them."""
    asked = orjson.loads(one.body)
    obj = hiding.restored(asked, record.object, concealed=kept.object)
    return one if obj == asked else PlannedObject.of(obj)


def _contains(live: Mapping[str, str], wanted: Iterable[tuple[str, str]]) -> bool:
    return all(live.get(name) == value for name, value in wanted)


def _kind(ref: Ref) -> str:
    return f"{ref.group}/{ref.kind}"


def _seen(answer: KubeObject) -> dict[str, Any]:
    """Fields of a record that come from the API server's answer."""
    metadata = answer.get("metadata") or {}
    entry = own_entry(answer) or {}
    return {
        "uid": str(metadata.get("uid") or ""),
        "resource_version": str(metadata.get("resourceVersion") or ""),
        "generation": int(metadata.get("generation") or 0),
        "fields": entry.get("fieldsV1") or {},
        "time": str(entry.get("time") or ""),
    }


def _namespace_in(key: str) -> str:
    return key.split(".")[2]


def _kind_in(key: str) -> str:
    return key.split(".")[3]
