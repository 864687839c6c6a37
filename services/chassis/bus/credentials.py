"""Sealed kubeconfigs: they travel past the bus's messages and never touch a disk in clear.

The gateway seals each to the workers' public key (a NaCl sealed box) and stores the result with a
time to live; commands carry only the key of the record. Whoever reads the bucket, its files or a
backup of them sees ciphertext.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta

from nacl.exceptions import CryptoError
from nacl.public import PrivateKey, PublicKey, SealedBox

from services.chassis.bus.records import Bucket, RevisionConflict
from services.chassis.bus.subjects import operation_credential
from services.chassis.errors import CredentialMissing
from services.chassis.messages import Command
from services.chassis.settings import SettingsError


def generate_keys() -> tuple[str, str]:
    """A fresh (public, private) pair, each in base64."""
    private = PrivateKey.generate()
    return (
        base64.b64encode(bytes(private.public_key)).decode(),
        base64.b64encode(bytes(private)).decode(),
    )


def forgetting(credentials: Bucket) -> Callable[[Command], Awaitable[None]]:
    """For a service that opens no credential: deletes the one that came with an ended operation.
    A registered cluster's stays."""

    async def forget(command: Command) -> None:
        if command.credential == operation_credential(command.operation, command.cluster):
            await credentials.delete(command.credential)

    return forget


@dataclass(frozen=True, slots=True)
class Sealer:
    """The gateway's half: it can store kubeconfigs but never read one back."""

    bucket: Bucket
    box: SealedBox[PublicKey]

    @classmethod
    def of(cls, bucket: Bucket, public_key: str | None) -> Sealer:
        return cls(bucket, SealedBox(PublicKey(_key(public_key, "MESHBUS_SEALING_PUBLIC_KEY"))))

    async def put(self, key: str, kubeconfig: str, *, ttl: timedelta | None) -> None:
        """Seals and stores; without `ttl` the record stays until it is deleted."""
        await self.bucket.put(key, self.box.encrypt(kubeconfig.encode()), ttl=ttl)

    async def create(self, key: str, kubeconfig: str, *, ttl: timedelta | None) -> bool:
        """Seals and stores under a key that was never used; False when it was."""
        sealed = self.box.encrypt(kubeconfig.encode())
        try:
            await self.bucket.create_unseen(key, sealed, ttl=ttl)
        except RevisionConflict:
            return False
        return True


@dataclass(frozen=True, slots=True)
class Opener:
    """The workers' half."""

    bucket: Bucket
    box: SealedBox[PrivateKey]

    @classmethod
    def of(cls, bucket: Bucket, private_key: str | None) -> Opener:
        return cls(bucket, SealedBox(PrivateKey(_key(private_key, "MESHBUS_SEALING_PRIVATE_KEY"))))

    async def get(self, key: str) -> str:
        """The kubeconfig's text; raises `CredentialMissing`."""
        entry = await self.bucket.get(key)
        if entry is None:
            raise CredentialMissing(f"there is no credential {key}")
        try:
            return self.box.decrypt(entry.value).decode()
        except CryptoError:
            raise CredentialMissing(
                f"credential {key} cannot be opened",
                cause="it was sealed to another key than this worker's",
                remedy="give the gateway and the workers the two halves of one key pair",
            ) from None


def _key(text: str | None, variable: str) -> bytes:
    try:
        key = base64.b64decode(text or "", validate=True)
    except binascii.Error:
        key = b""
    if len(key) != PrivateKey.SIZE:
        raise SettingsError(
            f"{variable} is missing or not a key; "
            "`python -m services.chassis.bus keys` makes a pair"
        )
    return key
