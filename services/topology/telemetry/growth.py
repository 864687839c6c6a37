"""How fast counters of one proxy grow, from readings that follow each other.

Each reading is compared with the one before it and dropped; what is kept are the differences, for
as long as a window. A counter that is lower than before was set back by a restart: it has counted
what it says since then, and what it had counted between the last reading and the restart is lost.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Name = TypeVar("Name", bound=Hashable)


@dataclass(frozen=True, slots=True)
class _Step(Generic[Name]):
    start_s: float
    end_s: float
    grown: Mapping[Name, float]


@dataclass(slots=True)
class Growth(Generic[Name]):
    """One proxy's."""

    read_s: float
    """When the last reading was."""
    _last: Mapping[Name, float]
    _steps: deque[_Step[Name]] = field(default_factory=deque)

    def add(self, counters: Mapping[Name, float], *, at_s: float) -> None:
        """The next reading. A counter that the last one did not have stood at zero there."""
        if at_s <= self.read_s:
            return
        grown: dict[Name, float] = {}
        for name, value in counters.items():
            before = self._last.get(name, 0.0)
            difference = value - before if value >= before else value
            if difference > 0:
                grown[name] = difference
        self._steps.append(_Step(self.read_s, at_s, grown))
        self._last, self.read_s = counters, at_s

    def rates(self, *, window_s: float) -> dict[Name, float]:
        """Per second, over the steps of the window and at least the last one; empty after the first
        reading."""
        while len(self._steps) > 1 and self.read_s - self._steps[0].start_s > window_s:
            self._steps.popleft()
        if not self._steps:
            return {}
        seconds = self.read_s - self._steps[0].start_s
        rates: dict[Name, float] = {}
        for step in self._steps:
            for name, value in step.grown.items():
                rates[name] = rates.get(name, 0.0) + value / seconds
        return rates
