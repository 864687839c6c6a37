"""The base of all bus messages."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

SCHEMA_VERSION = 1
VERSION = "0.1.0"
"""Of Meshbus."""


class Piece(BaseModel):
    """Part of a message. Unknown fields are ignored: a newer sender may add some."""

    # Ids and digests never come twice: pydantic would keep 16 384 of them for nothing.
    # No service reads or writes all messages, so what checks one is made when the first comes.
    model_config = ConfigDict(frozen=True, extra="ignore", cache_strings="keys", defer_build=True)


class Message(Piece):
    """A message of its own; one of another schema version is refused."""

    schema_version: Literal[1] = 1
