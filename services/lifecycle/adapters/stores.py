"""The buckets that lifecycle keeps: intents, and the credentials of operations."""

from __future__ import annotations

from dataclasses import dataclass

import structlog

from services.chassis.bus import envelopes, subjects
from services.chassis.bus.credentials import Opener
from services.chassis.bus.records import Bucket
from services.chassis.errors import InvalidMessage
from services.chassis.messages import Command
from services.chassis.messages.applied import AppliedObject, unpacked
from services.lifecycle.manifests.intents import Intent

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class IntentBucket:
    """`intents/<cluster>.<revision>`."""

    bucket: Bucket

    async def load(self, cluster: str, revision: str) -> Intent | None:
        entry = await self.bucket.get(f"{cluster}.{revision}")
        if entry is None or not entry.value:
            return None
        try:
            return Intent.model_validate_json(entry.value)
        except ValueError:
            # Written by another version of ours: without it everything is sent again.
            return None

    async def save(self, cluster: str, intent: Intent) -> None:
        await self.bucket.put(f"{cluster}.{intent.revision}", intent.model_dump_json().encode())

    async def forget(self, cluster: str, revision: str) -> None:
        await self.bucket.delete(f"{cluster}.{revision}")


@dataclass(frozen=True, slots=True)
class AppliedBucket:
    """`intents/<cluster>.applied.…`: one key for each object."""

    bucket: Bucket

    async def load(self, key: str) -> AppliedObject | None:
        entry = await self.bucket.get(key)
        if entry is None or not entry.value:
            return None
        try:
            return unpacked(entry.value)
        except InvalidMessage:
            # Written by another version of ours: the next operation writes it again.
            return None

    async def save(self, key: str, value: bytes) -> None:
        if len(value) > envelopes.MAX_BODY_BYTES:
            # It would not fit into a message; its drift goes unseen, the operation goes on.
            log.warning("intent_too_large", key=key, bytes=len(value))
            await self.bucket.delete(key)
            return
        await self.bucket.put(key, value)

    async def forget(self, key: str) -> None:
        await self.bucket.delete(key)

    async def keys(self, prefix: str) -> set[str]:
        return set(await self.bucket.keys(matching=f"{prefix}.>"))


@dataclass(frozen=True, slots=True)
class CredentialStore:
    """Opens the kubeconfig that a command refers to, and forgets it afterwards."""

    opener: Opener

    async def kubeconfig(self, command: Command) -> str:
        return await self.opener.get(self._key(command))

    async def forget(self, command: Command) -> None:
        """An operation's own credential ends with it; a registered cluster's stays."""
        if command.credential == _own(command):
            await self.opener.bucket.delete(command.credential)

    def _key(self, command: Command) -> str:
        registered = subjects.registered_credential(command.cluster)
        key = command.credential or registered
        if key not in (registered, _own(command)):
            # A command may use its own credential or its cluster's, never another one's.
            raise InvalidMessage("the command names a credential of something else")
        return key


def _own(command: Command) -> str:
    return subjects.operation_credential(command.operation, command.cluster)
