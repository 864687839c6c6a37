"""How often something may be tried: a few times at once, then steadily, for each one who tries."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from cachetools import TTLCache

_MOST_KNOWN = 10_000


@dataclass(slots=True)
class Limit:
    """`most` tries at once, and as many again in each period, by key."""

    most: int
    period_s: float
    clock: Callable[[], float]
    _used: TTLCache[str, tuple[float, float]] = field(init=False)
    """Tries that count still, and when that was so."""

    def __post_init__(self) -> None:
        # Whoever did not try for a period is as free as one who never did.
        self._used = TTLCache(_MOST_KNOWN, self.period_s, self.clock)

    def takes(self, key: str) -> bool:
        """Counts one more try, if there is room for it."""
        if not self.has_room(key):
            return False
        self.count(key)
        return True

    def has_room(self, key: str) -> bool:
        return self._left(key) + 1 <= self.most

    def count(self, key: str) -> None:
        """Counts a try that was let through."""
        self._used[key] = (self._left(key) + 1, self.clock())

    def _left(self, key: str) -> float:
        """Tries that count still."""
        now = self.clock()
        used, since = self._used.get(key, (0.0, now))
        return max(0.0, used - (now - since) * self.most / self.period_s)
