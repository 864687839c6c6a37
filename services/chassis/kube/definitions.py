"""The definitions of Istio's kinds, of each release that lifecycle has: the bucket `definitions`.

Lifecycle alone keeps releases; the translator holds objects against their definitions. So they go
over the bus, by version, and no volume has to be shared. A release's definitions have a megabyte of
text, a tenth of that when deflated, which fits into one message.
"""

from __future__ import annotations

import hashlib

from pydantic import ValidationError

from services.chassis.bus import envelopes
from services.chassis.errors import InvalidMessage
from services.chassis.messages.models import Message
from services.chassis.reading.jsons import read_json

BUCKET = "definitions"


class ReleaseDefinitions(Message):
    """The definitions of one release."""

    version: str
    digest: str
    """sha256 of the text."""
    text: str
    """YAML, as the release has it."""

    @classmethod
    def of(cls, version: str, text: str) -> ReleaseDefinitions:
        return cls(version=version, digest=_digest(text), text=text)


def key_of(version: str) -> str:
    """Key in the bucket; an underscore stands for a dot, and no version has one."""
    return version.replace(".", "_")


def version_of(key: str) -> str:
    return key.replace("_", ".")


def packed(definitions: ReleaseDefinitions) -> bytes:
    return envelopes.compressed(definitions.model_dump_json().encode())[0]


def unpacked(value: bytes) -> ReleaseDefinitions:
    """Raises `InvalidMessage` for any other value, and for a text that is not what it says."""
    deflated = value[:1] != b"{"
    headers = {envelopes.CONTENT_ENCODING: envelopes.DEFLATE} if deflated else {}
    try:
        found = ReleaseDefinitions.model_validate(read_json(envelopes.unpacked(value, headers)))
    except (ValueError, ValidationError):
        raise InvalidMessage("not the definitions of a release") from None
    if found.digest != _digest(found.text):
        raise InvalidMessage(f"the definitions of Istio {found.version[:64]} are damaged")
    return found


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
