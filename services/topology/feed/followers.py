"""What a browser's event stream is made of: topics, each with what waits for this browser.

A stream has one bell for all of its topics. Whoever writes waits for it, and takes from each topic
what came; so a browser costs one connection and one task, whatever it looks at.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field

_MOST_KEPT = 4_000
_MOST_KEPT_BYTES = 4 << 20
_MOST_WAITING_BYTES = 1 << 20


@dataclass(slots=True, eq=False)
class Listener:
    """One browser's share of a topic whose frames are numbered. `position` is what it has."""

    bell: asyncio.Event
    position: int = 0
    has_missed: bool = False
    """Frames went by that are not kept: the browser has to ask anew."""
    waiting: list[bytes] = field(default_factory=list)
    waiting_bytes: int = 0

    def put(self, position: int, frame: bytes) -> None:
        """Queues a frame; more than a slow browser may have waiting becomes a gap instead."""
        self.position = position
        if self.waiting_bytes + len(frame) > _MOST_WAITING_BYTES:
            self.waiting, self.waiting_bytes, self.has_missed = [], 0, True
        else:
            self.waiting.append(frame)
            self.waiting_bytes += len(frame)
        self.bell.set()


@dataclass(slots=True)
class Numbered:
    """A topic of numbered frames: its last ones, and everybody who listens to it."""

    name: str
    last: int = 0
    _kept: deque[tuple[int, bytes]] = field(default_factory=deque)
    _kept_bytes: int = 0
    _listeners: set[Listener] = field(default_factory=set)

    def tell(self, number: int, frame: bytes) -> None:
        """Passes the next frame on. One that is not newer was told before and is left out."""
        if number <= self.last:
            return
        self.last = number
        self._kept.append((number, frame))
        self._kept_bytes += len(frame)
        while len(self._kept) > _MOST_KEPT or self._kept_bytes > _MOST_KEPT_BYTES:
            self._kept_bytes -= len(self._kept.popleft()[1])
        for listener in self._listeners:
            listener.put(number, frame)

    def begin(self, last: int) -> None:
        """The stream was made anew and ends here: what was kept is of another one."""
        self._kept.clear()
        self._kept_bytes, self.last = 0, last
        for listener in self._listeners:
            listener.has_missed, listener.position = True, last
            listener.bell.set()

    def listen(self, bell: asyncio.Event, *, after: int | None = None) -> Listener:
        """A new listener, with what it lacks since `after`; without one it begins here and now."""
        listener = Listener(bell, self.last)
        self._listeners.add(listener)
        bell.set()
        if after is None or after == self.last:
            return listener
        first = self._kept[0][0] if self._kept else self.last + 1
        # Numbers of a stream have gaps, so the frame before the first one kept is not known.
        if after > self.last or after < first - 1:
            listener.has_missed = True
            return listener
        for number, frame in self._kept:
            if number > after:
                listener.put(number, frame)
        return listener

    def leave(self, listener: Listener) -> None:
        self._listeners.discard(listener)

    def take(self, listener: Listener) -> bytes:
        """What waits for a listener, as one text."""
        frames, listener.waiting, listener.waiting_bytes = listener.waiting, [], 0
        if listener.has_missed:
            listener.has_missed = False
            frames.insert(0, b'event: missed\ndata: {"topic":"%b"}\n\n' % self.name.encode())
        return b"".join(frames)
