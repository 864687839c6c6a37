"""When a drifted object is put back, and when somebody who fights is left to win.

At once for the first time, then after 1, 2, 4, … seconds. After so many repairs within ten minutes
healing gives up, loudly, until the object is applied anew or a person asks: two controllers that
correct each other load the API server and never end.
"""

from __future__ import annotations

from dataclasses import dataclass, field

WINDOW_S = 600.0
_FIRST_PAUSE_S = 1.0


@dataclass(slots=True)
class Patience:
    """The repairs of one object. Times are of any clock that only goes forward, in seconds."""

    attempts: int
    """Repairs within the window, at most."""
    _repairs: list[float] = field(default_factory=list)
    _has_given_up: bool = False

    def due(self, now: float) -> float | None:
        """When the next repair may be made, now or later; None when healing has given up."""
        self._repairs = [at for at in self._repairs if now - at < WINDOW_S]
        if self._has_given_up or len(self._repairs) >= self.attempts:
            self._has_given_up = True
            return None
        if not self._repairs:
            return now
        pause_s: float = _FIRST_PAUSE_S * 2 ** (len(self._repairs) - 1)
        return max(now, self._repairs[-1] + pause_s)

    def repaired(self, now: float) -> None:
        self._repairs.append(now)

    def again(self) -> None:
        """All is forgiven: the object was applied anew, or a person asked."""
        self._repairs.clear()
        self._has_given_up = False

    @property
    def repairs(self) -> int:
        return len(self._repairs)
