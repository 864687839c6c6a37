"""Slots: who may work now, when more operations are in hand than may run side by side.

The queue gives commands in the order in which they came, whosever they are. Here the next free slot
goes to whoever holds least, so that a flood of one cluster's operations leaves the others their
turn, and one cluster never holds all slots: its operations may hang as long as they are retried.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass(slots=True, eq=False)
class Turn:
    """An operation that waits for a slot, or holds one."""

    cluster: str
    identity: str
    _has_come: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def has_come(self) -> bool:
        return self._has_come.is_set()

    async def come(self) -> None:
        """Waits for the turn."""
        await self._has_come.wait()


@dataclass(slots=True)
class Slots:
    """The slots of one worker."""

    most: int
    most_of_cluster: int
    """How many of them operations on one cluster may hold."""
    _waiting: list[Turn] = field(default_factory=list)
    """In the order in which they came."""
    _clusters: Counter[str] = field(default_factory=Counter)
    """Slots held, by cluster."""
    _identities: Counter[str] = field(default_factory=Counter)
    """Slots held, by who asked."""

    @property
    def is_full(self) -> bool:
        return self._clusters.total() >= self.most

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @contextmanager
    def asked(self, *, cluster: str, identity: str) -> Iterator[Turn]:
        """Stands in the queue for the block, and has a slot from when the turn comes on."""
        turn = Turn(cluster, identity)
        self._waiting.append(turn)
        self._grant()
        try:
            yield turn
        finally:
            self._leave(turn)

    def _leave(self, turn: Turn) -> None:
        if turn in self._waiting:
            self._waiting.remove(turn)
        else:
            self._clusters[turn.cluster] -= 1
            self._identities[turn.identity] -= 1
            self._clusters, self._identities = +self._clusters, +self._identities
        self._grant()

    def _grant(self) -> None:
        """Gives free slots to those who hold least, the first of them first."""
        while not self.is_full:
            able = [t for t in self._waiting if self._clusters[t.cluster] < self.most_of_cluster]
            if not able:
                return
            turn = min(able, key=self._holding)
            self._waiting.remove(turn)
            self._clusters[turn.cluster] += 1
            self._identities[turn.identity] += 1
            turn._has_come.set()

    def _holding(self, turn: Turn) -> tuple[int, int]:
        return self._identities[turn.identity], self._clusters[turn.cluster]
