"""Student's t for whole degrees of freedom, in closed form.

A comparison asks for a handful of values. SciPy would bring 100 MB into every image for two
functions whose closed form (Abramowitz and Stegun 26.7.3 and 26.7.4) has a dozen lines; the degrees
here are counts of runs, so the form for whole numbers is all that is needed.
"""

from __future__ import annotations

import math
from functools import lru_cache

_MOST_T = 1e6
_STEPS = 80


def tail_of_t(value: float, degrees: int) -> float:
    """The chance that Student's t exceeds `value`."""
    angle = math.atan(abs(value) / math.sqrt(degrees))
    sine, cosine = math.sin(angle), math.cos(angle)
    is_odd = degrees % 2 == 1
    term = cosine if is_odd else 1.0
    total = term if degrees > 1 else 0.0
    for k in range(3 if is_odd else 2, degrees - 1, 2):
        term *= cosine * cosine * (k - 1) / k
        total += term
    inside = 2 / math.pi * (angle + sine * total) if is_odd else sine * total
    tail = max(0.0, (1 - inside) / 2)
    return tail if value >= 0 else 1 - tail


@lru_cache(maxsize=1024)
def quantile_of_t(tail: float, degrees: int) -> float:
    """What Student's t exceeds with the chance `tail`, which is below one half."""
    low, high = 0.0, _MOST_T
    for _ in range(_STEPS):
        middle = (low + high) / 2
        if tail_of_t(middle, degrees) > tail:
            low = middle
        else:
            high = middle
    return high
