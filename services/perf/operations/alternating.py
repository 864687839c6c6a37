"""The order in which a gate makes its runs, and at which of them it compares.

Before and after alternate, and every second pair begins with the run after: before, after; after,
before; before, after. A machine that gets slower all the while slows both sides alike, and the mesh
is switched once for each pair. All runs before and then all runs after takes what happens to the
machine meanwhile for the change.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum


class Side(StrEnum):
    """The mesh without the change, or with it."""

    BEFORE = "before"
    AFTER = "after"


@dataclass(frozen=True, slots=True)
class Turn:
    """One run of a gate."""

    side: Side
    number: int
    """Of the pair, from 1."""
    switches: int
    """How often the mesh must have been switched for it; each switch has its number."""


def turns(first: int, last: int, *, alternates: bool) -> Iterator[Turn]:
    """The runs of the pairs from `first` to `last`, in their order."""
    if not alternates:
        for switches, side in enumerate(Side):
            yield from (Turn(side, number, switches) for number in range(first, last + 1))
        return
    for number in range(first, last + 1):
        is_odd = number % 2 == 1
        order = (Side.BEFORE, Side.AFTER) if is_odd else (Side.AFTER, Side.BEFORE)
        # The first run of a pair finds the mesh as the last one of the pair before left it.
        yield Turn(order[0], number, number - 1)
        yield Turn(order[1], number, number)


def looks(pairs: int, further: int) -> tuple[int, ...]:
    """The numbers of pairs at which the runs are compared."""
    return tuple(range(pairs, pairs + further + 1))
