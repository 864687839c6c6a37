"""The last deltas of a cluster, for clients that were away for a moment.

As texts, and no more of them than a snapshot is long: then a snapshot is the better answer.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TypeAlias

Position: TypeAlias = tuple[int, int]
"""Epoch and number of the last delta that somebody has."""

_KEPT_BYTES = 4 << 20
_KEPT_DELTAS = 2_000


@dataclass(frozen=True, slots=True)
class Entry:
    """One delta, ready to be sent."""

    position: Position
    time: str
    parts: dict[str, bytes]
    """Part → the JSON of its changed items by id."""

    @property
    def size(self) -> int:
        return sum(map(len, self.parts.values()))


@dataclass(slots=True)
class Ring:
    """The last deltas of one cluster, without a gap."""

    entries: deque[Entry] = field(default_factory=deque)
    size: int = 0

    def append(self, entry: Entry) -> None:
        if not self.entries or not continues(entry.position, self.entries[-1].position):
            self.clear()
        self.entries.append(entry)
        self.size += entry.size
        while self.entries and (self.size > _KEPT_BYTES or len(self.entries) > _KEPT_DELTAS):
            self.size -= self.entries.popleft().size

    def clear(self) -> None:
        self.entries.clear()
        self.size = 0

    def after(self, position: Position) -> list[Entry] | None:
        """The deltas that follow a position; None when some of them are not kept."""
        if not self.entries or position[0] != self.entries[-1].position[0]:
            return None
        if not self.entries[0].position[1] - 1 <= position[1] <= self.entries[-1].position[1]:
            return None
        return [entry for entry in self.entries if entry.position > position]


def continues(later: Position, earlier: Position) -> bool:
    """Whether one is the next after the other."""
    return later == (earlier[0], earlier[1] + 1)


def parsed_position(text: str) -> Position | None:
    """`7.120` as a client says it; None for anything else."""
    epoch, _, number = text.partition(".")
    if not (epoch.isascii() and epoch.isdigit() and number.isascii() and number.isdigit()):
        return None
    return (int(epoch), int(number)) if len(text) <= 40 else None
