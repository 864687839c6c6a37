"""The base of all bus messages."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

SCHEMA_VERSION = 1


class Message(BaseModel):
    """Unknown fields are ignored (a newer sender may add some); another version is refused."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    schema_version: Literal[1] = 1
