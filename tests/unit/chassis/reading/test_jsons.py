"""JSON, counted by its punctuation."""

from __future__ import annotations

import time
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.chassis.errors import TooManyValues
from services.chassis.reading.jsons import read_json, read_strict_json
from services.chassis.reading.limits import Budget
from tests.unit.chassis.reading.values import count_of, values


def shared(nodes: int) -> Budget:
    """Counted exactly, however short the text is."""
    return Budget.fresh(nodes=nodes, is_shared=True)


@given(values(), st.booleans())
def test_no_value_escapes_the_count(value: Any, is_text: bool) -> None:
    body, nodes = orjson.dumps(value), count_of(value)
    text: bytes | str = body.decode() if is_text else body
    assert read_json(text, budget=shared(2 * nodes)) == value
    if nodes > 1:
        with pytest.raises(TooManyValues):
            read_json(text, budget=shared(nodes - 1))


def test_punctuation_in_strings_is_no_value() -> None:
    text = orjson.dumps({"a": '[{,:"\\' * 100_000, "b": "\\", "c": '\\"'})
    assert len(read_json(text, budget=shared(10))) == 3
    assert len(read_json(text, budget=Budget.fresh(nodes=10))) == 3


def test_texts_that_share_a_budget_are_counted_together() -> None:
    budget = shared(5)
    read_json(b"[1,2]", budget=budget)
    with pytest.raises(TooManyValues):
        read_json(b"[1,2]", budget=budget)


# Made when a test wants one: every worker reads this file.
BOMBS = {
    "lists": lambda: b"[" + b"[]," * 5_000_000 + b"[]]",
    "mappings": lambda: b"[" + b"{}," * 5_000_000 + b"{}]",
    "numbers": lambda: b"[" + b"1," * 8_000_000 + b"1]",
    "texts": lambda: b"[" + b'"",' * 5_000_000 + b'""]',
    "keys": lambda: b"{" + b'"":1,' * 3_000_000 + b'"":1}',
    "deep": lambda: b"[" * 16_000_000,
    "quotes": lambda: b'"' * 16_000_000,
    "escapes": lambda: b'["' + b'\\"' * 7_000_000 + b'",' + b"[]," * 500_000 + b"1]",
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_bomb_costs_what_its_bytes_cost(bomb: str) -> None:
    began = time.process_time()
    for read in (read_json, lambda text: read_strict_json(text.decode())):
        with pytest.raises((TooManyValues, ValueError)):
            read(BOMBS[bomb]())
    assert time.process_time() - began < 1.0


@pytest.mark.parametrize("text", ['{"a": 1, "a": 2}', "NaN", "[-Infinity]", '"\\ud800"', "{", ""])
def test_what_python_would_let_pass_is_refused_where_people_write(text: str) -> None:
    with pytest.raises((ValueError, RecursionError)):
        read_strict_json(text)
