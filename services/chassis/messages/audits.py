"""Entries of the audit streams: who asked for what, and whether he got it."""

from __future__ import annotations

from datetime import datetime, timezone
from enum import StrEnum

from pydantic import Field

from services.chassis.messages.models import Message


def _now() -> datetime:
    return datetime.now(timezone.utc)


class Outcome(StrEnum):
    ACCEPTED = "accepted"
    REFUSED = "refused"
    DONE = "done"
    FAILED = "failed"


class AuditEntry(Message):
    """One call or question. It holds no body and no credential, only what names them."""

    service: str
    at: datetime = Field(default_factory=_now)
    identity: str = ""
    """Who asked; "" where nothing proved it."""
    groups: list[str] = Field(default_factory=list)
    by: str = ""
    """What proved it: `token`, `jwt`, `certificate`, `port` (nothing was asked for), `nats` (the
    user there), `gateway` (it has looked at a token, and says so), `grant` (the gateway's
    signature), or `following` (on behalf of whoever sent the source that is translated again)."""
    address: str = ""
    """The remote address, without its port."""
    call: str
    """The RPC's name, `mesh.<service>.<verb>`, or `cmd.<service>` for a command and its end."""
    operation: str = ""
    """Id of the operation."""
    kind: str = ""
    verb: str = ""
    clusters: list[str] = Field(default_factory=list)
    """Tokens of the clusters."""
    namespace: str = ""
    username: str = ""
    """What the client says of its user, unproven."""
    outcome: Outcome
    code: str = ""
    """Of the refusal: `MB-…`."""
    reason: str = ""
    times: int = 1
    """How often the same refusal came since the last entry about it."""
