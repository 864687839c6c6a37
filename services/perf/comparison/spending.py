"""How a level is spent over several looks at growing numbers of runs.

Who looks again while a test is not significant, and stops when it is, finds something sooner or
later. So a comparison that may be extended divides its level beforehand (Lan and DeMets 1983): the
first look, at which most comparisons end, spends four fifths; the rest goes evenly to the others.
What each look may find follows from how alike the looks are: those at three and at four pairs share
three. Dividing the level as if they shared nothing would cost half of what further runs are worth.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

_FIRST = 0.8
_REACH = 10.0
"""Standard deviations around 0 that are calculated with."""
_STEP = 0.005


@lru_cache(maxsize=256)
def levels(level: float, looks: tuple[int, ...]) -> tuple[float, ...]:
    """The chance that each look may give to a finding, so that all together find something that is
    not there with the chance `level`. `looks` are the ascending numbers of runs."""
    if len(looks) < 2:
        return (level,) * len(looks)
    shares = [_FIRST, *[(1 - _FIRST) / (len(looks) - 1)] * (len(looks) - 1)]
    return tuple(_levels(looks, [share * level for share in shares]))


def _levels(looks: Sequence[int], parts: Sequence[float]) -> list[float]:
    """By recursion over the sums of runs that have not crossed their bounds until then."""
    half = round(_REACH / _STEP)
    scale = float(np.sqrt(looks[-1]))
    grid: Floats = np.arange(-half, half + 1, dtype=np.float64) * (_STEP * scale)
    step = _STEP * scale
    density = _normal(grid, looks[0])
    found = []
    for index, (runs, part) in enumerate(zip(looks, parts, strict=True)):
        if index:
            more = runs - looks[index - 1]
            near = np.abs(grid) <= _REACH * np.sqrt(more)
            density = np.convolve(density, _normal(grid[near], more), mode="same") * step
        beyond = np.cumsum(density[::-1])[::-1] * step
        bound = float(np.interp(-part, -beyond, grid))
        found.append(1 - NormalDist().cdf(bound / float(np.sqrt(runs))))
        density = np.where(grid < bound, density, 0.0)
    return found


def _normal(values: Floats, variance: float) -> Floats:
    density: Floats = np.exp(-(values**2) / (2 * variance)) / np.sqrt(2 * np.pi * variance)
    return density
