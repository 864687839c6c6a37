"""What a worker writes into the audit: how each command ended, and which ones it refused."""

from __future__ import annotations

from services.chassis.errors import InvalidMessage, MeshbusError
from services.chassis.messages import AuditEntry, Command, Outcome
from services.chassis.messages.following import followed_operation


def ended(command: Command, error: MeshbusError | None, *, service: str) -> AuditEntry:
    """The end of a command, for whoever the gateway vouches for in its grant."""
    identity, groups = _asker(command)
    by = "grant" if identity else ""
    if identity and followed_operation(command.operation):
        by = "following"
    return _entry(
        command,
        error,
        service=service,
        outcome=Outcome.DONE if error is None else Outcome.FAILED,
    ).model_copy(update={"identity": identity, "groups": groups, "by": by})


def refused(command: Command, error: MeshbusError, *, service: str, sender: str) -> AuditEntry:
    """A command that its sender may not give; what it says of its asker is worth nothing."""
    entry = _entry(command, error, service=service, outcome=Outcome.REFUSED)
    return entry.model_copy(update={"identity": sender, "by": "nats" if sender else ""})


def _entry(
    command: Command, error: MeshbusError | None, *, service: str, outcome: Outcome
) -> AuditEntry:
    return AuditEntry(
        service=service,
        call=f"cmd.{service}",
        operation=command.operation,
        kind=command.kind,
        verb=command.verb,
        clusters=[command.cluster],
        namespace=command.namespace,
        username=command.username,
        outcome=outcome,
        code=error.code if error else "",
        reason=error.summary if error else "",
    )


def _asker(command: Command) -> tuple[str, list[str]]:
    """Of a command by hand nobody knows: the operator's key may send it, and nobody signs."""
    if command.grant is None:
        return "", []
    try:
        granted = command.grant.claimed()
    except InvalidMessage:
        return "", []
    return granted.identity, granted.groups
