"""Roots that Meshbus has made, each sealed to lifecycle in one record of the bucket `roots`.

A root belongs to who asked for the mesh: another identity that names the same mesh gets another
root, and no intermediate that the first one's workloads would trust.
"""

from __future__ import annotations

import base64
import contextlib
from dataclasses import dataclass
from datetime import datetime, timezone

from pydantic import Field

from services.chassis.bus.records import Bucket, Records, RevisionConflict
from services.chassis.bus.subjects import hash_token
from services.chassis.errors import RootsDiffer, SealingKeyMissing
from services.chassis.messages.models import Message
from services.lifecycle.multicluster.trust import Root, make_root

BUCKET = "roots"
_RECIPIENT = "lifecycle"


class RootRecord(Message):
    """A root that was made: the value of `roots/<hash of identity and mesh>`."""

    mesh: str
    identity: str
    certificate: str
    """PEM."""
    key: str = Field(repr=False)
    """Base64 of its private key, sealed to lifecycle."""
    made: datetime = Field(default_factory=lambda: datetime.now(timezone.utc))


@dataclass(frozen=True, slots=True)
class Roots:
    """The bucket `roots`."""

    bucket: Bucket

    async def known(self, mesh: str, *, identity: str) -> RootRecord | None:
        stored = await self._records.get(_key(mesh, identity))
        return stored[0] if stored is not None else None

    async def root(self, mesh: str, *, identity: str) -> Root:
        """The mesh's root; the first who asks makes it. Raises `RootsDiffer` where the key was
        sealed to one that is gone, and `SealingKeyMissing` where nothing can be sealed."""
        record = await self.known(mesh, identity=identity)
        if record is None:
            record = await self._make(mesh, identity)
        try:
            key = self.bucket.bus.keys.opened(base64.b64decode(record.key))
        except SealingKeyMissing:
            raise RootsDiffer(
                f"the key of the root of mesh {mesh} cannot be opened",
                cause="it was sealed to a key of lifecycle's that is gone",
                remedy="give lifecycle that key again (MESHBUS_SEALING_PRIVATE_KEY takes several)",
            ) from None
        return Root(record.certificate, key.decode("ascii"))

    async def _make(self, mesh: str, identity: str) -> RootRecord:
        root = make_root(mesh)
        sealed = self.bucket.bus.keys.sealed(root.key_pem.encode(), recipient=_RECIPIENT)
        record = RootRecord(
            mesh=mesh,
            identity=identity,
            certificate=root.certificate_pem,
            key=base64.b64encode(sealed).decode(),
        )
        with contextlib.suppress(RevisionConflict):
            await self._records.create(_key(mesh, identity), record)
            return record
        return await self.known(mesh, identity=identity) or record

    @property
    def _records(self) -> Records[RootRecord]:
        return Records(self.bucket, RootRecord)


def _key(mesh: str, identity: str) -> str:
    return hash_token(f"{identity}\0{mesh}".encode(), length=32)
