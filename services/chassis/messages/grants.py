"""Grants: the gateway's word for what somebody asked for, which every command of it carries along.

A service may lie about what it was asked to do; it cannot make a grant for it. The signature is
over the very bytes that travel (`SignedGrant.text`): nothing has to be written alike in two places.
"""

from __future__ import annotations

import hashlib

from pydantic import AwareDatetime, Field, ValidationError

from services.chassis.errors import InvalidMessage
from services.chassis.messages.models import Message, Piece

_LONGEST = 64 * 1024


class Grant(Message):
    """What was asked for, by whom, and until when it may be made of it what it asks for."""

    operation: str
    kind: str
    verb: str
    cluster: str
    namespace: str = "default"
    version: str = ""
    digest: str
    """`digest_of` the body, which is too large to stand in every hand-on."""
    credential: str
    """Key of the credential that was sealed for it; "" for a registered cluster's own."""
    identity: str = "local"
    """Who asked, as he proved it."""
    groups: list[str] = Field(default_factory=list)
    namespaces: list[str] = Field(default_factory=lambda: ["*"])
    """Where objects may be written in its name: names and patterns; `*` is everywhere, and what
    lies in no namespace."""
    issued: AwareDatetime
    deadline: AwareDatetime
    """The command's: when it has to be begun."""
    expires: AwareDatetime
    """After that nothing more may be done in its name."""

    @property
    def is_bounded(self) -> bool:
        """Whether it is for some namespaces only."""
        return "*" not in self.namespaces


class SignedGrant(Piece):
    """A grant as it travels. What `text` says is worth nothing until its signature was checked."""

    text: str = Field(max_length=_LONGEST)
    """JSON of the `Grant`."""
    signature: str = Field(max_length=128)
    """Ed25519 over the text and its purpose, in base64 (`chassis/granting.py`)."""

    def claimed(self) -> Grant:
        """What it says; raises `InvalidMessage` when that is no grant."""
        try:
            return Grant.model_validate_json(self.text)
        except ValidationError:
            raise InvalidMessage("the grant is none that is known here") from None


def digest_of(body: str) -> str:
    """SHA-256 of a command's body, in hexadecimal."""
    return hashlib.sha256(body.encode("utf-8", "surrogatepass")).hexdigest()
