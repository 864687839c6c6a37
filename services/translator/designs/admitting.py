"""The door: what a document may hold at all, checked once, so that no later step has to ask.

YAML that came through the chassis is bounded already; JSON of ProcessOAM and Provision is not.
Without this a deep document would end in a RecursionError, and half a surrogate pair in an error of
whoever encodes the plan.
"""

from __future__ import annotations

import math
from typing import Any

import orjson

from services.chassis.errors import DesignMalformed

DEPTH_LIMIT = 100
SIZE_LIMIT_BYTES = 8 * 1024 * 1024
_INTEGERS = range(-(2**63), 2**64)


def admit(document: Any, *, label: str) -> None:
    """Raises `DesignMalformed` for what is too deep or what JSON cannot carry."""
    pending: list[tuple[Any, int]] = [(document, 0)]
    while pending:
        value, depth = pending.pop()
        if depth > DEPTH_LIMIT:
            raise DesignMalformed(f"{label}: it is nested more than {DEPTH_LIMIT} levels deep")
        if isinstance(value, dict):
            if not all(_is_text(key) for key in value):
                raise DesignMalformed(f"{label}: it holds a key that is not text")
            pending += [(part, depth + 1) for part in value.values()]
        elif isinstance(value, list):
            pending += [(part, depth + 1) for part in value]
        elif not _is_scalar(value):
            raise DesignMalformed(f"{label}: it holds a value that cannot be read")


def parse_json(text: str, *, label: str) -> Any:
    """The value in `text`, admitted; raises `DesignMalformed`."""
    if len(text) > SIZE_LIMIT_BYTES:
        raise DesignMalformed(f"{label}: it is larger than {SIZE_LIMIT_BYTES} bytes")
    try:
        document = orjson.loads(text)
    except (orjson.JSONDecodeError, UnicodeError):
        # The parser's own words may repeat a piece of the text.
        raise DesignMalformed(f"{label}: it is not JSON") from None
    admit(document, label=label)
    return document


def _is_scalar(value: Any) -> bool:
    if isinstance(value, str):
        return _is_text(value)
    if isinstance(value, float):
        return math.isfinite(value)
    return (
        value is None or isinstance(value, bool) or (isinstance(value, int) and value in _INTEGERS)
    )


def _is_text(value: Any) -> bool:
    """True for text that UTF-8 can carry."""
    if not isinstance(value, str):
        return False
    if value.isascii():
        return True
    return not any("\ud800" <= sign <= "\udfff" for sign in value)
