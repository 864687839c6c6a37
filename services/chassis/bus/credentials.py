"""Sealed kubeconfigs: they travel past the bus's messages and never touch a disk in clear.

The gateway seals each to the key of the service that uses it (`chassis/sealing.py`) and stores the
result with a time to live; commands carry only the key of the record. Whoever reads the bucket, its
files or a backup of them sees ciphertext.

A registered cluster has two: lifecycle's, which may write, and topology's, which only watches and
may be another account that cannot write (`watch.<cluster>`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import structlog

from services.chassis.bus.connection import Bus
from services.chassis.bus.publishing import has_no_room
from services.chassis.bus.queries import ask
from services.chassis.bus.records import Bucket, Entry, RevisionConflict
from services.chassis.bus.subjects import (
    operation_credential,
    registered_credential,
    watching_credential,
)
from services.chassis.errors import (
    BusUnavailable,
    CredentialMissing,
    MeshbusError,
    QueueFull,
    SealingKeyMissing,
)
from services.chassis.messages import Command

_WRITER = "lifecycle"
_WATCHER = "topology"
_FORGOTTEN_WITHIN = timedelta(seconds=2)
# Of several servers one may have come back just now and be behind, and any of them answers.
_BEHIND_FOR_S = 4.0
_LOOK_AGAIN_S = 0.2
_OF_OPERATIONS = "operation."

log = structlog.get_logger(__name__)


def forgetting(credentials: Bucket) -> Callable[[Command], Awaitable[None]]:
    """Deletes the credential that came with an ended operation. A registered cluster's stays."""

    async def forget(command: Command) -> None:
        if command.credential == operation_credential(command.operation, command.cluster):
            await credentials.delete(command.credential, expires=True)

    return forget


def asking_to_forget(bus: Bus) -> Callable[[Command], Awaitable[None]]:
    """The same for a service that may not write credentials: asks lifecycle, which looks whether
    the operation has ended. Where none answers, the credential goes at the end of its time."""

    async def forget(command: Command) -> None:
        if command.credential != operation_credential(command.operation, command.cluster):
            return
        question = {"operation": command.operation, "cluster": command.cluster}
        try:
            await ask(bus, question, service="lifecycle", verb="forget", within=_FORGOTTEN_WITHIN)
        except MeshbusError as error:
            log.info("credential_left_to_its_end", reason=error.summary)

    return forget


@contextmanager
def _told_when_full() -> Iterator[None]:
    """Raises `QueueFull` where the bucket has no room, for which a new try does not help soon."""
    try:
        yield
    except BusUnavailable as error:
        if not has_no_room(error.__cause__):
            raise
        raise QueueFull(
            "there is no room for a credential",
            cause="as many kubeconfigs of waiting operations are kept as may be",
        ) from error


@dataclass(frozen=True, slots=True)
class Sealer:
    """The half that stores kubeconfigs and never reads one back."""

    bucket: Bucket

    async def put(self, key: str, kubeconfig: str, *, ttl: timedelta | None) -> None:
        """Seals to lifecycle and stores; without `ttl` the record stays until it is deleted."""
        with _told_when_full():
            await self.bucket.put(key, self._sealed(kubeconfig, recipient=_WRITER), ttl=ttl)

    async def create(self, key: str, kubeconfig: str, *, ttl: timedelta | None) -> bool:
        """Seals to lifecycle and stores under a key that was never used; False when it was."""
        try:
            sealed = self._sealed(kubeconfig, recipient=_WRITER)
            with _told_when_full():
                await self.bucket.create_unseen(key, sealed, ttl=ttl)
        except RevisionConflict:
            return False
        return True

    async def register(self, cluster: str, kubeconfig: str, *, watching: str = "") -> None:
        """Stores a registered cluster's credentials, `watching` (a kubeconfig that may only read)
        for topology; without one it watches by the account that writes."""
        await self.put(registered_credential(cluster), kubeconfig, ttl=None)
        await self.watch_by(cluster, watching or kubeconfig)

    async def watch_by(self, cluster: str, kubeconfig: str) -> None:
        """Stores what topology watches a registered cluster by, in the place of another one."""
        watch = self._sealed(kubeconfig, recipient=_WATCHER)
        await self.bucket.put(watching_credential(cluster), watch)

    @property
    def sealed_to(self) -> str:
        """Changes with the keys to which a registered cluster's credentials are sealed."""
        return self.bucket.bus.keys.fingerprint(_WRITER, _WATCHER)

    async def deregister(self, cluster: str) -> None:
        """Deletes both of a registered cluster's credentials."""
        await self.bucket.delete(registered_credential(cluster))
        await self.bucket.delete(watching_credential(cluster))

    def _sealed(self, kubeconfig: str, *, recipient: str) -> bytes:
        return self.bucket.bus.keys.sealed(kubeconfig.encode(), recipient=recipient)


@dataclass(frozen=True, slots=True)
class Opener:
    """The half of the two services that reach clusters, each with its own private key."""

    bucket: Bucket

    async def get(self, key: str) -> str:
        """The kubeconfig's text; raises `CredentialMissing`."""
        entry = await self._found(key)
        if entry is None:
            raise CredentialMissing(f"there is no credential {key}")
        try:
            return self.bucket.bus.keys.opened(entry.value).decode()
        except SealingKeyMissing:
            raise CredentialMissing(
                f"credential {key} cannot be opened",
                cause="it was sealed to another key than this worker's",
                remedy="give MESHBUS_SEALING_PRIVATE_KEY the former key beside the new one, or "
                "send the operation again",
            ) from None

    async def _found(self, key: str) -> Entry | None:
        """The stored credential. An operation's was stored just before its command: one that is not
        there is looked for again."""
        loop = asyncio.get_running_loop()
        until = loop.time() + (_BEHIND_FOR_S if key.startswith(_OF_OPERATIONS) else 0.0)
        while True:
            entry = await self.bucket.get(key)
            if entry is not None or loop.time() >= until:
                return entry
            await asyncio.sleep(_LOOK_AGAIN_S)
