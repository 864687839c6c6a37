"""Puts a dead letter back: the command takes its place in the queue again, as it was.

Nobody sees what is in it on the way: it stays sealed to the service that opens it, which judges it
as it did the first time. Only what was given up because its workers failed or died is put back, and
only until the operation's deadline, up to which its credential is kept as well.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from services.chassis.bus.deadletters import DeadLetter, DeadLetters
from services.chassis.bus.records import RevisionConflict
from services.chassis.bus.subjects import CommandSubject, operation_key
from services.chassis.errors import (
    AttemptsExhausted,
    InvalidMessage,
    MeshbusError,
    RetryRefused,
    SealingKeyMissing,
)
from services.chassis.messages import Command, OperationRecord, OperationState
from services.chassis.operations.claims import Claims
from services.chassis.operations.commands import read_letter


@dataclass(frozen=True, slots=True)
class Retries:
    """Of the letters of one service."""

    letters: DeadLetters
    claims: Claims
    service: str

    async def retry(self, sequence: int) -> Command:
        """Puts the letter of that place in DLQ back; raises `RetryRefused`, `DeadlineExpired`, or
        `ClusterBusy` when another operation has its slot by now."""
        letter = await self.letters.kept(sequence, service=self.service)
        command = self._command(letter, sequence)
        async with self._reopened(command):
            await self.letters.put_back(letter, command, sequence=sequence)
        return command

    def _command(self, letter: DeadLetter, sequence: int) -> Command:
        subject = CommandSubject.parse(letter.subject)
        if subject is None or subject.service != self.service:
            raise RetryRefused(f"dead letter {sequence} is none of {self.service}'s operations")
        try:
            return read_letter(letter, keys=self.claims.bus.keys)
        except (InvalidMessage, SealingKeyMissing) as error:
            raise RetryRefused(
                f"dead letter {sequence} cannot be read", cause=error.summary
            ) from None

    @asynccontextmanager
    async def _reopened(self, command: Command) -> AsyncIterator[None]:
        """Lets the operation be claimed again; it is failed as before when the block fails.

        The attempts are counted on, so that no event of now is taken for a repeat of one of then.
        """
        failed = await self._replaced(command, None)
        try:
            yield
        except MeshbusError:
            with contextlib.suppress(RetryRefused):
                await self._replaced(command, failed)
            raise

    async def _replaced(self, command: Command, end: OperationRecord | None) -> OperationRecord:
        stored = await self.claims.stored(command.operation, command.cluster)
        if stored is None:
            raise RetryRefused(f"operation {command.operation} is not known any more")
        record, revision = stored
        is_given_up = record.error is not None and record.error.code == AttemptsExhausted.code
        if end is None and not (record.state is OperationState.FAILED and is_given_up):
            raise RetryRefused(
                f"operation {command.operation} is {record.state}",
                cause="it was put back already, or it did not fail because its workers did",
            )
        open_again = {"state": OperationState.RUNNING, "final": None, "error": None, "worker": ""}
        renewed = end or record.model_copy(update=open_again)
        key = operation_key(command.operation, command.cluster)
        try:
            await self.claims.records.update(key, renewed, revision=revision)
        except RevisionConflict:
            raise RetryRefused(
                f"operation {command.operation} changed meanwhile",
                cause="somebody else put it back at the same moment",
            ) from None
        return record
