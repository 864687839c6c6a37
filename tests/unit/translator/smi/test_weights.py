"""Weights keep their proportions, as exactly as whole numbers can."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.translator.smi.weights import (
    LARGEST_SUM,
    LARGEST_WEIGHT,
    fitted,
    parse_quantity,
    parse_whole,
    whole,
)

QUANTITIES: dict[Any, Fraction | None] = {
    "1": Fraction(1),
    7: Fraction(7),
    0.5: Fraction(1, 2),
    "900m": Fraction(9, 10),
    "5u": Fraction(1, 200_000),
    "3n": Fraction(3, 10**9),
    ".5": Fraction(1, 2),
    "1.": Fraction(1),
    "2k": Fraction(2000),
    "1Mi": Fraction(2**20),
    "2e-1": Fraction(1, 5),
    "1E3": Fraction(1000),
    "2E": Fraction(2 * 10**18),
    "-1": Fraction(-1),
    "1e999": None,
    "1" * 19: None,
    "1x": None,
    "m": None,
    "": None,
    "1 ": None,
    True: None,
    None: None,
}


@pytest.mark.parametrize("value", QUANTITIES, ids=repr)
def test_quantities(value: Any) -> None:
    assert parse_quantity(value) == QUANTITIES[value]


@pytest.mark.parametrize("value", ["1", 0.5, True, None, [], float("inf"), float("nan")], ids=repr)
def test_what_is_no_whole_number(value: Any) -> None:
    assert parse_whole(value) is None


@given(st.lists(st.fractions(min_value=0, max_denominator=10**9), max_size=6))
def test_whole_weights_have_the_same_proportions(weights: list[Fraction]) -> None:
    made = whole(weights)
    for one, given_one in zip(made, weights, strict=True):
        for other, given_other in zip(made, weights, strict=True):
            assert one * given_other == other * given_one


large = st.integers(min_value=0, max_value=2**70)


@given(st.lists(large, min_size=1, max_size=6), st.sampled_from([LARGEST_WEIGHT, 1_000_000]))
def test_weights_fit_and_keep_their_proportions(weights: list[int], largest: int) -> None:
    made = fitted(weights, largest=largest)
    assert max(made) <= largest
    assert sum(made) <= LARGEST_SUM
    assert [bool(one) for one in made] == [bool(one) for one in weights]
    if made != tuple(weights) and max(weights):
        scale = Fraction(max(made), max(weights))
        for one, given_one in zip(made, weights, strict=True):
            # Off by rounding only, or lifted to the smallest weight that there is.
            assert abs(one - given_one * scale) <= Fraction(1, 2) or one == 1


@given(st.lists(st.integers(min_value=0, max_value=LARGEST_WEIGHT), min_size=1, max_size=2))
def test_weights_that_fit_stay(weights: list[int]) -> None:
    assert fitted(weights) == tuple(weights)
