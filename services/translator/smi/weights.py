"""Weights of backends: from Kubernetes quantities to whole numbers that a router takes."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

LARGEST_WEIGHT = 2**31 - 1
"""Of a VirtualService's destination: an int32."""
LARGEST_SUM = 2**32 - 1
"""Envoy keeps the sum of a route's weights in 32 bits and refuses the route otherwise."""
_BINARY = {f"{letter}i": 2 ** (10 * (power + 1)) for power, letter in enumerate("KMGTPE")}
_DECIMAL = {letter: 10 ** (3 * (power + 1)) for power, letter in enumerate("kMGTPE")}
_SMALL = {"n": Fraction(1, 10**9), "u": Fraction(1, 10**6), "m": Fraction(1, 1000)}
_SUFFIXES: dict[str, Fraction] = {
    "": Fraction(1),
    **_SMALL,
    **{suffix: Fraction(factor) for suffix, factor in {**_DECIMAL, **_BINARY}.items()},
}
# Lengths are bounded, so that a short text cannot ask for a number of a million digits.
_QUANTITY = re.compile(
    r"(?P<number>[+-]?(?:\d{1,18}(?:\.\d{0,18})?|\.\d{1,18}))"
    r"(?:(?P<suffix>[numkMGTPE]|[KMGTPE]i)|[eE](?P<exponent>[+-]?\d{1,2}))?\Z"
)


def parse_quantity(value: Any) -> Fraction | None:
    """A Kubernetes quantity such as `900m`, `1`, `0.5` or `2e3`; None for other values."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    found = _QUANTITY.match(str(value))
    if found is None:
        return None
    number = Fraction(found["number"])
    if found["exponent"]:
        return number * Fraction(10) ** int(found["exponent"])
    return number * _SUFFIXES[found["suffix"] or ""]


def parse_whole(value: Any) -> Fraction | None:
    """A whole number, as every version after v1alpha1 has it; None for other values."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return Fraction(value) if isinstance(value, int) or value.is_integer() else None


def whole(weights: Sequence[Fraction]) -> tuple[int, ...]:
    """The smallest common multiple that makes all of them whole; proportions stay exact."""
    factor = math.lcm(*(weight.denominator for weight in weights)) if weights else 1
    return tuple(int(weight * factor) for weight in weights)


def fitted(weights: Sequence[int], *, largest: int = LARGEST_WEIGHT) -> tuple[int, ...]:
    """The weights as they are, or scaled down until each and their sum fit.

    What divides all of them is taken out first, which changes no proportion. What is still too
    large is rounded to the nearest whole number, but a positive weight stays positive: a backend
    with a tiny share must not lose it.
    """
    limit = min(largest, LARGEST_SUM // max(len(weights), 1))
    if max(weights, default=0) <= largest and sum(weights) <= LARGEST_SUM:
        return tuple(weights)
    divisor = math.gcd(*weights)
    reduced = [weight // divisor for weight in weights]
    most = max(reduced)
    if most <= limit:
        return tuple(reduced)
    return tuple(
        max(1, (weight * limit * 2 + most) // (2 * most)) if weight else 0 for weight in reduced
    )
