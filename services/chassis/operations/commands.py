"""Commands as workers read them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from services.chassis.bus import envelopes, subjects
from services.chassis.bus.deadletters import DeadLetter
from services.chassis.bus.pulling import Delivery
from services.chassis.bus.subjects import CommandSubject
from services.chassis.errors import InvalidMessage
from services.chassis.messages import Command, Verb
from services.chassis.sealing import Keys
from services.chassis.telemetry import traces


def read_command(delivery: Delivery, *, keys: Keys = envelopes.NO_KEYS) -> Command:
    """The command of a delivery; raises `InvalidMessage`, and `SealingKeyMissing` for one that was
    sealed to another key: the right one may come with the next start, so it is not thrown away."""
    return read_letter(
        DeadLetter(delivery.message.subject, delivery.headers, delivery.message.data), keys=keys
    )


def read_letter(letter: DeadLetter, *, keys: Keys = envelopes.NO_KEYS) -> Command:
    """The command in a message of CMD; the subject's cluster wins over the body's."""
    subject = CommandSubject.parse(letter.subject)
    if subject is None:
        raise InvalidMessage("the subject is not of the form that workers consume")
    command = envelopes.decode(Command, letter.body, letter.headers, keys=keys)
    is_mesh = subject.operation is None
    if not is_mesh and subject.operation != subjects.token(command.operation):
        raise InvalidMessage("the subject names another operation than the body")
    return command.model_copy(update={"cluster": subject.cluster})


def outlined(letter: DeadLetter) -> Command:
    """As much of a command as its headers tell to a service that it was not sealed to: enough to
    fail its operation. Raises `InvalidMessage`."""
    subject = CommandSubject.parse(letter.subject)
    operation = letter.headers.get(envelopes.OPERATION, "")
    verb, _, kind = letter.headers.get(envelopes.KIND, "").partition(" ")
    if subject is None or subject.operation not in (None, subjects.token(operation)):
        raise InvalidMessage("the subject names another operation than the headers")
    try:
        return Command(operation=operation, kind=kind, verb=Verb(verb), cluster=subject.cluster)
    except ValueError:
        raise InvalidMessage("the headers name no operation") from None


def sender_of(delivery: Delivery) -> str:
    """The service that handed the command on; "" where the gateway or a person asks."""
    subject = CommandSubject.parse(delivery.message.subject)
    return subject.sender if subject is not None else ""


@contextmanager
def processing(delivery: Delivery, command: Command, *, service: str) -> Iterator[None]:
    """The span of a command, in its sender's trace, and its names in every line of the log."""
    attributes: dict[str, str | int] = {
        "messaging.system": "nats",
        "messaging.destination.template": f"cmd.{service}.{{cluster}}",
        "messaging.consumer.group.name": service,
        "messaging.message.conversation_id": command.operation,
        "meshbus.attempt": delivery.attempt,
    }
    name = f"process cmd.{service} {command.kind}"
    with (
        traces.continued(name, headers=delivery.headers, attributes=attributes),
        structlog.contextvars.bound_contextvars(
            operation=command.operation, cluster=command.cluster
        ),
    ):
        yield
