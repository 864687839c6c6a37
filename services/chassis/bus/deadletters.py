"""Dead letters: a command that failed for good goes to the stream DLQ and frees its slot.

A worker that finds garbage buries it itself. A command that killed or failed every worker that took
it stays in the work queue and blocks its subject; the server's advisory tells, and the mover copies
the message to DLQ, marks the operation as failed, and deletes the original.

A letter keeps its subject, its headers and the reason in clear, and its body sealed to the service
that it was meant for, as a command's is; one that a person sent in clear is sealed on the way here.
"""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import nats.errors
import nats.js.errors
import structlog

from services.chassis.bus import envelopes, subjects
from services.chassis.bus.publishing import Publisher
from services.chassis.bus.pulling import Delivery
from services.chassis.errors import (
    AttemptsExhausted,
    BusUnavailable,
    InvalidMessage,
    RetryRefused,
)
from services.chassis.messages import Command
from services.chassis.reading.jsons import read_json
from services.chassis.sealing import Keys
from services.chassis.telemetry.redaction import redacted_text

_WITHIN = timedelta(seconds=20)
_MOVER = "lifecycle"
REASON = "Meshbus-Reason"
ORIGIN = "Meshbus-Origin"

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A command that was given up."""

    subject: str
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class DeadLetters:
    """Writes to DLQ, once for each message of the stream."""

    publisher: Publisher

    async def bury(
        self, letter: DeadLetter, *, stream_sequence: int, code: str, reason: str
    ) -> None:
        """Copies a message to DLQ, with a body that its service alone can read."""
        service = subjects.service_of(letter.subject)
        body, sealing = _sealed(letter, keys=self.publisher.bus.keys, service=service)
        headers = {
            key: value
            for key, value in letter.headers.items()
            if not key.startswith("Nats-") and key.isascii()
        }
        headers |= {
            envelopes.MESSAGE_ID: self.publisher.bus.message_id(f"dlq/CMD/{stream_sequence}"),
            ORIGIN: f"{letter.subject} {stream_sequence}",
            REASON: f"{code} {reason}"[:200],
            **sealing,
        }
        await self.publisher.raw(subjects.dead_letter(service), body, headers, within=_WITHIN)
        log.warning("message_buried", subject=letter.subject, code=code)

    async def kept(self, sequence: int, *, service: str) -> DeadLetter:
        """The letter of that place in DLQ, with the subject that it came from; raises
        `RetryRefused` when there is none among those of `service`.

        Where it came from is what its writer says. Another service writes under its own name only,
        and what it says of a command to `service` is nobody's word.
        """
        context = self.publisher.bus.client.jetstream()
        try:
            stored = await context.get_msg("DLQ", sequence)
        except nats.js.errors.APIError:
            raise RetryRefused(f"there is no dead letter {sequence}") from None
        except (nats.errors.Error, TimeoutError) as error:
            raise BusUnavailable("the stream DLQ cannot be read") from error
        if stored.subject != subjects.dead_letter(service):
            raise RetryRefused(f"dead letter {sequence} is none of {service}'s operations")
        headers = _told(stored.headers)
        return DeadLetter(headers.get(ORIGIN, "").partition(" ")[0], headers, stored.data or b"")

    async def put_back(self, letter: DeadLetter, command: Command, *, sequence: int) -> None:
        """Gives the letter its place in CMD again; raises `ClusterBusy` when that is taken."""
        own = (REASON, ORIGIN, envelopes.MESSAGE_ID)
        headers = {name: value for name, value in letter.headers.items() if name not in own}
        # A copy is told from the next retry by its moment; who retries twice is refused before.
        headers[envelopes.MESSAGE_ID] = f"retry/{sequence}/{uuid.uuid4().hex}"
        await self.publisher.queued(letter.subject, letter.body, headers, command, within=_WITHIN)
        log.info("message_put_back", subject=letter.subject, sequence=sequence)

    async def bury_delivery(self, delivery: Delivery, error: InvalidMessage) -> None:
        """Buries a message that a pull worker cannot read."""
        letter = DeadLetter(delivery.message.subject, delivery.headers, delivery.message.data)
        await self.bury(
            letter,
            stream_sequence=delivery.stream_sequence,
            code=error.code,
            reason=error.summary,
        )


@dataclass(frozen=True, slots=True)
class Mover:
    """Handles the advisories in ADV."""

    letters: DeadLetters
    fail: Callable[[DeadLetter, AttemptsExhausted], Awaitable[None]]
    """Fails the letter's operation and tells its clients."""

    async def handle(self, delivery: Delivery) -> None:
        """One advisory; only exhausted deliveries leave something to move."""
        try:
            advisory = read_json(delivery.message.data)
        except ValueError:
            return
        if not str(advisory.get("type", "")).endswith("max_deliver"):
            return
        sequence = int(advisory["stream_seq"])
        context = self.letters.publisher.bus.client.jetstream()
        try:
            stored = await context.get_msg("CMD", sequence)
        except nats.js.errors.NotFoundError:
            return
        letter = DeadLetter(stored.subject or "", _told(stored.headers), stored.data or b"")
        error = AttemptsExhausted(
            f"{advisory.get('deliveries', 'all')} attempts at the command failed"
        )
        await self.letters.bury(
            letter, stream_sequence=sequence, code=error.code, reason=error.summary
        )
        await self.fail(letter, error)
        await context.delete_msg("CMD", sequence)


def _told(headers: Mapping[str, Any] | None) -> dict[str, str]:
    """Headers as they can be sent again. nats-py reads those of such a message as a mail's: values
    may be no text then, or have several lines."""
    return {key: " ".join(str(value).split()) for key, value in (headers or {}).items()}


def _sealed(letter: DeadLetter, *, keys: Keys, service: str) -> tuple[bytes, dict[str, str]]:
    """The body and the header that tells how it is laid out. A service without a key of its own
    has its letters sealed to lifecycle, which moves them."""
    if envelopes.is_sealed(letter.headers):
        return letter.body, {}
    if not keys.public:
        return _masked(letter.body), {}
    recipient = service if service in keys.public else _MOVER
    body, headers = envelopes.sealed(letter.body, letter.headers, keys=keys, recipient=recipient)
    return body, {envelopes.CONTENT_ENCODING: headers[envelopes.CONTENT_ENCODING]}


def _masked(body: bytes) -> bytes:
    """Masks secrets in text bodies; binary ones are our own commands and hold none."""
    try:
        return redacted_text(body.decode()).encode()
    except UnicodeDecodeError:
        return body
