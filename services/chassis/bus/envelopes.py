"""How messages are laid on the wire: headers, body, encoding.

Commands travel as msgpack, events as JSON; every consumer decodes by `Content-Type`, and a body
without one that begins with `{` is taken for JSON, so that a person can use `nats pub`. A command's
body is sealed last, so it is opened first (`Content-Encoding: deflate, sealed`); a person's plain
one is taken as well.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping
from typing import TypeVar

import msgpack
from pydantic import ValidationError

from services.chassis.errors import InvalidMessage, RequestTooLarge, TooManyValues
from services.chassis.messages.models import SCHEMA_VERSION, VERSION, Message
from services.chassis.reading.inflating import inflated
from services.chassis.reading.jsons import read_json
from services.chassis.reading.packs import read_msgpack
from services.chassis.sealing import Keys

CONTENT_TYPE = "Content-Type"
CONTENT_ENCODING = "Content-Encoding"
DEFLATE = "deflate"
SEALED = "sealed"
MESSAGE_ID = "Nats-Msg-Id"
SCHEMA = "Meshbus-Schema"
SENDER_VERSION = "Meshbus-Version"
OPERATION = "Meshbus-Operation"
KIND = "Meshbus-Kind"

JSON = "application/json"
MSGPACK = "application/msgpack"

_COMPRESS_FROM_BYTES = 64 * 1024
MAX_BODY_BYTES = 1000 * 1000
_FIELDS_TOLD = 10

NO_KEYS = Keys()
_VERSION = re.compile(r"(\d{1,6})\.(\d{1,6})\.(\d{1,6})")

M = TypeVar("M", bound=Message)


def encode(message: Message, *, content_type: str) -> tuple[bytes, dict[str, str]]:
    """Body and headers; a large body is compressed, one that stays too large is refused."""
    headers = {
        CONTENT_TYPE: content_type,
        SCHEMA: str(SCHEMA_VERSION),
        SENDER_VERSION: VERSION,
    }
    body, encoding = compressed(_packed(message, content_type))
    if len(body) > MAX_BODY_BYTES:
        raise RequestTooLarge(
            f"the request takes {len(body)} bytes on the bus, the limit is {MAX_BODY_BYTES}"
        )
    return body, headers | encoding


def is_from_a_later_version(headers: Mapping[str, str]) -> bool:
    """Whether its sender may know something that this process does not."""
    told = _VERSION.match(headers.get(SENDER_VERSION, ""))
    own = _VERSION.match(VERSION)
    return (
        told is not None
        and own is not None
        and [int(part) for part in told.groups()] > [int(part) for part in own.groups()]
    )


def compressed(body: bytes) -> tuple[bytes, dict[str, str]]:
    """The body, compressed where that pays, and the header that says so."""
    if len(body) <= _COMPRESS_FROM_BYTES:
        return body, {}
    return zlib.compress(body, level=3), {CONTENT_ENCODING: DEFLATE}


def sealed(
    body: bytes, headers: Mapping[str, str], *, keys: Keys, recipient: str
) -> tuple[bytes, dict[str, str]]:
    """Body and headers that `recipient` alone can read; unchanged for a sender without any keys.

    Raises `SealingKeyMissing` when there are keys, but none of the recipient: nothing is sent in
    clear because a name is missing in a list.
    """
    if not keys.public:
        return body, dict(headers)
    inner = headers.get(CONTENT_ENCODING)
    encoding = f"{inner}, {SEALED}" if inner else SEALED
    return keys.sealed(body, recipient=recipient), {**headers, CONTENT_ENCODING: encoding}


def is_sealed(headers: Mapping[str, str]) -> bool:
    return headers.get(CONTENT_ENCODING, "").rpartition(",")[2].strip() == SEALED


def opened(
    body: bytes, headers: Mapping[str, str], *, keys: Keys
) -> tuple[bytes, Mapping[str, str]]:
    """Body and headers as they were before they were sealed; raises `SealingKeyMissing`."""
    if not is_sealed(headers):
        return body, headers
    inner = headers[CONTENT_ENCODING].rpartition(",")[0].strip()
    others = {name: value for name, value in headers.items() if name != CONTENT_ENCODING}
    return keys.opened(body), others | ({CONTENT_ENCODING: inner} if inner else {})


def _packed(message: Message, content_type: str) -> bytes:
    if content_type == JSON:
        return message.model_dump_json(exclude_defaults=False).encode()
    packed: bytes = msgpack.packb(message.model_dump(mode="json"))
    return packed


def decode(
    model: type[M], body: bytes, headers: Mapping[str, str] | None, *, keys: Keys = NO_KEYS
) -> M:
    """The message of type `model`; raises `InvalidMessage` for anything else, and
    `SealingKeyMissing` for one that was sealed to another."""
    body, headers = opened(body, headers or {}, keys=keys)
    version = headers.get(SCHEMA, str(SCHEMA_VERSION))
    if version != str(SCHEMA_VERSION):
        raise InvalidMessage(f"schema version {version[:16]!r} is not known here")
    try:
        return model.model_validate(_unpacked(body, headers))
    except ValidationError as error:
        fields = ", ".join(
            ".".join(str(part)[:64] for part in problem["loc"]) or "the message"
            for problem in error.errors(include_input=False, include_url=False)[:_FIELDS_TOLD]
        )
        raise InvalidMessage(f"not a {model.__name__}: check {fields}") from None


def unpacked(body: bytes, headers: Mapping[str, str]) -> bytes:
    """The body without its compression; raises `InvalidMessage`."""
    if headers.get(CONTENT_ENCODING) != DEFLATE:
        return body
    try:
        return inflated(body)
    except ValueError as error:
        raise InvalidMessage(str(error)) from None


def _unpacked(body: bytes, headers: Mapping[str, str]) -> object:
    body = unpacked(body, headers)
    declared = headers.get(CONTENT_TYPE)
    content_type = declared or (JSON if body[:1] == b"{" else MSGPACK)
    try:
        if content_type == JSON:
            return read_json(body)
        if content_type == MSGPACK:
            return read_msgpack(body)
    except ValueError:
        raise InvalidMessage(f"the body is not {content_type}") from None
    except TooManyValues as error:
        raise InvalidMessage(
            f"the body is not {content_type} of a size that is read: {error.summary}",
            cause=error.cause,
            remedy=error.remedy,
        ) from None
    raise InvalidMessage(f"content type {content_type[:64]!r} is not known here")
