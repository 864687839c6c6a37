"""JSON. What a text holds is counted by its punctuation, at the speed of memory, before orjson."""

from __future__ import annotations

import json
from typing import Any

import orjson

from services.chassis.reading.limits import Budget

_SLICE = 128 * 1024


def read_json(text: bytes | str, *, budget: Budget | None = None) -> Any:
    """The value; raises `orjson.JSONDecodeError` (a `ValueError`) or `TooManyValues`."""
    _spend(text, budget or Budget.fresh())
    return orjson.loads(text)


def read_strict_json(text: str, *, budget: Budget | None = None) -> Any:
    """The same for what people write by hand: a key that stands there twice, NaN and half of a
    character are refused as well. Raises `ValueError`, `RecursionError` or `TooManyValues`."""
    _spend(text, budget or Budget.fresh())
    found = json.loads(text, object_pairs_hook=_once, parse_constant=_no_constant)
    json.dumps(found, ensure_ascii=False).encode()
    return found


def _spend(text: bytes | str, budget: Budget) -> None:
    """Every value but the first one follows a bracket, a comma or a colon."""
    # No text has more values than characters.
    if len(text) <= budget.nodes and not budget.is_shared:
        return
    body = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
    # In most texts there are few enough, even with those inside of strings.
    nodes = _punctuation(body)
    if nodes > budget.nodes or budget.is_shared:
        nodes = _punctuation(_without_strings(body, budget))
    budget.spend(nodes)


def _punctuation(body: bytes) -> int:
    """Counted in slices: nobody else runs while one is being counted."""
    return 1 + sum(
        body.count(mark, start, start + _SLICE)
        for start in range(0, len(body), _SLICE)
        for mark in (b"[", b"{", b",", b":")
    )


def _without_strings(body: bytes, budget: Budget) -> bytes:
    """What stands outside of quotes."""
    if b"\\" in body:
        # In this order: a backslash that is escaped itself escapes nothing.
        body = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    strings = body.count(b'"') // 2
    if strings > budget.nodes:
        raise budget.exceeded()
    return b"".join(body.split(b'"')[::2])


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands there twice")
    return found


def _no_constant(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")
