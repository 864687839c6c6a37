"""A delaying work queue: a bounded number of objects side by side, never one of them twice."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from services.topology.cluster.objects import Key

_PARALLEL = 8


@dataclass(slots=True)
class WorkQueue:
    """Objects by when they are due; times are those of the loop."""

    _due: dict[Key, float] = field(default_factory=dict)
    _queue: list[tuple[float, Key]] = field(default_factory=list)
    """Heap of the same; entries that `_due` has otherwise are void."""
    _busy: set[Key] = field(default_factory=set)
    _again: set[Key] = field(default_factory=set)
    """Became due while they were processed."""
    _wake: asyncio.Event = field(default_factory=asyncio.Event)

    def add(self, key: Key, *, after_s: float = 0.0) -> None:
        """Queues an object; one that is due earlier stays so."""
        at = asyncio.get_running_loop().time() + after_s
        if self._due.get(key, float("inf")) > at:
            self._due[key] = at
            heapq.heappush(self._queue, (at, key))
            self._wake.set()

    def drop(self, key: Key) -> None:
        """Takes an object out of the queue."""
        self._due.pop(key, None)

    def is_busy(self, key: Key) -> bool:
        """Whether the object is being processed now."""
        return key in self._busy

    async def run(self, look: Callable[[Key], Awaitable[None]]) -> None:
        """Calls `look` for each object that is due, until it is cancelled."""
        gate = asyncio.Semaphore(_PARALLEL)

        async def one(key: Key) -> None:
            try:
                await look(key)
            finally:
                gate.release()
                self._busy.discard(key)
                if key in self._again:
                    self._again.discard(key)
                    self.add(key)

        async with asyncio.TaskGroup() as group:
            while True:
                await self._pause()
                while (key := self._next()) is not None:
                    self._busy.add(key)
                    await gate.acquire()
                    group.create_task(one(key))

    async def _pause(self) -> None:
        """Until something is due."""
        self._wake.clear()
        left_s = None
        if self._queue:
            left_s = self._queue[0][0] - asyncio.get_running_loop().time()
        if left_s is not None and left_s <= 0:
            return
        try:
            async with asyncio.timeout(left_s):
                await self._wake.wait()
        except TimeoutError:
            return

    def _next(self) -> Key | None:
        now = asyncio.get_running_loop().time()
        while self._queue and self._queue[0][0] <= now:
            at, key = heapq.heappop(self._queue)
            if self._due.get(key) != at:
                continue
            del self._due[key]
            if key not in self._busy:
                return key
            self._again.add(key)
        return None
