"""How far a share of random choices may be off before it is a defect."""

from __future__ import annotations

import math

_FALSE_ALARM = 1e-6


def expected_range(count: int, share: float) -> range:
    """Counts that `count` choices with probability `share` give, false alarms less than 1e-6.

    The tails of the binomial distribution are summed exactly; each may hold half of that.
    """
    chances = [
        math.comb(count, hits) * share**hits * (1 - share) ** (count - hits)
        for hits in range(count + 1)
    ]
    lowest = _cut(chances)
    highest = count - _cut(chances[::-1])
    return range(lowest, highest + 1)


def _cut(chances: list[float]) -> int:
    """How many counts from the start are together too unlikely to be seen."""
    total = 0.0
    for index, chance in enumerate(chances):
        total += chance
        if total >= _FALSE_ALARM / 2:
            return index
    return len(chances)
