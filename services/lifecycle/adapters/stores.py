"""The credentials of operations and clusters, as commands refer to them."""

from __future__ import annotations

from dataclasses import dataclass

import structlog

from services.chassis.bus import subjects
from services.chassis.bus.credentials import Opener
from services.chassis.errors import InvalidMessage
from services.chassis.messages import Command

log = structlog.get_logger(__name__)


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
