"""Keeps rollouts in their bucket; every change of a record is a compare-and-swap."""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

import orjson

from services.chassis.bus import envelopes, subjects
from services.chassis.bus.records import Bucket, Records, RevisionConflict
from services.chassis.errors import (
    InvalidMessage,
    LeaseLost,
    RequestTooLarge,
    RolloutBusy,
    SealingKeyMissing,
)
from services.chassis.kube.objects import KubeObject
from services.chassis.messages import OperationRecord
from services.chassis.reading.jsons import read_json
from services.lifecycle.rollouts.records import (
    ClaimRecord,
    PartRecord,
    RolloutRecord,
    WishRecord,
    claim_key,
    part_key,
    rollout_key,
    wish_key,
)

_RECIPIENT = "lifecycle"


@dataclass(frozen=True, slots=True)
class Store:
    """The bucket `rollouts`; `operations` is the bucket `ops`."""

    bucket: Bucket
    operations: Records[OperationRecord]

    async def keys(self) -> list[str]:
        """Keys of all rollouts, ended ones as well."""
        return await self.bucket.keys(matching="rollout.*")

    async def at(self, key: str) -> tuple[RolloutRecord, int] | None:
        """A rollout by its key, and its revision."""
        return await Records(self.bucket, RolloutRecord).get(key)

    async def rollout(self, rollout: str) -> RolloutRecord | None:
        stored = await self.at(rollout_key(rollout))
        return stored[0] if stored else None

    async def create(self, record: RolloutRecord) -> RolloutRecord:
        """The rollout's record, made by whichever of its clusters comes first."""
        key = rollout_key(record.rollout)
        with contextlib.suppress(RevisionConflict):
            await Records(self.bucket, RolloutRecord).create(key, record)
            return record
        return await self.rollout(record.rollout) or record

    async def decide(self, record: RolloutRecord, *, revision: int) -> int:
        """Stores a decision; raises `LeaseLost` when somebody else has decided meanwhile."""
        key = rollout_key(record.rollout)
        try:
            return await Records(self.bucket, RolloutRecord).update(key, record, revision=revision)
        except RevisionConflict:
            raise LeaseLost("another worker conducts the rollout") from None

    async def part(self, rollout: str, cluster: str) -> tuple[PartRecord, int] | None:
        return await Records(self.bucket, PartRecord).get(part_key(rollout, cluster))

    async def enrol(self, part: PartRecord) -> None:
        """Keeps a cluster's command until it is its turn."""
        with contextlib.suppress(RevisionConflict):
            await Records(self.bucket, PartRecord).create(
                part_key(part.rollout, part.cluster), part
            )

    async def answer(self, part: PartRecord, *, revision: int) -> int:
        """Stores what a step has found or done; raises `LeaseLost` when another worker did, and
        `RequestTooLarge` for what does not fit into a message."""
        key = part_key(part.rollout, part.cluster)
        size = len(part.model_dump_json())
        if size > envelopes.MAX_BODY_BYTES:
            raise RequestTooLarge(
                f"what {part.name or part.cluster} needs to go back takes {size} bytes, the limit "
                f"is {envelopes.MAX_BODY_BYTES}",
                cause="objects are kept as they are before they are changed",
                remedy="roll out fewer objects at once",
            )
        try:
            return await Records(self.bucket, PartRecord).update(key, part, revision=revision)
        except RevisionConflict:
            raise LeaseLost("another worker has the step") from None

    async def leave(self, rollout: str, cluster: str) -> None:
        """Gives back a cluster on which the operation has ended, and deletes its command and what
        else was kept for its steps."""
        stored = await self.part(rollout, cluster)
        await self.release(cluster, rollout=rollout)
        if stored is not None:
            if stored[0].uid:
                await self.release(stored[0].uid, rollout=rollout)
            await self.bucket.delete(part_key(rollout, cluster))

    # --- wishes ---------------------------------------------------------------------------------

    async def wish(self, rollout: str) -> WishRecord:
        stored = await Records(self.bucket, WishRecord).get(wish_key(rollout))
        return stored[0] if stored else WishRecord()

    async def want(
        self,
        rollout: str,
        *,
        is_paused: bool | None = None,
        aborts: bool = False,
        back: Sequence[str] = (),
    ) -> WishRecord:
        """Adds to what people want; an abort and a way back are wanted for good."""
        records = Records(self.bucket, WishRecord)
        key = wish_key(rollout)
        while True:
            stored = await records.get(key)
            former = stored[0] if stored else WishRecord()
            wish = former.model_copy(
                update={
                    "is_paused": former.is_paused if is_paused is None else is_paused,
                    "aborts": former.aborts or aborts,
                    "back": sorted({*former.back, *back}),
                }
            )
            with contextlib.suppress(RevisionConflict):
                if stored is None:
                    await records.create(key, wish)
                else:
                    await records.update(key, wish, revision=stored[1])
                return wish

    # --- clusters that a rollout has ------------------------------------------------------------

    async def claim(self, what: str, *, rollout: str, cluster: str) -> None:
        """Takes a cluster, by its token or its UID, for one rollout; raises `RolloutBusy` with the
        one that has it, or when the same rollout has it under another address."""
        records = Records(self.bucket, ClaimRecord)
        key, claim = claim_key(what), ClaimRecord(rollout=rollout, cluster=cluster)
        while True:
            stored = await records.get(key)
            with contextlib.suppress(RevisionConflict):
                if stored is None:
                    await records.create(key, claim)
                    return
                if stored[0] == claim:
                    return
                if await self._is_held(stored[0]):
                    raise RolloutBusy(_held(stored[0], rollout), subject=stored[0].rollout)
                await records.update(key, claim, revision=stored[1])
                return

    async def release(self, what: str, *, rollout: str) -> None:
        """Gives a cluster back, unless another rollout has it."""
        stored = await Records(self.bucket, ClaimRecord).get(claim_key(what))
        if stored is not None and stored[0].rollout == rollout:
            with contextlib.suppress(RevisionConflict):
                await self.bucket.delete(claim_key(what), revision=stored[1])

    async def _is_held(self, claim: ClaimRecord) -> bool:
        """Whether the other rollout goes on there; its operation tells, should it have died."""
        key = subjects.operation_key(claim.rollout, claim.cluster)
        stored = await self.operations.get(key)
        return stored is not None and not stored[0].state.is_terminal

    # --- what is sealed -------------------------------------------------------------------------

    def sealed(self, objects: Sequence[KubeObject]) -> str:
        """Objects as they lie in a part's record: they may hold anything."""
        keys, content = self.bucket.bus.keys, orjson.dumps(list(objects))
        whole = keys.sealed(content, recipient=_RECIPIENT) if keys.public else content
        return base64.b64encode(whole).decode()

    def opened(self, text: str) -> list[KubeObject]:
        """Raises `InvalidMessage` for what was sealed to a key that is gone."""
        keys, content = self.bucket.bus.keys, base64.b64decode(text)
        try:
            whole = keys.opened(content) if keys.public else content
        except SealingKeyMissing:
            raise InvalidMessage("the former objects of the cluster cannot be opened") from None
        objects: list[KubeObject] = read_json(whole)
        return objects


def _held(claim: ClaimRecord, rollout: str) -> str:
    if claim.rollout == rollout:
        return f"rollout {rollout} has this cluster under another address already"
    return f"rollout {claim.rollout} has the cluster"
