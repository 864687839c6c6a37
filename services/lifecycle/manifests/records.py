"""What an operation applied, kept object by object: the intents that topology measures drift by.

Kept as the API server answered, not as read afterwards: what somebody changes right after our write
would be taken for ours. Forgotten before an object is deleted, so that our own deletion is no
drift. Secrets are not kept.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import orjson
import structlog

from services.chassis.errors import ClusterError, MeshbusError
from services.chassis.kube.managedfields import own_entry
from services.chassis.kube.objects import KubeObject, Ref, annotations_of
from services.chassis.messages import Command
from services.chassis.messages.applied import (
    DRIFT,
    DRIFT_IGNORE,
    MODES,
    AppliedObject,
    heals,
    is_healing,
    key_of,
    kind_token,
    namespace_token,
    packed,
    prefix_of,
)
from services.lifecycle.cluster import istio
from services.lifecycle.manifests.objects import CRD, NAMESPACE, PlannedObject

_PARALLEL = 16
_SECRET = ("", "Secret")

log = structlog.get_logger(__name__)


class AppliedStore(Protocol):
    """Keys and values of the bucket `intents`."""

    async def load(self, key: str) -> AppliedObject | None: ...

    async def save(self, key: str, value: bytes) -> None: ...

    async def forget(self, key: str) -> None: ...

    async def keys(self, prefix: str) -> set[str]:
        """All keys under `prefix`; some of them may be forgotten already."""
        ...


@dataclass(slots=True)
class Ledger:
    """The memory of one operation on one cluster."""

    store: AppliedStore
    command: Command
    identity: Callable[[], Awaitable[str]] | None = None
    """Tells the cluster's own identity, which its address does not."""
    _applied: dict[Ref, tuple[bytes, KubeObject]] = field(default_factory=dict)
    _unchanged: dict[Ref, tuple[bytes, KubeObject]] = field(default_factory=dict)

    def applied(self, planned: PlannedObject, answer: KubeObject) -> None:
        """The API server took an object; `answer` is what it made of it."""
        if planned.ref.group_kind != _SECRET:
            self._applied[planned.ref] = planned.body, answer

    def unchanged(self, planned: PlannedObject, live: KubeObject) -> None:
        """An object was found as planned; `live` may be its metadata alone."""
        if planned.ref.group_kind != _SECRET:
            self._unchanged[planned.ref] = planned.body, live

    async def settle(self) -> None:
        """Keeps what was applied since the last call, and what was found and is not kept yet.

        It may run beside further applies: a record says what was done, not what is to come.
        """
        applied, self._applied = self._applied, {}
        unchanged, self._unchanged = self._unchanged, {}
        try:
            uid = await self._identity() if applied or unchanged else ""
            records = [self._record(ref, *pair, uid) for ref, pair in applied.items()]
            if unchanged:
                known = await self.store.keys(prefix_of(self.command.cluster))
                records += [
                    self._record(ref, *pair, uid)
                    for ref, pair in unchanged.items()
                    if ref not in applied and self._key(ref) not in known
                ]
            await _side_by_side(self._keep, records)
        except BaseException:
            # The next call keeps them; what was applied since is newer.
            self._applied = applied | self._applied
            self._unchanged = unchanged | self._unchanged
            raise

    async def settle_meanwhile(self) -> None:
        """The same beside the work, which must not end because the bus is away for a moment."""
        try:
            await self.settle()
        except* MeshbusError as errors:
            log.warning("intents_kept_later", objects=len(errors.exceptions))

    async def forget(self, refs: Iterable[Ref], *, kinds: Mapping[Ref, str]) -> None:
        """Forgets objects that are about to be deleted, and what goes with them.

        `kinds` has what the definitions among `refs` define, as `group/Kind`.
        """
        refs = list(refs)
        if not refs:
            return
        known = await self.store.keys(prefix_of(self.command.cluster))
        doomed: set[str] = set()
        for ref in refs:
            self._applied.pop(ref, None)
            self._unchanged.pop(ref, None)
            doomed.add(self._key(ref))
            if ref.group_kind == NAMESPACE:
                doomed |= {key for key in known if _namespace_in(key) == namespace_token(ref.name)}
            elif ref.group_kind == CRD and ref in kinds:
                doomed |= {key for key in known if _kind_in(key) == kind_token(kinds[ref])}
        await _side_by_side(self.store.forget, sorted(doomed & known))

    async def still_intended(self, planned: Sequence[PlannedObject]) -> list[PlannedObject]:
        """What of `planned` this operation, which puts objects back, may still write: what was
        deleted or applied anew since it was asked for stays as it is."""
        records = [await self.store.load(self._key(one.ref)) for one in planned]
        return [
            one
            for one, record in zip(planned, records, strict=True)
            if record is not None and heals(self.command.operation, record)
        ]

    async def relabelling(self, ref: Ref) -> AppliedObject | None:
        """What is kept of an object whose labels are about to change at our own hands; forgotten
        until `relabelled`."""
        record = await self.store.load(self._key(ref))
        if record is not None:
            await self.store.forget(self._key(ref))
        return record

    async def restored(self, record: AppliedObject) -> None:
        """Keeps a record again as it was: nothing has become of the change."""
        await self._keep(record)

    async def relabelled(
        self, record: AppliedObject, labels: Mapping[str, str | None], answer: KubeObject
    ) -> None:
        """Keeps it again: labels that it has are now what was set, or none."""
        intended = dict(record.object)
        metadata = dict(intended.get("metadata") or {})
        own = dict(metadata.get("labels") or {})
        for name in labels.keys() & own.keys():
            value = labels[name]
            if value is None:
                del own[name]
            else:
                own[name] = value
        intended["metadata"] = {**metadata, "labels": own}
        await self._keep(record.model_copy(update={"object": intended, **_seen(answer)}))

    async def _keep(self, record: AppliedObject) -> None:
        key = key_of(
            self.command.cluster, kind=record.kind, namespace=record.namespace, name=record.name
        )
        if is_healing(record.operation):
            before = await self.store.load(key)
            if before is not None:
                # Put back is not intended anew: who wanted the object, and how, stays.
                kept = ("uid", "resource_version", "generation", "fields", "time")
                record = before.model_copy(update={name: getattr(record, name) for name in kept})
        await self.store.save(key, packed(record, body=orjson.dumps(record.object)))

    async def _identity(self) -> str:
        """ "" for who may not read it."""
        if self.identity is None:
            return ""
        try:
            return await self.identity()
        except ClusterError:
            return ""

    def _record(self, ref: Ref, body: bytes, answer: KubeObject, uid: str) -> AppliedObject:
        obj = orjson.loads(body)
        labels = (obj.get("metadata") or {}).get("labels") or {}
        is_of_mesh = istio.COMPONENT in labels
        mode = annotations_of(obj).get(DRIFT, "")
        ignored = annotations_of(obj).get(DRIFT_IGNORE, "")
        return AppliedObject(
            kind=_kind(ref),
            namespace=ref.namespace,
            name=ref.name,
            object=obj,
            **_seen(answer),
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


def _kind(ref: Ref) -> str:
    return f"{ref.group}/{ref.kind}"


def _seen(answer: KubeObject) -> dict[str, Any]:
    """What a record takes from an object as the API server has it."""
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


async def _side_by_side(work: Callable[[Any], Awaitable[None]], items: Iterable[Any]) -> None:
    gate = asyncio.Semaphore(_PARALLEL)

    async def one(item: Any) -> None:
        async with gate:
            await work(item)

    async with asyncio.TaskGroup() as group:
        for item in items:
            group.create_task(one(item))
