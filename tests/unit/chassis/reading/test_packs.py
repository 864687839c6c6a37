"""msgpack, counted by its headers; and deflated bodies."""

from __future__ import annotations

import contextlib
import time
import zlib
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.chassis.errors import TooManyValues
from services.chassis.reading import limits
from services.chassis.reading.inflating import inflated
from services.chassis.reading.limits import Budget
from services.chassis.reading.packs import _counted, read_msgpack
from tests.unit.chassis.reading.values import count_of, values

MANY = 1 << 60


@given(values() | st.lists(st.binary(max_size=3), max_size=3) | st.integers(-(2**63), 2**64 - 1))
def test_every_value_counts_once(value: Any) -> None:
    body = msgpack.packb(value)
    assert _counted(body, most=MANY) == count_of(value)
    assert read_msgpack(body) == value


LARGE = {
    "list of 16 bits": [1] * 300,
    "list of 32 bits": [1] * 70_000,
    "mapping of 16 bits": {f"k{number}": number for number in range(300)},
    "mapping of 32 bits": {f"k{number}": number for number in range(70_000)},
    "texts": ["a" * 40, "a" * 300, "a" * 70_000],
    "bytes": [b"a" * 40, b"a" * 300, b"a" * 70_000],
    "numbers": [200, 70_000, 2**40, 2**63, -5, -100, -200, -70_000, -(2**40), 1.5],
    "others": [msgpack.ExtType(5, b"a" * n) for n in (1, 2, 4, 8, 16, 17, 300, 70_000)],
}


@pytest.mark.parametrize("case", LARGE)
def test_every_form_is_counted(case: str) -> None:
    body = msgpack.packb(LARGE[case])
    assert _counted(body, most=MANY) == count_of(LARGE[case])
    budget = Budget.fresh(nodes=count_of(LARGE[case]))
    assert read_msgpack(body, budget=budget) == LARGE[case]


# Made when a test wants one: every worker reads this file.
BOMBS = {
    "lists": lambda: b"\xdd" + (12_000_000).to_bytes(4, "big") + b"\x90" * 12_000_000,
    "lists of lists": lambda: (b"\xdc\xff\xff" + b"\x90" * 65_535) * 200,
    "deep": lambda: b"\x91" * 12_000_000,
    "mappings": lambda: b"\xdf" + (6_000_000).to_bytes(4, "big") + b"\xa0\x80" * 6_000_000,
    "a promise": lambda: b"\xdd\xff\xff\xff\xff" + b"\x90" * 300_000,
    "nothing": lambda: b"\xdd" + (12_000_000).to_bytes(4, "big") + b"\xc0" * 12_000_000,
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_bomb_costs_what_the_budget_costs(bomb: str) -> None:
    began = time.process_time()
    with pytest.raises((TooManyValues, ValueError)):
        read_msgpack(BOMBS[bomb]())
    assert time.process_time() - began < 1.0


@given(st.binary(max_size=500))
def test_inflating_takes_anything(body: bytes) -> None:
    assert inflated(zlib.compress(body)) == body
    with contextlib.suppress(ValueError):
        assert isinstance(inflated(body), bytes)


def test_inflating_ends_at_the_limit() -> None:
    most = limits.limits().inflated_bytes
    assert len(inflated(zlib.compress(bytes(most)))) == most
    with pytest.raises(ValueError, match="larger"):
        inflated(zlib.compress(bytes(most + 1)))
